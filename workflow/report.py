"""Put maps to explore, all figures, the claims and the runs on one page."""

import json

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import paths
    from lossatlas.page import assets, contents, runs, write
    from lossatlas.spec.figures import ABOUT_REHEARSAL

    asked = [contents.asked(one, s.params.command) for one in json.loads(s.params.experiments)]
    units = json.loads(s.params.units)
    experiments = [contents.of_experiment(one, units) for one in asked]
    cells = [cell["id"] for one in experiments for cell in one["cells"]]
    replicas, curves = runs.of_cells(dict.fromkeys(cells))
    about = {
        "config": f"{s.params.config} (SHA-256 {s.params.digest})",
        **({"commit": commit} if (commit := assets.commit(paths.PROJECT)) else {}),
        **{f"experiment {one.name}": one.about for one in asked if one.about},
        **runs.told(replicas),
    }
    if s.params.adopted:
        about["experiments on networks trained elsewhere"] = ", ".join(s.params.adopted)
    if s.params.missing:
        about["missing checkpoints"] = "; ".join(s.params.missing)
    if s.params.accepted:
        about["results accepted under newer code"] = "; ".join(s.params.accepted)
    write.write(
        s.output[0],
        write.Atlas(
            config=s.params.config,
            about=about,
            warning=ABOUT_REHEARSAL if paths.rehearsing() else "",
            figures=[
                write.Shown(name, paths.figure(name, "png"), caption)
                for name, caption in s.params.captions.items()
            ],
            claims=paths.claims() if s.params.captions else "",
            experiments=experiments,
            runs=replicas,
            curves=curves,
        ),
    )
