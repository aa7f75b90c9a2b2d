"""Check the claims of one paper on our tables and on the published ones."""

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.claims import verdicts
    from lossatlas.figures import Tables
    from lossatlas.tables import collect

    told = s.params.experiments
    if s.wildcards.paper == "taxonomy":
        found = {n: collect.cell_summary(collect.concatenate(files)) for n, files in told.items()}
    else:
        found = {
            name: {
                kind: Tables(collect.read(scalars), collect.read(series))
                for kind, (scalars, series) in kinds.items()
            }
            for name, kinds in told.items()
        }
    collect.write(s.output[0], verdicts.claims(s.wildcards.paper, found))
