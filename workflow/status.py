"""Print what is done, missing, failed and diverged."""

from lossatlas.entry import job

with job(snakemake, quiet=False) as s:  # noqa: F821
    from lossatlas import report
    from lossatlas.spec.config import load
    from lossatlas.spec.plan import make_plan

    report.status(make_plan(load(s.config)), stale=set(s.params.stale), why=s.params.why)
