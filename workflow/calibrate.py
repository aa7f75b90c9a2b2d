"""Measure what passes through the config's networks take on this device."""

import json
from pathlib import Path

from lossatlas.entry import job

with job(snakemake, quiet=False) as s:  # noqa: F821
    from lossatlas import calibrate
    from lossatlas.files import atomic
    from lossatlas.spec.config import load
    from lossatlas.spec.plan import make_plan

    plan = make_plan(load(s.config))
    found = calibrate.calibrate(json.loads(s.params.cases), plan, s.threads, warm=s.params.warm)
    with atomic(s.output[0]) as temporary:
        Path(temporary).write_text(found.text(), encoding="utf-8")
    print(f"{len(found.rows)} passes measured on {found.device}: snakemake plan now knows them")
