"""Read a replica that was trained elsewhere, check it, and keep it as a trained one is kept."""

import json

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import device, paths
    from lossatlas.spec.plan import block_seeds
    from lossatlas.training.adopt import adopt_replica

    device.set_threads(s.threads)
    spec = json.loads(s.params.spec)
    adopt_replica(
        spec,
        block_seeds(s.wildcards.block)[0],
        s.input.file,
        s.params.sha256,
        s.input.get("dataset") or paths.dataset(spec["data"]["source"]),
        s.output.weights,
        s.output.history,
        s.params.code,
    )
