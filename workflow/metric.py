"""Measure one metric on the replicas of one cell."""

import json
from functools import partial

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import measuring, paths, store
    from lossatlas.metrics import registry

    metric = registry.find(s.params.kind)
    name = s.wildcards.metric.partition(".")[0]  # of "hessian.6", which is it of six replicas
    if metric.needs_torch():
        from lossatlas import device

        device.set_threads(s.threads)
    given = s.config.get("metrics", {}).get(name) or {}
    measuring.measure_cell(
        s.params.kind,
        # settings that only cost memory or time are no parameter: a change of one reruns nothing
        {**json.loads(s.params.settings), **metric.costs(given)},
        json.loads(s.params.spec),
        s.params.seeds,
        measuring.Inputs(
            s.input.get("weights", []),
            s.input.histories,
            s.input.get("dataset", ""),
            s.input.get("performance", ""),
            paths.parts(s.wildcards.cell, name),
        ),
        s.params.code,
        write=partial(store.write, s.output[0]),
    )
