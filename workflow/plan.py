"""Print cells, replicas, jobs, disk and estimated time."""

from lossatlas.entry import job

with job(snakemake, quiet=False) as s:  # noqa: F821
    from lossatlas import paths, report
    from lossatlas.spec import calibration
    from lossatlas.spec.config import load
    from lossatlas.spec.plan import make_plan

    config = load(s.config)
    trial = config.rehearse or config.pilot
    small = None if trial else make_plan(load({**s.config, "rehearse": True}))
    plan = make_plan(config)
    found, told = calibration.find(paths.calibration(), **s.params.here)
    if calibration.unknown(plan):
        from lossatlas import calibrate

        calibrate.count_own(plan)
    given = {"why": s.params.why, "stale": set(s.params.stale), "files": s.params.files}
    report.plan(plan, rehearsal=small, measured=found, times=told, **given)
