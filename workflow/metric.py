"""Measure one metric on the replicas of one cell."""

import json
from functools import partial

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import measuring, store

    if s.params.kind not in measuring.WITHOUT_TORCH:
        from lossatlas import device

        device.set_threads(s.threads)
    inputs = measuring.Inputs(
        s.input.get("weights", []),
        s.input.histories,
        s.input.get("dataset", ""),
        s.input.get("performance", ""),
    )
    measuring.measure_cell(
        s.params.kind,
        json.loads(s.params.settings),
        json.loads(s.params.spec),
        s.params.seeds,
        inputs,
        s.params.code,
        write=partial(store.write, s.output[0]),
    )
