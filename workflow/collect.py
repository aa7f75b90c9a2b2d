"""Gather one metric of an experiment into two tidy tables."""

import json

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.tables import collect

    cells = json.loads(s.params.axes)
    records = dict(zip(cells, s.input, strict=True))
    experiment = s.wildcards.experiment
    collect.write(s.output.scalars, collect.scalars(experiment, cells, records))
    collect.write(s.output.series, collect.series(experiment, cells, records))
