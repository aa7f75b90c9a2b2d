"""Train a block of replicas of one cell."""

import json

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import device
    from lossatlas.spec.plan import block_seeds
    from lossatlas.training.job import train_block

    device.set_threads(s.threads)
    train_block(
        json.loads(s.params.spec),
        block_seeds(s.wildcards.block),
        s.input.dataset,
        s.output.weights,
        s.output.history,
        s.params.code,
    )
