"""Check the claims of one paper on our tables and on the published ones."""

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    import json
    import sys

    from lossatlas import paths
    from lossatlas.claims import conditions, verdicts
    from lossatlas.figures import Tables
    from lossatlas.tables import collect

    told = s.params.experiments
    if s.wildcards.paper == "taxonomy":
        found = {n: collect.concatenate(files) for n, files in told.items()}
    else:
        found = {
            name: {
                kind: Tables(collect.read(scalars), collect.read(series))
                for kind, (scalars, series) in kinds.items()
            }
            for name, kinds in told.items()
        }
    table = verdicts.claims(s.wildcards.paper, found, json.loads(s.params.about))
    for line in conditions.faults(table.to_dict("records")):
        print(f"lossatlas: {line}", file=sys.stderr)
    collect.write(s.output[0], verdicts.of_a_rehearsal(table) if paths.rehearsing() else table)
