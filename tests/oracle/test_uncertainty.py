"""Standard errors against closed forms, against simulation, and where there are none."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from intervals import of_cells, of_runs
from intervals.coverage import simulate
from lossatlas import uncertainty
from lossatlas.diffusion.measure import FIRST
from lossatlas.diffusion.replicas import with_means
from lossatlas.store import Record, Scalar, Series
from lossatlas.tables.collect import cell_summary, scalar_frame

QUICK = [case for case in (*of_cells.cases(), *of_runs.cases()) if case.quick]
PAIRS = {n: list(combinations(range(n), 2)) for n in (2, 3, 4, 5, 6)}


@pytest.mark.parametrize("case", QUICK, ids=lambda case: f"{case.error}: {case.data}")
def test_intervals_cover(case):
    found = simulate(case, 2000 if case.error.startswith("mean over") else 300)
    assert found.undefined < 0.02
    assert found.fine, found
    assert found.width < 4, found  # nobody covers by being vague


def test_a_mean_is_that_of_student():
    numbers = [1.0, 2.0, 6.0, 3.0]
    found = uncertainty.mean(numbers)
    expected = stats.t.interval(0.9, 3, np.mean(numbers), stats.sem(numbers))
    assert found.interval(0.9) == pytest.approx(expected)
    assert (found.df, found.count, found.status) == (3, 4, "ok")


@pytest.mark.parametrize("count", [4, 5, 6])
def test_all_pairs_have_the_variance_of_a_u_statistic(count):
    """Of Hoeffding's decomposition by two-way analysis of variance, unbiased."""
    random = np.random.default_rng(count)
    effect = 3 * random.normal(size=count)
    pairs = PAIRS[count]
    numbers = np.array([effect[i] + effect[j] + 0.1 * random.normal() for i, j in pairs])
    design = np.array([[float(r in pair) for r in range(count)] for pair in pairs])
    rest = numbers - design @ np.linalg.lstsq(design, numbers, rcond=None)[0]
    total = np.square(numbers - numbers.mean()).sum()
    between = (total - rest @ rest) / (count - 1)
    within = rest @ rest / (len(pairs) - count)
    expected = 4 * between / (count * (count - 2)) - 2 * within / ((count - 1) * (count - 2))
    found = uncertainty.mean_of_groups(numbers, pairs)
    assert found.stderr**2 == pytest.approx(expected)
    assert found.df == pytest.approx(count - 1, rel=0.01)


def test_three_pairs_are_the_jackknife_over_replicas():
    numbers = [0.3, 0.5, 0.9]  # of 01, 02, 12: each is what is left without a replica
    found = uncertainty.mean_of_groups(numbers, PAIRS[3])
    jackknife = uncertainty.jackknife(found.value, numbers)
    assert (found.stderr, found.df) == pytest.approx((jackknife.stderr, 2))


def test_groups_that_share_nothing_are_independent():
    numbers = [0.3, 0.5, 0.9]
    alone = uncertainty.mean(numbers)
    for members in ([(0, 1), (2, 3), (4, 5)], [(0,), (1,), (2,)], [(), (), ()]):
        found = uncertainty.mean_of_groups(numbers, members)
        assert (found.value, found.stderr, found.df) == pytest.approx(
            (alone.value, alone.stderr, 2)
        )
    two = uncertainty.mean_of_groups([1.0, 2.0], [(0, 1), (2, 3)])
    assert (two.stderr, two.df) == pytest.approx((0.5, 1))


def test_pairs_alone_would_be_too_sure():
    """The usual error of pairs, as if they were independent, is half of what it should be."""
    pairs, random = PAIRS[5], np.random.default_rng(0)
    effects = random.normal(size=(2000, 5))
    numbers = np.stack([effects[:, i] + effects[:, j] for i, j in pairs], axis=1)
    claimed = np.mean([uncertainty.mean_of_groups(row, pairs).stderr ** 2 for row in numbers])
    naive = (numbers.var(axis=1, ddof=1) / len(pairs)).mean()
    true = numbers.mean(axis=1).var()
    assert claimed == pytest.approx(true, rel=0.1)
    assert naive < 0.4 * true


@pytest.mark.parametrize("numbers", [[2.0], [2.0, 2.0], [0.1, 0.1, 0.1], [0.0, 0.0]])
def test_one_number_or_equal_ones_have_no_error(numbers):
    count = len(numbers)
    found = [
        uncertainty.mean(numbers),
        uncertainty.mean_of_groups(numbers, [(k, k + 1) for k in range(count)]),
        uncertainty.jackknife(numbers[0], numbers),
    ]
    for one in found:
        assert one.value == pytest.approx(numbers[0])
        assert math.isnan(one.stderr)
        assert one.status == "undefined"
        assert all(map(math.isnan, one.interval()))


def test_nothing_at_all():
    for one in (uncertainty.mean([]), uncertainty.mean_of_groups([], [])):
        assert math.isnan(one.value)
        assert one.status == "undefined"
    assert math.isnan(uncertainty.logarithm(uncertainty.mean([-1.0, 2.0, -5.0])).value)
    assert np.isnan(uncertainty.half_width([1.0, math.nan, 1.0], [0.0, 3.0, math.nan])).all()
    assert uncertainty.half_width(1.0, math.inf) == pytest.approx(1.959964)


# What an atlas may hold: name -> rows of one cell.
BAD = {
    "one replica": [Scalar("train_loss", 1.0, 0), Scalar("hessian_trace", 3.0, 0)],
    "one pair": [Scalar("cka", 0.5, 0, 1)],
    "two equal replicas": [Scalar("train_loss", 1.0, 0), Scalar("train_loss", 1.0, 1)],
    "constant pairs": [Scalar("cka", 0.7, *pair) for pair in PAIRS[3]],
    "all diverged": [Scalar("train_loss", math.nan, seed, status="diverged") for seed in (0, 1)],
    "nothing measured": [Scalar("train_loss", math.nan, 0, status="undefined")],
}


@pytest.mark.parametrize("name", BAD)
def test_cells_without_an_error_say_so(name):
    table = scalar_frame("e", {"c": {"width": 1}}, {"c": BAD[name]})
    for row in cell_summary(table).itertuples():
        assert math.isnan(row.stderr)
        assert row.stderr_status == "undefined"


def test_numbers_that_did_not_converge_have_errors_and_say_so():
    rows = [Scalar("train_loss", v, seed, status="unconverged") for seed, v in enumerate((1.0, 2))]
    (row,) = cell_summary(scalar_frame("e", {"c": {"width": 1}}, {"c": rows})).itertuples()
    assert (row.status, row.stderr, row.df) == ("unconverged", 0.5, 1)


def of_windows(values, seeds=(0, 1, 2), status="ok"):
    """A record of one number in two windows, with errors of blocks."""
    scalars = [
        Scalar("exponent_first", value, seed, stderr=9.0, df=4.0, status=status)
        for seed, value in zip(seeds, values, strict=True)
    ]
    x, error = np.array([0.0, 480.0]), np.array([9.0, 9.0])
    series = [
        Series("exponent", x, x + value, FIRST, seed, stderr=error, df=error * 0 + 4)
        for seed, value in zip(seeds, values, strict=True)
    ]
    return with_means(Record("diffusion", scalars, series), FIRST)


def test_replicas_take_the_place_of_blocks():
    found = of_windows([1.0, 2.0, 6.0])
    mean = found.scalar("exponent_first_mean")
    assert (mean.value, mean.df, mean.replica) == (3, 2, None)
    assert mean.stderr == pytest.approx(stats.sem([1, 2, 6]))
    assert all(math.isnan(s.stderr) for s in found.scalars if s.name == "exponent_first")
    (over,) = [curve for curve in found.series if curve.name == "exponent_mean"]
    assert over.y.tolist() == [3, 483]
    np.testing.assert_allclose(over.stderr, stats.sem([1, 2, 6]))
    assert over.df.tolist() == [2, 2]
    assert all(curve.stderr is None for curve in found.series if curve is not over)


def test_one_replica_keeps_the_errors_of_blocks():
    found = of_windows([1.0], (0,))
    assert found.scalar("exponent_first").stderr == 9
    assert len(found.scalars) == len(found.series) == 1


@pytest.mark.parametrize(
    ("values", "status", "expected"),
    [([1.0, 1.0, 1.0], "ok", "ok"), ([math.nan] * 3, "diverged", "diverged"),
     ([math.nan] * 3, "undefined", "undefined"), ([1.0, 1.0, 1.0], "unconverged", "unconverged")],
)  # fmt: skip
def test_means_of_windows_without_an_error(values, status, expected):
    mean = of_windows(values, status=status).scalar("exponent_first_mean")
    assert math.isnan(mean.stderr)
    assert mean.status == expected


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_of_shares_are_wilsons(level: float) -> None:
    cases = [(0, 36), (36, 36), (20, 36), (1, 3)]
    found = uncertainty.proportion(*zip(*cases, strict=True), level=level)
    for place, (right, count) in enumerate(cases):
        wanted = stats.binomtest(right, count).proportion_ci(level, method="wilson")
        ends = (float(found[0][place]), float(found[1][place]))
        assert ends == pytest.approx((wanted.low, wanted.high), abs=1e-12)
