"""Put all metrics of an experiment into one table."""

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.tables import collect

    collect.write(collect.concatenate(s.input), s.output[0])
