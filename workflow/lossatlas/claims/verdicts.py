"""The table of claims: what each paper says, and what each experiment says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from lossatlas.claims import diffusion, simplex, taxonomy
from lossatlas.claims.grid import Grid, NotTestableError, grid
from lossatlas.reference import taxonomy_tables
from lossatlas.spec.figures import Thresholds

Verdict = tuple[str, float, str]  # observed, effect, holds

COLUMNS = [
    "paper",
    "claim",
    "experiment",
    "statement",
    "expected",
    "observed",
    "effect",
    "holds",
]


def claims(
    tables: Mapping[str, pd.DataFrame],
    thresholds: Thresholds | None = None,
    simplexes: Mapping[str, simplex.Found] | None = None,
) -> pd.DataFrame:
    """Check every claim on every experiment.

    Args:
        tables: Experiment -> summary of its cells, from `tables.collect.cell_summary`. Of the
            authors' results just the cells that they plotted are used.
        thresholds: Of the phases; default: rule R1.
        simplexes: Experiment -> its tables, for claims about simplexes and about diffusion.

    Returns:
        One row per claim and experiment, with the columns of `COLUMNS`. `holds` is "yes", "no" or
        "not testable", with the reason under `observed` and a NaN effect.
    """
    found = {name: _verdicts(name, table, thresholds) for name, table in tables.items()}
    rows = [
        (
            taxonomy.PAPER,
            claim.name,
            name,
            claim.statement,
            claim.expected,
            *found[name][claim.name],
        )
        for claim in taxonomy.CLAIMS
        for name in tables
    ]
    rows += simplex.rows(simplexes or {})
    rows += simplex.rows(simplexes or {}, diffusion.CLAIMS, diffusion.PAPER)
    return pd.DataFrame(rows, columns=COLUMNS)


def _verdicts(
    experiment: str, summary: pd.DataFrame, thresholds: Thresholds | None
) -> dict[str, Verdict]:
    """Return the verdict on each claim."""
    if experiment == taxonomy_tables.EXPERIMENT:
        summary = taxonomy_tables.plotted(summary)
    try:
        arranged = grid(summary, thresholds)
    except NotTestableError as reason:
        return {claim.name: _silent(reason) for claim in taxonomy.CLAIMS}
    return {claim.name: _verdict(claim, arranged) for claim in taxonomy.CLAIMS}


def _verdict(claim: taxonomy.Claim, arranged: Grid) -> Verdict:
    try:
        finding = claim.check(arranged)
    except NotTestableError as reason:
        return _silent(reason)
    return finding.observed, finding.effect, "yes" if finding.holds else "no"


def _silent(reason: NotTestableError) -> Verdict:
    return str(reason), math.nan, "not testable"
