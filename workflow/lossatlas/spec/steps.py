"""How many jobs a config has besides trainings and metrics: data, tables, figures, claims."""

from __future__ import annotations

from pathlib import Path

from lossatlas.paths import REFERENCE, STUDIES, metric_table
from lossatlas.spec.catalogue import corrupted_source, data_source, files_of
from lossatlas.spec.plan import Plan
from lossatlas.spec.shown import PAPERS, Shown, claim_tables


def besides(plan: Plan) -> dict[str, int]:
    """Return kind of job -> how many `all train metrics` has of it where nothing is made yet."""
    config = plan.config
    sources = {planned.cell.data.source for planned in plan.cells.values()}
    archives = {file.file for name in sources for file in files_of(data_source(name))}
    archives |= {corrupted_source(name).file for name in plan.corruptions}
    measured = sum(len(one.metrics) for one in config.experiments.values())
    rounds = sum(len(one.counts) for one in plan.refined.values())
    read = _read(plan)
    studies = {Path(one).name.partition(".")[0] for one in read if _folder(one, STUDIES)}
    inferred = {table for name in config.figures for table in Shown(config, name).inferred}
    found = {
        "downloads": len(archives),
        "data sets": len(sources),
        "tables": measured + len(config.experiments) + any(_folder(one, REFERENCE) for one in read),
        "rounds of refinement": rounds + len(inferred),
        "studies": len(studies),
        "figures": len(config.figures),
        "tables of claims": len(PAPERS) + 1 if config.figures else 0,
    }
    return {kind: count for kind, count in found.items() if count}


def _read(plan: Plan) -> set[str]:
    """Return the tables that figures and claims read."""
    if not plan.config.figures:
        return set()
    shown = [Shown(plan.config, name) for name in plan.config.figures]
    tables = [*(one.tables("scalars") for one in shown), *(one.tables("series") for one in shown)]
    tables += [claim_tables(plan.config, paper) for paper in PAPERS]
    return {table for some in tables for table in some}


def _folder(table: str, experiment: str) -> bool:
    """Say whether a table is one of an experiment, or of what stands in its place."""
    return Path(table).parent == Path(metric_table(experiment, "any")).parent
