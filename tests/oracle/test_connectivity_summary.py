"""Signs and traps of the one number for a path; which replicas are connected."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossatlas.connectivity import extremes, pairs_of
from lossatlas.connectivity.summary import linear_barrier
from lossatlas.errors import UserError
from lossatlas.metrics.connectivity import Connectivity

T5 = np.linspace(0, 1, 5)
SHAPES = [
    ([0, 0, 0, 0, 0], 0, 0, 0),
    ([3, 3, 3, 3, 3], 0, 0, 0),
    ([2, 4, 7, 3, 2], -5, 0, 5),
    ([9, 7, 5, 6, 9], 4, 4, 0),
    ([5, 0, 6, 5, 5], 5, 5, 1),
    ([5, 4, 9, 5, 5], -4, 1, 4),
]


@pytest.mark.parametrize("reference", ["mean", "line"])
@pytest.mark.parametrize(("errors", "mc", "dip", "bump"), SHAPES)
def test_equal_ends(errors, mc, dip, bump, reference):
    found = extremes(T5, np.array(errors), reference)
    assert found == (mc, dip, bump)
    assert math.copysign(1, found.connectivity) == (-1 if mc < 0 else 1)


def test_unequal_ends_of_a_flat_slope_are_no_barrier():
    errors = np.array([0, 22.5, 45, 67.5, 90.0])
    assert extremes(T5, errors, "line") == (0, 0, 0)
    assert extremes(T5, errors, "mean").connectivity == 45  # the trap: the first of two ends wins
    assert extremes(T5, errors[::-1], "mean").connectivity == -45


def test_one_dead_end_and_a_good_path():
    errors = np.array([40.0, 40, 40, 40, 90])
    assert extremes(T5, errors, "mean").connectivity == 25
    assert extremes(T5, errors[::-1], "mean").connectivity == -25  # the direction decides the sign
    assert extremes(T5, errors, "line") == extremes(T5, errors[::-1], "line") == (37.5, 37.5, 0)


def test_the_first_of_equal_extremes_counts():
    assert extremes(T5, np.array([5, 7, 5, 3, 5.0])).connectivity == -2
    assert extremes(T5, np.array([5, 3, 5, 7, 5.0])).connectivity == 2


def test_paper_formula_in_words():
    random = np.random.default_rng(0)
    for errors in random.uniform(0, 90, (200, 5)):
        middle = (errors[0] + errors[4]) / 2
        away = [abs(e - middle) for e in errors]
        expected = middle - errors[away.index(max(away))]
        assert extremes(T5, errors, "mean").connectivity == pytest.approx(expected)


@settings(deadline=None)  # for machines with other work
@given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_properties(errors):
    values, t = np.array(errors), np.linspace(0, 1, len(errors))
    found = extremes(t, values)
    assert found.dip >= 0
    assert found.bump >= 0
    assert abs(found.connectivity) == max(found.dip, found.bump)
    back = extremes(t, values[::-1])
    assert (back.dip, back.bump) == pytest.approx((found.dip, found.bump), abs=1e-9)
    assert linear_barrier(t, values) == found.bump


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_makes_no_number(bad):
    assert all(map(math.isnan, extremes(T5, np.array([1, 2, bad, 2, 1]))))
    assert math.isnan(linear_barrier(T5, np.array([bad, 2, 2, 2, 1])))


def test_bad_places():
    for t in ([0, 0.5, 0.5, 1], [0, 0.2, 0.3, 0.9], [0.1, 0.2, 0.3, 1]):
        with pytest.raises(ValueError, match="increase from 0 to 1"):
            extremes(np.array(t), np.zeros(4))
    with pytest.raises(ValueError, match="as many values"):
        extremes(T5, np.zeros(4))
    with pytest.raises(ValueError, match="at least 2"):
        extremes(np.zeros(1), np.zeros(1))


SEEDS = [3, 0, 7, 5]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pairs": "chain"}, [(0, 3), (3, 5), (5, 7)]),
        ({"pairs": "first"}, [(0, 3)]),
        ({"pairs": "all"}, [(0, 3), (0, 5), (0, 7), (3, 5), (3, 7), (5, 7)]),
        ({"pairs": [[7, 3], [0, 5]]}, [(3, 7), (0, 5)]),
        ({"mode": "paper"}, [(0, 3)]),
    ],
)
def test_pairs(settings, expected):
    assert pairs_of(Connectivity(**settings), SEEDS) == expected


@pytest.mark.parametrize("pairs", ["chain", "first", "all"])
def test_one_replica_has_no_pairs(pairs):
    assert pairs_of(Connectivity(pairs=pairs), [4]) == []


def test_a_pair_of_an_unknown_seed():
    with pytest.raises(UserError, match="no replica 9") as caught:
        pairs_of(Connectivity(pairs=[[0, 9]]), SEEDS)
    assert "0, 3, 5, 7" in str(caught.value)
    assert caught.value.where == "connectivity: pairs"
