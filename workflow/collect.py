"""Gather one metric of an experiment into two tidy tables."""

import json

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.tables import collect

    cells = json.loads(s.params.axes)
    records = dict(zip(cells, s.input, strict=True))
    experiment = s.wildcards.experiment
    collect.write(collect.scalars(experiment, cells, records), s.output.scalars)
    collect.write(collect.series(experiment, cells, records), s.output.series)
