"""Check the machine: device, disk, data, scheduler, versions."""

import sys

from lossatlas.entry import job

with job(snakemake, quiet=False) as s:  # noqa: F821
    from lossatlas import doctor
    from lossatlas.spec.config import load
    from lossatlas.spec.plan import make_plan

    plan = make_plan(load(s.config))
    checks = doctor.examine(
        plan,
        s.params.executor,
        s.params.status_command,
        s.params.mirror_dir,
        places=s.params.places,
        runs_per_gpu=int(s.resources.get("runs_per_gpu", 0)),
    )
    if doctor.report(checks):
        sys.exit(1)
