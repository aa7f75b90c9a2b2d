"""Put all metrics of an experiment into one table."""

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.tables import collect

    collect.write(s.output[0], collect.join(dict(zip(s.params.metrics, s.input, strict=True))))
