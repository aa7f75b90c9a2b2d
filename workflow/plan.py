"""Print cells, replicas, jobs, disk and estimated time."""

from lossatlas.entry import job

with job(snakemake, quiet=False) as s:  # noqa: F821
    from lossatlas import report
    from lossatlas.spec.config import load
    from lossatlas.spec.plan import make_plan

    report.plan(make_plan(load(s.config)), why=s.params.why, stale=set(s.params.stale))
