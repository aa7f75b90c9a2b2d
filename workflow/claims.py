"""Check the papers' claims on our tables and on the published ones."""

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.claims import verdicts
    from lossatlas.figures import Tables
    from lossatlas.tables import collect

    tables = {
        name: collect.cell_summary(collect.concatenate(files))
        for name, files in s.params.experiments.items()
    }
    simplexes = {
        name: {
            kind: Tables(collect.read(scalars), collect.read(series))
            for kind, (scalars, series) in kinds.items()
        }
        for name, kinds in s.params.simplexes.items()
    }
    collect.write(s.output[0], verdicts.claims(tables, simplexes=simplexes))
