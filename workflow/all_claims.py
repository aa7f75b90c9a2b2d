"""Put the claims of all papers into one table."""

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.claims import verdicts
    from lossatlas.tables import collect

    collect.write(s.output[0], verdicts.together(s.input))
