"""The table of claims: what each paper says, and what each experiment says of it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from lossatlas.claims import conditions, diffusion, simplex, taxonomy, variants
from lossatlas.claims.conditions import FAULT, About, NotTestableError
from lossatlas.claims.statements import COLUMNS, Claim, Judged, judge, rows

__all__ = ["COLUMNS", "claims", "together"]


def claims(
    paper: str, told: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]] | None = None
) -> pd.DataFrame:
    """Check every claim of a paper on every experiment that could tell.

    A cell decides a claim once: an experiment that shares cells with one before it, on which the
    claim was judged, is judged on its other cells.

    Args:
        paper: "taxonomy", "simplex" or "diffusion".
        told: Experiment -> its tables: of the taxonomy the scalars of its metrics, else, by kind of
            metric or study, scalars and series (`figures.Tables`). Studies count as one experiment.
        known: Experiment -> what else is known of it (`spec.told.about`).

    Returns:
        One row per claim and experiment, with the columns of `COLUMNS`. `holds` is "yes", "no" or
        "not testable", with the reason under `observed`; of those that were measured `effect` has
        the size all the same.
    """
    parts = {"taxonomy": (taxonomy, variants), "simplex": (simplex,), "diffusion": (diffusion,)}
    facts = {name: conditions.about((known or {}).get(name, {})) for name in told}
    order = [claim.name for said in parts[paper] for claim in said.CLAIMS]
    seen: dict[str, dict[str, str]] = {name: {} for name in order}
    found: list[tuple[Any, ...]] = []
    for name in told:
        judged: dict[Claim, Judged] = {}
        for said in parts[paper]:
            judged |= _judge_all(said, name, told, facts, seen)
        found += rows(parts[paper][0].PAPER, name, judged)
    found.sort(key=lambda row: order.index(row[1]))
    return pd.DataFrame(found, columns=COLUMNS)


def of_a_rehearsal(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of claims in which nothing is testable; faults of checks stay told.

    The checks have run on numbers that say nothing: what they found is left out.
    """
    faults = table["observed"].str.startswith(FAULT)
    sizes = dict.fromkeys(("effect", "low", "high", "p", "p_holm"), math.nan)
    observed = table["observed"].where(faults, "a rehearsal")
    return table.assign(observed=observed, **sizes, units=0, holds="not testable")


def _judge_all(
    said: Any,
    name: str,
    told: Mapping[str, Any],
    facts: Mapping[str, About],
    seen: Mapping[str, dict[str, str]],
) -> dict[Claim, Judged]:
    """Check the claims of which an experiment tells, each on cells that have not decided it."""
    judged: dict[Claim, Judged] = {}
    made: dict[tuple[frozenset[str], str], Any] = {}  # many claims look at the same cells
    for claim in said.CLAIMS:
        other = _partner(claim, name, facts)
        if other is None or not said.tells(told[name], claim, facts[name]):
            continue
        one = _judge(said, claim, (name, other), told, facts, seen[claim.name], made)
        judged[claim] = one
        if one.finding is not None:
            own = said.cells(told[name], claim.needs) - seen[claim.name].keys()
            seen[claim.name].update(dict.fromkeys(own, name))
    return judged


def _partner(claim: Claim, name: str, facts: Mapping[str, About]) -> str | None:
    """Return the experiment beside which a claim looks at this one: "" if alone, None if absent."""
    if claim.partner is None:
        return ""
    others = (other for other in facts if other != name)
    return next((o for o in others if claim.partner(facts[name], facts[o])), None)


def _judge(
    said: Any,
    claim: Claim,
    names: tuple[str, str],
    told: Mapping[str, Any],
    facts: Mapping[str, About],
    seen: Mapping[str, str],
    made: dict[tuple[frozenset[str], str], Any],
) -> Judged:
    """Check a claim on the cells of an experiment on which it has not been judged."""
    name, other = names
    tables, known = told[name], facts[name]

    def evidence() -> Any:
        own = said.cells(tables, claim.needs)
        if own and own <= seen.keys():
            others = ", ".join(dict.fromkeys(seen[cell] for cell in sorted(own)))
            raise NotTestableError(f"all its cells are cells of {others}, which is judged")
        without = frozenset(seen.keys() & own)
        if (without, other) not in made:
            made[without, other] = (
                said.paired(tables, told[other], (known, facts[other]), without)
                if other
                else said.evidence(tables, known, without, name)
            )
        return made[without, other]

    found = judge(claim, known, evidence)
    return _beside(found, other) if other else found


def _beside(judged: Judged, other: str) -> Judged:
    """Say beside which other experiment a claim was judged."""
    if judged.finding is None:
        fault = judged.reason.startswith(FAULT)
        return judged if fault else replace(judged, reason=f"{judged.reason} (beside {other})")
    finding = judged.finding
    return replace(judged, finding=replace(finding, observed=f"beside {other}: {finding.observed}"))


def together(paths: Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Return tables of claims as one, every cell as it was written."""
    return pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths])
