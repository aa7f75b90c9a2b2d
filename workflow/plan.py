"""Print cells, replicas, jobs, disk and estimated time."""

from lossatlas.entry import job

with job(snakemake, quiet=False) as s:  # noqa: F821
    from lossatlas import report
    from lossatlas.spec.config import load
    from lossatlas.spec.plan import make_plan

    config = load(s.config)
    small = None if config.rehearse else make_plan(load({**s.config, "rehearse": True}))
    told = {"why": s.params.why, "stale": set(s.params.stale)}
    report.plan(make_plan(config), rehearsal=small, files=s.params.files, **told)
