"""What a paper says of trained networks, and how an experiment's numbers become a verdict.

One rule for all claims. A claim is judged in experiments that meet its condition. Its effect is
tested on independent units (`statistics`); claims whose test cannot reach the level of
`statistics.LEVEL`, corrected for the claims of the paper that the experiment can test, are not
testable. Of the others those are "yes" whose direction is the claimed one and whose p-value,
adjusted by Holm's method, is at most that level; the rest are "no". Statements that hold or fail
without chance (identities) are judged as they are.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossatlas.claims.conditions import FAULT, About, Condition, NotTestableError
from lossatlas.claims.statistics import LEVEL, Test, holm, reachable

COLUMNS = [
    "paper",
    "claim",
    "experiment",
    "statement",
    "condition",
    "expected",
    "threshold",
    "observed",
    "effect",
    "low",
    "high",
    "p",
    "p_holm",
    "units",
    "holds",
]


@dataclass(frozen=True)
class Finding:
    """What an experiment says of a claim.

    Attributes:
        effect: Its size.
        observed: In words.
        holds: Whether the numbers are as the claim says, chance aside.
        test: Of that; None for a statement without chance.
        low: Lower end of the effect's 95% interval.
        high: Its upper end.
        bounds: The least and the largest effect that there can be.
    """

    effect: float
    observed: str
    holds: bool
    test: Callable[[], Test] | None
    low: float = math.nan
    high: float = math.nan
    bounds: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True)
class Claim:
    """A statement with its direction, and how to check it.

    Attributes:
        name: Such as "C1".
        statement: What the paper says.
        expected: What is looked at.
        condition: Where the paper says it.
        threshold: Where sizes in `expected` come from: "none" (a direction alone), "paper",
            "fitted" (to the authors' results), "config", "ours" or "identity".
        needs: Kind of metric, or study, without which an experiment has nothing to say.
        check: What to do with the experiment's evidence.
        partner: Of a claim about two experiments: whether another one is the second.
    """

    name: str
    statement: str
    expected: str
    condition: Condition
    threshold: str
    needs: str
    check: Callable[[Any], Finding]
    partner: Callable[[About, About], bool] | None = None


@dataclass(frozen=True)
class Judged:
    """A claim's outcome in one experiment: a finding with its test, or why there is none."""

    finding: Finding | None
    test: Test | None = None
    reason: str = ""


def judge(claim: Claim, known: About, evidence: Callable[[], Any]) -> Judged:
    """Check a claim. A fault of the check is told as the reason; it stops no other claim."""
    try:
        claim.condition.need(known)
        finding = claim.check(evidence())
        if not math.isfinite(finding.effect):
            raise NotTestableError("its effect is not a finite number")
        return Judged(finding, finding.test() if finding.test else None)
    except NotTestableError as reason:
        return Judged(None, reason=str(reason))
    except Exception as error:  # noqa: BLE001 -- told in the row, and by `status`
        return Judged(None, reason=f"{FAULT}{_told(error)}")


def _told(error: Exception) -> str:
    """Return an error in one line: its type, what it says, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words} ({Path(last.filename).name}, line {last.lineno})"


def rows(paper: str, experiment: str, judged: Mapping[Claim, Judged]) -> list[tuple[Any, ...]]:
    """Return the rows of the table of claims (`COLUMNS`) of one experiment."""
    tests = {claim: one.test for claim, one in judged.items() if one.test is not None}
    limit = reachable(list(tests.values()))
    family = [claim for claim, test in tests.items() if test.least <= limit]
    adjusted = dict(zip(family, holm([tests[claim].p for claim in family]), strict=True))
    return [
        (
            *(paper, claim.name, experiment, claim.statement, claim.condition.words),
            *(claim.expected, claim.threshold),
            *_outcome(one, adjusted.get(claim), limit, len(tests)),
        )
        for claim, one in judged.items()
    ]


def _outcome(one: Judged, adjusted: float | None, limit: float, count: int) -> tuple[Any, ...]:
    """Return observed, effect, low, high, p, p_holm, units, holds."""
    finding, nan = one.finding, math.nan
    if finding is None:
        return one.reason, nan, nan, nan, nan, nan, 0, "not testable"
    sizes = (finding.effect, finding.low, finding.high)
    if one.test is None:
        return finding.observed, *sizes, nan, nan, 0, "yes" if finding.holds else "no"
    test = one.test
    if adjusted is None:
        reason = f"{finding.observed}; {_too_few(test, limit, count)}"
        return reason, *sizes, test.p, nan, test.units, "not testable"
    holds = finding.holds and adjusted <= LEVEL
    return finding.observed, *sizes, test.p, adjusted, test.units, "yes" if holds else "no"


def _too_few(test: Test, limit: float, count: int) -> str:
    units = f"{test.units} {test.what}"
    if test.least >= 1:
        return f"{units}: nothing varies that could be tested"
    text = f"{units}: p can be no smaller than {test.least:.2g}"
    if limit < LEVEL:
        return f"{text}, and with {count} claims tested it must be {limit:.2g}"
    return f"{text}, above {LEVEL:g}"
