"""Exact tests of one-sided claims, their correction for the number of claims, and intervals.

A test says how seldom numbers that show nothing look as good as those that were measured: all
arrangements that were as likely under the null hypothesis are counted where they are few, else
`DRAWS` of them are drawn (seeded), with the measured one among them, which keeps the level
(Phipson, Smyth 2010). So p can be no smaller than one over the number of arrangements; a test whose
least p is above the level cannot say "yes", whatever was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

LEVEL = 0.05
DRAWS = 9_999
COUNTED = 20_000  # arrangements that are counted one by one
_SAME = 1e-9
_NEGLIGIBLE = 0.01  # of the largest gap: smaller ones have no sign that could be trusted


@dataclass(frozen=True)
class Test:
    """Outcome of a test.

    Attributes:
        p: Share of arrangements that look at least as good as what was measured.
        least: The smallest p that the test could have given on so many units.
        units: Independent units: replicas, complexes, cells.
        what: Their name.
    """

    p: float
    least: float
    units: int
    what: str


def unit(values: Floats, *, ranks: bool) -> Floats:
    """Return ranks, or values, with mean 0 and length 1; zeros for constants."""
    given = stats.rankdata(values) if ranks else np.asarray(values, dtype=np.float64)
    centred = given - given.mean()
    size = float(np.linalg.norm(centred))
    return centred / size if size > 0 else np.zeros(len(centred))


def all_of(*tests: Test) -> Test:
    """Return the test that all of several statements hold (intersection-union): the largest p."""
    worst = max(tests, key=lambda test: test.p)
    fewest = min(tests, key=lambda test: test.units)
    return Test(worst.p, max(test.least for test in tests), fewest.units, fewest.what)


def below_zero(gaps: Floats, what: str) -> Test:
    """Test whether independent gaps (n,) are below 0 in the mean, by flipping their signs.

    Gaps below a hundredth of the largest count as 0: of rounding alone there is no sign.
    """
    negligible = np.abs(gaps) <= _NEGLIGIBLE * np.abs(gaps).max(initial=0.0)
    sizes, count = np.abs(gaps[~negligible]), int((~negligible).sum())
    observed = float(gaps[~negligible].sum())
    if 2**count <= COUNTED:
        signs = np.array(list(product((-1.0, 1.0), repeat=count))).reshape(2**count, count)
        sums = signs @ sizes
    else:
        sums = _rng().choice((-1.0, 1.0), size=(DRAWS, count)) @ sizes
    whole = 2**count <= COUNTED
    return _test(-sums, -observed, 0.5**count, whole, len(gaps), what)


def along_lines(
    places: Sequence[Floats], values: Sequence[Floats], what: str, *, ranks: bool = True
) -> Test:
    """Test whether values rise with their places in the mean over lines, by permuting each line.

    Args:
        places: One array per line: where its values lie, or weights of a contrast (`ranks` false).
        values: One array per line.
        what: Name of a unit, such as "cells".
        ranks: Correlate ranks (Spearman) instead of the numbers.
    """
    pairs = [
        (unit(x, ranks=ranks), unit(y, ranks=ranks)) for x, y in zip(places, values, strict=True)
    ]
    observed = sum(float(x @ y) for x, y in pairs)
    least = math.prod(_least(x, y) for x, y in pairs)
    units = sum(len(y) for _, y in pairs)
    enumerable = math.prod(math.factorial(len(y)) for _, y in pairs) <= COUNTED
    if enumerable:
        sums = reduce(np.add.outer, [np.array(list(permutations(y))) @ x for x, y in pairs])
    else:
        rng = _rng()
        sums = np.zeros(DRAWS)
        for x, y in pairs:
            sums += rng.permuted(np.tile(y, (DRAWS, 1)), axis=1) @ x
    return _test(np.ravel(sums), observed, least, enumerable, units, what)


def rearranged(
    lines: Sequence[Floats], measure: Callable[[Sequence[Floats]], Floats], what: str
) -> Test:
    """Test whether a measure of some lines is larger than with the values of each line permuted.

    Args:
        lines: One array (n,) per line.
        measure: Maps the arrangements of all lines, arrays (draws, n), to numbers (draws,).
        what: Name of a unit.
    """
    whole = math.prod(math.factorial(len(line)) for line in lines) <= COUNTED
    if whole:
        orders = [line[np.array(list(permutations(range(len(line)))))] for line in lines]
        places = np.indices([len(part) for part in orders]).reshape(len(orders), -1)
        moved = [part[place] for part, place in zip(orders, places, strict=True)]
    else:
        rng = _rng()
        moved = [rng.permuted(np.tile(line, (DRAWS, 1)), axis=1) for line in lines]
    drawn, observed = measure(moved), float(measure([line[None] for line in lines])[0])
    most = max(observed, float(drawn.max()))
    least = _test(drawn, most, 0.0, whole, 0, what).p
    return _test(drawn, observed, least, whole, sum(map(len, lines)), what)


def within(values: Floats, margin: float, what: str) -> Test:
    """Test whether independent values (n,) are within a margin of 0 in the mean: equivalence.

    By two tests of one side each (Schuirmann 1987), which flip signs.
    """
    return all_of(below_zero(values - margin, what), below_zero(-values - margin, what))


def larger_than_rest(values: Floats, chosen: NDArray[np.bool_], what: str) -> Test:
    """Test whether chosen values have a larger mean than the rest, by choosing others."""
    count, size = len(values), int(chosen.sum())
    observed = float(values[chosen].sum())
    ways = math.comb(count, size)
    if ways <= COUNTED:
        sums = np.array([values[list(some)].sum() for some in combinations(range(count), size)])
    else:
        shuffled = _rng().permuted(np.tile(values, (DRAWS, 1)), axis=1)
        sums = shuffled[:, :size].sum(axis=1)
    least = 1.0 if np.ptp(values) == 0 else 1 / ways
    return _test(sums, observed, least, ways <= COUNTED, min(size, count - size), what)


def closer_to(target: Floats, near: Floats, far: Floats, what: str) -> Test:
    """Test whether |rho| of a target is larger with one quantity than with another.

    By swapping the two (their ranks, turned so that both rise with the target) in each place.

    Args:
        target: (n,).
        near: (n,), said to have the larger one.
        far: (n,).
        what: Name of a unit.
    """
    goal, a, b = (unit(part, ranks=True) for part in (target, near, far))
    a, b = a * np.sign(a @ goal), b * np.sign(b @ goal)
    observed = float(goal @ a - goal @ b)
    count = len(goal)
    parts = goal * (a - b)
    if 2**count <= COUNTED:
        signs = np.array(list(product((-1.0, 1.0), repeat=count)))
    else:
        signs = _rng().choice((-1.0, 1.0), size=(DRAWS, count))
    whole = 2**count <= COUNTED
    moved = int((np.abs(parts) > _SAME).sum())
    return _test(signs @ parts, observed, 0.5**moved, whole, count, what)


def from_error(gap: float, stderr: float, degrees: float, units: int, what: str) -> Test:
    """Test whether an average is below 0 by Student's law, from its standard error alone."""
    p = float(stats.t.cdf(gap / stderr, degrees)) if stderr > 0 else 1.0
    return Test(p, 0.0 if stderr > 0 else 1.0, units, what)


def around(middle: float, error: float, count: float) -> tuple[float, float]:
    """Return Student's 95% interval from a standard error over so many units."""
    reach = float(stats.t.ppf(0.975, count - 1)) * error
    return middle - reach, middle + reach


def interval(values: Floats) -> tuple[float, float]:
    """Return Student's 95% interval of the mean of independent values (n,); NaN for n < 2."""
    if len(values) < 2:
        return math.nan, math.nan
    return around(float(values.mean()), float(stats.sem(values)), len(values))


def jackknife(whole: float, left_out: Floats) -> tuple[float, float]:
    """Return the 95% interval of a statistic from its values with one replica left out, (n,)."""
    count = len(left_out)
    if count < 2 or not np.isfinite([whole, *left_out]).all():
        return math.nan, math.nan
    error = math.sqrt((count - 1) * float(np.var(left_out)))
    return around(whole, error, count)


def reachable(tests: Sequence[Test]) -> float:
    """Return the largest p at which a claim of a family is looked at (Tarone 1990).

    The level over K, for the smallest K such that at most K of the tests can reach it. Tests that
    cannot are left out of the correction, which depends on the numbers of units alone.
    """
    for count in range(1, len(tests) + 1):
        if sum(test.least <= LEVEL / count for test in tests) <= count:
            return LEVEL / count
    return LEVEL


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's method."""
    order = sorted(range(len(p)), key=lambda index: p[index])
    adjusted, worst = [1.0] * len(p), 0.0
    for place, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = worst
    return adjusted


def _test(drawn: Floats, observed: float, least: float, whole: bool, units: int, what: str) -> Test:
    """Count the arrangements that look as good as what was measured."""
    as_good = int((drawn >= observed - _SAME * max(1.0, abs(observed))).sum())
    if whole:
        return Test(as_good / len(drawn), least, units, what)
    return Test((as_good + 1) / (len(drawn) + 1), max(least, 1 / (len(drawn) + 1)), units, what)


def _least(x: Floats, y: Floats) -> float:
    """Return the share of the orders of a line that look best: more than one if numbers tie."""
    ties = [np.unique(one.round(9), return_counts=True)[1] for one in (x, y)]
    same = max(math.prod(math.factorial(int(count)) for count in counts) for counts in ties)
    return same / math.factorial(len(x))


def _rng() -> np.random.Generator:
    return np.random.default_rng(20210)
