"""Draw one figure from tables."""

import json

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas import paths
    from lossatlas.figures.draw import draw
    from lossatlas.spec.figures import REHEARSAL, Figure

    draw(
        Figure(**json.loads(s.params.style)),
        scalars=s.input.get("scalars", []),
        series=s.input.get("series", []),
        inferred=s.input.get("inferred", []),
        load=s.params.load,
        temperature=s.params.temperature,
        mark=REHEARSAL if paths.rehearsing() else "",
        outputs={"png": s.output.png, "pdf": s.output.pdf, "csv": s.output.csv},
    )
