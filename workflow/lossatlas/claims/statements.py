"""What a paper says of trained networks, and the rows that say what experiments say of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lossatlas.claims.checks import Finding
from lossatlas.claims.grid import NotTestableError
from lossatlas.figures import Tables

Found = Mapping[str, Tables]  # kind of metric, or study -> its tables


@dataclass(frozen=True)
class Claim:
    """A statement with its direction and size, and how to check it."""

    name: str
    statement: str
    expected: str
    needs: str
    check: Callable[[Found], Finding]


def rows(
    experiments: Mapping[str, Found], claims: Sequence[Claim], paper: str
) -> list[tuple[str, str, str, str, str, str, float, str]]:
    """Return a row of the table of claims for each claim and experiment that could tell.

    Args:
        experiments: Experiment -> its tables; studies count as one experiment.
        claims: The claims of the paper.
        paper: Its name.
    """
    found = []
    for claim in claims:
        for name, tables in experiments.items():
            if claim.needs in tables:
                head = (paper, claim.name, name, claim.statement, claim.expected)
                found.append((*head, *_checked(claim, tables)))
    return found


def _checked(claim: Claim, tables: Found) -> tuple[str, float, str]:
    try:
        finding = claim.check(tables)
    except NotTestableError as reason:
        return str(reason), math.nan, "not testable"
    return finding.observed, finding.effect, "yes" if finding.holds else "no"
