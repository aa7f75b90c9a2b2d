"""Check the papers' claims on our tables and on the published ones."""

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.claims import verdicts
    from lossatlas.tables import collect

    tables = {
        name: collect.cell_summary(collect.concatenate(files))
        for name, files in s.params.experiments.items()
    }
    collect.write(s.output[0], verdicts.claims(tables))
