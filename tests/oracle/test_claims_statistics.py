"""Exact tests against scipy's, against enumeration by hand, and at their level."""

import math
from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from lossatlas.claims import statistics
from lossatlas.claims.statistics import (
    Test,
    all_of,
    along_lines,
    below_zero,
    closer_to,
    from_error,
    holm,
    interval,
    jackknife,
    larger_than_rest,
    reachable,
    rearranged,
    within,
)

Test.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for a class of tests
RNG = np.random.default_rng(3)


def test_signs_are_flipped_in_all_ways() -> None:
    gaps = np.array([-1.0, -2.0, 0.7, -4.0, -0.4, 0.2])
    found = below_zero(gaps, "pairs")
    as_good = [np.dot(s, np.abs(gaps)) <= gaps.sum() + 1e-12 for s in product((-1, 1), repeat=6)]
    assert found.p == pytest.approx(np.mean(as_good))
    assert (found.least, found.units, found.what) == (1 / 64, 6, "pairs")
    theirs = stats.permutation_test(
        (gaps,), np.mean, permutation_type="samples", alternative="less", n_resamples=np.inf
    )
    assert found.p == pytest.approx(theirs.pvalue)
    assert below_zero(-np.ones(5), "").p == 1 / 32
    assert below_zero(np.ones(5), "").p == 1


def test_the_sign_of_next_to_nothing_decides_nothing() -> None:
    """4 clear gaps and one of -0.0000 are 4 pairs, as they are with one of +0.0000."""
    some = [-0.003, -0.004, -0.002, -0.005]
    below, above = (below_zero(np.array([*some, tiny]), "pairs") for tiny in (-1e-9, 1e-9))
    assert below == above
    assert below.p == below.least == 1 / 16
    nothing = below_zero(np.zeros(6), "pairs")
    assert (nothing.p, nothing.least) == (1, 1)


def test_many_gaps_are_drawn() -> None:
    gaps = RNG.normal(-0.5, 1, size=25)
    found = below_zero(gaps, "pairs")
    theirs = stats.wilcoxon(gaps, alternative="less").pvalue
    assert found.p == pytest.approx(theirs, abs=0.02)
    assert found.least == 1 / 10_000
    assert below_zero(gaps, "pairs") == found  # seeded


def test_lines_are_permuted_each_by_itself() -> None:
    x = [np.arange(4.0), np.arange(3.0)]
    y = [np.array([1.0, 3.0, 2.0, 9.0]), np.array([5.0, 4.0, 8.0])]

    def mean(a: tuple, b: tuple) -> float:
        return float(np.mean([stats.spearmanr(x[0], a)[0], stats.spearmanr(x[1], b)[0]]))

    observed = mean(tuple(y[0]), tuple(y[1]))
    every = [mean(a, b) for a, b in product(permutations(y[0]), permutations(y[1]))]
    found = along_lines(x, y, "cells")
    assert found.p == pytest.approx(np.mean(np.array(every) >= observed - 1e-9))
    assert found.least == pytest.approx(1 / (24 * 6))
    assert found.units == 7


def test_ties_leave_fewer_orders() -> None:
    tied = along_lines([np.arange(4.0)], [np.array([1.0, 1.0, 1.0, 2.0])], "cells")
    assert tied.p == tied.least == 0.25
    flat = along_lines([np.arange(4.0)], [np.ones(4)], "cells")
    assert (flat.p, flat.least) == (1, 1)


def test_a_long_line_against_scipy() -> None:
    x = np.arange(12.0)
    y = x + 6 * RNG.normal(size=12)
    theirs = stats.permutation_test(
        (y,),
        lambda one: stats.spearmanr(x, one)[0],
        permutation_type="pairings",
        alternative="greater",
        n_resamples=2000,
        rng=np.random.default_rng(0),
    )
    assert along_lines([x], [y], "cells").p == pytest.approx(theirs.pvalue, abs=0.02)


def test_a_group_against_the_rest() -> None:
    values, chosen = np.array([1.0, 2, 3, 10, 11]), np.array([0, 0, 0, 1, 1], bool)
    found = larger_than_rest(values, chosen, "cells")
    assert (found.p, found.least, found.units) == (0.1, 0.1, 2)
    wide = RNG.normal(size=40)
    group = np.arange(40) < 12
    wide[group] += 0.5
    theirs = stats.ttest_ind(wide[group], wide[~group], alternative="greater").pvalue
    assert larger_than_rest(wide, group, "cells").p == pytest.approx(theirs, abs=0.03)
    assert larger_than_rest(np.ones(5), chosen, "cells").least == 1


def test_which_of_two_goes_with_a_third() -> None:
    target = RNG.normal(size=30)
    near, far = -target + 0.1 * RNG.normal(size=30), RNG.normal(size=30)
    assert closer_to(target, near, far, "cells").p < 0.001
    assert closer_to(target, far, near, "cells").p > 0.99
    assert closer_to(target, near, near, "cells").least == 1


def test_all_of_several() -> None:
    both = all_of(Test(0.01, 0.001, 9, "a"), Test(0.2, 0.03, 4, "b"))
    assert both == Test(0.2, 0.03, 4, "b")


def test_a_measure_of_permuted_lines_against_scipy() -> None:
    """Spearman's rho of one line, in all orders and drawn; a constant measure has no test."""
    x, y = np.arange(6.0), np.array([1.0, 3.0, 2.0, 5.0, 4.0, 6.0])

    def product_with_x(lines: object) -> np.ndarray:
        (line,) = lines  # type: ignore[misc]
        return line @ x

    found = rearranged([y], product_with_x, "cells")
    theirs = stats.permutation_test(
        (y,), lambda one: one @ x, permutation_type="pairings", alternative="greater"
    )
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.least, found.units) == (pytest.approx(1 / 720), 6)
    long = RNG.normal(size=12)
    drawn = rearranged([long], lambda lines: lines[0] @ np.arange(12.0), "cells")
    assert drawn.p == pytest.approx(
        along_lines([np.arange(12.0)], [long], "", ranks=False).p, abs=0.02
    )
    nothing = rearranged([y, x], lambda lines: np.zeros(max(len(line) for line in lines)), "cells")
    assert (nothing.p, nothing.least, nothing.units) == (1, 1, 12)


def test_equivalence_is_two_tests_of_one_side() -> None:
    near = RNG.normal(0, 0.1, size=8)
    assert within(near, 1.0, "lines").p == 2**-8
    assert within(near + 1.0, 1.0, "lines").p > 0.05
    assert within(near - 1.5, 1.0, "lines").p == 1
    both = below_zero(near - 0.05, ""), below_zero(-near - 0.05, "")
    assert within(near, 0.05, "").p == max(one.p for one in both)


def test_an_average_with_its_error() -> None:
    found = from_error(-0.6, 0.2, 4, 5, "surfaces")
    assert found.p == pytest.approx(stats.t.sf(3, 4))
    assert from_error(-0.6, 0.0, 4, 5, "surfaces").least == 1


def test_intervals() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0])
    theirs = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert interval(values) == pytest.approx(theirs)
    assert all(map(math.isnan, interval(values[:1])))
    left_out = np.array([np.delete(values, k).mean() for k in range(4)])
    assert jackknife(values.mean(), left_out) == pytest.approx(theirs)  # the jackknife of a mean
    assert all(map(math.isnan, jackknife(1.0, np.array([1.0, np.nan]))))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1, 1]


def test_claims_that_cannot_reach_the_level_do_not_count() -> None:
    def of(*least: float) -> float:
        return reachable([Test(1, one, 5, "") for one in least])

    assert of(1 / 32) == 0.05
    assert of(1 / 32, 1 / 32) == 0.025  # neither can
    assert of(1 / 32, 0.001, 0.001) == 0.025  # two can
    assert of(*[1 / 256] * 12) == pytest.approx(0.05 / 12)  # eight pairs do for twelve claims
    assert of(*[1 / 256] * 13) < 1 / 256
    assert of() == 0.05


@pytest.mark.parametrize("count", [5, 8, 40])
def test_levels_are_kept(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In no more than a twentieth of draws of noise p is 0.05 or less, counted or drawn."""
    monkeypatch.setattr(statistics, "DRAWS", 399)
    rng = np.random.default_rng(count)
    half = np.arange(count) < count // 2
    found = np.array(
        [
            [
                below_zero(x, "").p,
                along_lines([np.arange(count)], [x], "").p,
                larger_than_rest(x, half, "").p,
                closer_to(x, y, z, "").p,
            ]
            for x, y, z in rng.standard_t(3, size=(300, 3, count))
        ]
    )
    most = stats.binom.ppf(0.999, 300, 0.05)
    assert ((found <= 0.05).sum(axis=0) <= most).all()
