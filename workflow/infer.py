"""Infer the phases of the cells that a refinement left out."""

import json

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.refine import rounds
    from lossatlas.spec.figures import Thresholds
    from lossatlas.tables import collect

    given = json.loads(s.params.asked)
    scalars = rounds.read(given["experiment"], given["axes"], given["records"])
    limits = Thresholds(**given["thresholds"])
    collect.write(s.output[0], rounds.inferred(given["experiment"], scalars, given["axes"], limits))
