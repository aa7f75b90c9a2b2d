"""Train a block of replicas of one cell."""

import json

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import device, paths
    from lossatlas.spec.plan import block_seeds
    from lossatlas.training.job import train_block

    device.set_threads(s.threads)
    spec = json.loads(s.params.spec)
    train_block(
        spec,
        block_seeds(s.wildcards.block),
        s.input.get("dataset") or paths.dataset(spec["data"]["source"]),
        s.output.weights,
        s.output.history,
        s.params.code,
        str(s.input.get("start") or ""),
    )
