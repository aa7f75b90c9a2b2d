"""Print what a pilot's jobs took, for the whole run, against what its jobs ask for."""

import sys

from lossatlas.entry import job

with job(snakemake, quiet=False) as s:  # noqa: F821
    from lossatlas import pilot
    from lossatlas.spec.config import load
    from lossatlas.spec.plan import make_plan

    small = make_plan(load(s.config))
    whole = make_plan(load({**s.config, "pilot": False}), lambda _: [])
    steps = pilot.steps(small, whole, s.params.rules, s.params.given)
    if lacking := pilot.report(steps, whole.config.walltime):
        for line in lacking:
            print(f"lossatlas: {line}", file=sys.__stderr__)
        sys.exit(1)
