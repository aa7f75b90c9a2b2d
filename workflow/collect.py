"""Gather one metric of an experiment into two tidy tables."""

import json

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.tables import collect

    cells = json.loads(s.params.axes)
    records = dict(zip(cells, s.input, strict=True))
    experiment = s.wildcards.experiment
    scalars, series = collect.tables(experiment, cells, records)
    collect.write(s.output.scalars, scalars)
    collect.write(s.output.series, series)
