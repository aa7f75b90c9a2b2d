"""The table of claims: what each paper says, and what each experiment says of it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lossatlas.claims import conditions, diffusion, simplex, taxonomy
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
    said = {"taxonomy": taxonomy, "simplex": simplex, "diffusion": diffusion}[paper]
    facts = {name: conditions.about((known or {}).get(name, {})) for name in told}
    seen: dict[str, dict[str, str]] = {claim.name: {} for claim in said.CLAIMS}
    found: list[tuple[Any, ...]] = []
    for name, tables in told.items():
        judged: dict[Claim, Judged] = {}
        made: dict[frozenset[str], Any] = {}  # many claims look at the same cells
        for claim in said.CLAIMS:
            if said.tells(tables, claim):
                one = _judge(said, claim, name, tables, facts[name], seen[claim.name], made)
                judged[claim] = one
                if one.finding is not None:
                    own = said.cells(tables, claim.needs) - seen[claim.name].keys()
                    seen[claim.name] |= dict.fromkeys(own, name)
        found += rows(said.PAPER, name, judged)
    order = {claim.name: place for place, claim in enumerate(said.CLAIMS)}
    found.sort(key=lambda row: order[row[1]])
    return pd.DataFrame(found, columns=COLUMNS)


def of_a_rehearsal(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of claims in which nothing is testable; faults of checks stay told.

    The checks have run on numbers that say nothing: what they found is left out.
    """
    faults = table["observed"].str.startswith(FAULT)
    sizes = dict.fromkeys(("effect", "low", "high", "p", "p_holm"), math.nan)
    observed = table["observed"].where(faults, "a rehearsal")
    return table.assign(observed=observed, **sizes, units=0, holds="not testable")


def _judge(
    said: Any,
    claim: Claim,
    name: str,
    tables: Any,
    known: About,
    seen: Mapping[str, str],
    made: dict[frozenset[str], Any],
) -> Judged:
    """Check a claim on the cells of an experiment on which it has not been judged."""

    def evidence() -> Any:
        own = said.cells(tables, claim.needs)
        if own and own <= seen.keys():
            others = ", ".join(dict.fromkeys(seen[cell] for cell in sorted(own)))
            raise NotTestableError(f"all its cells are cells of {others}, which is judged")
        without = frozenset(seen.keys() & own)
        if without not in made:
            made[without] = said.evidence(tables, known, without, name)
        return made[without]

    return judge(claim, known, evidence)


def together(paths: Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Return tables of claims as one, every cell as it was written."""
    return pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths])
