"""Choose the cells of a refinement's next round."""

import json
from pathlib import Path

from lossatlas.entry import job

with job(snakemake) as s:  # noqa: F821
    from lossatlas.files import atomic
    from lossatlas.refine import rounds
    from lossatlas.spec.figures import Thresholds

    given = json.loads(s.params.asked)
    scalars = rounds.read(given["experiment"], given["axes"], given["records"])
    limits = Thresholds(**given["thresholds"])
    bought = given["bought"]
    chosen = rounds.next_cells(
        scalars, given["axes"], bought, given["count"], limits, given["most"]
    )
    with atomic(s.output[0]) as temporary:
        Path(temporary).write_text(json.dumps({"bought": [*bought, *chosen]}, indent=1) + "\n")
