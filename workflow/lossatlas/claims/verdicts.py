"""The table of claims: what each paper says, and what each experiment says of it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lossatlas.claims import diffusion, simplex, statements, taxonomy
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


def claims(paper: str, told: Mapping[str, Any]) -> pd.DataFrame:
    """Check every claim of a paper on every experiment that could tell.

    Args:
        paper: "taxonomy", "simplex" or "diffusion".
        told: Experiment -> what `taxonomy_claims`, or else `statements.rows`, takes of it.

    Returns:
        One row per claim and experiment, with the columns of `COLUMNS`. `holds` is "yes", "no" or
        "not testable", with the reason under `observed` and a NaN effect.
    """
    if paper == "taxonomy":
        return taxonomy_claims(told)
    said = {"simplex": simplex, "diffusion": diffusion}[paper]
    return pd.DataFrame(statements.rows(told, said.CLAIMS, said.PAPER), columns=COLUMNS)


def together(paths: Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Return tables of claims as one, every cell as it was written."""
    return pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths])


def taxonomy_claims(
    tables: Mapping[str, pd.DataFrame], thresholds: Thresholds | None = None
) -> pd.DataFrame:
    """Check every claim of the taxonomy paper on every experiment, as `claims` does.

    Args:
        tables: Experiment -> summary of its cells, from `tables.collect.cell_summary`. Of the
            authors' results just the cells that they plotted are used.
        thresholds: Of the phases; default: rule R1.
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
