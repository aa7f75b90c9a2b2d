"""Coefficients, lengths and statistics of curves, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lossatlas.connectivity import coefficients, statistics, straight_line
from lossatlas.connectivity.curves import Curve, straight

CASES = [
    ("bezier", 1, 0.1, [0.81, 0.18, 0.01]),
    ("bezier", 1, 0.25, [0.5625, 0.375, 0.0625]),
    ("bezier", 1, 0.5, [0.25, 0.5, 0.25]),
    ("bezier", 1, 0.75, [0.0625, 0.375, 0.5625]),
    ("bezier", 2, 0.1, [0.729, 0.243, 0.027, 0.001]),
    ("bezier", 2, 0.5, [0.125, 0.375, 0.375, 0.125]),
    ("bezier", 3, 0.25, [0.31640625, 0.421875, 0.2109375, 0.046875, 0.00390625]),
    ("polygon", 1, 0.1, [0.8, 0.2, 0]),
    ("polygon", 1, 0.25, [0.5, 0.5, 0]),
    ("polygon", 1, 0.5, [0, 1, 0]),
    ("polygon", 1, 0.75, [0, 0.5, 0.5]),
    ("polygon", 2, 0.1, [0.7, 0.3, 0, 0]),
    ("polygon", 2, 0.5, [0, 0.5, 0.5, 0]),
    ("polygon", 3, 0.25, [0, 1, 0, 0, 0]),
]


@pytest.mark.parametrize(("kind", "bends", "t", "expected"), CASES)
def test_coefficients(kind, bends, t, expected):
    assert coefficients(kind, bends, t) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("kind", ["bezier", "polygon"])
@pytest.mark.parametrize("bends", [0, 1, 2, 5])
def test_coefficients_sum_to_one_and_end_in_unit_vectors(kind, bends):
    t = np.linspace(0, 1, 37)
    weights = coefficients(kind, bends, t)
    assert weights.shape == (37, bends + 2)
    assert weights.sum(1) == pytest.approx(np.ones(37))
    assert (weights >= 0).all()
    first, last = np.eye(bends + 2)[[0, -1]]
    assert (weights[0] == first).all()
    assert (weights[-1] == last).all()


@pytest.mark.parametrize("kind", ["bezier", "polygon"])
def test_no_bend_is_the_straight_line(kind):
    assert coefficients(kind, 0, 0.3) == pytest.approx([0.7, 0.3])


def test_bad_curves():
    with pytest.raises(ValueError, match="'spline'"):
        coefficients("spline", 1, 0.5)
    with pytest.raises(ValueError, match="-1"):
        coefficients("bezier", -1, 0.5)


def plane(kind: str) -> Curve:
    controls = torch.tensor([[0.0, 0.0], [1.0, 2.0], [4.0, 0.0]], dtype=torch.float64)
    return Curve(kind, controls, {"w": torch.Size([2])}, ({}, {}))


def walk(kind: str, points: int):
    curve, t = plane(kind), np.linspace(0, 1, points)
    values = np.array([float((curve.at(p)[0]["w"] ** 2).sum()) / 10 for p in t])
    steps = curve.step_lengths(t)
    return values, steps, statistics(values, steps)


def test_statistics_of_a_bezier_curve():
    values, steps, found = walk("bezier", 5)
    assert values == pytest.approx([0, 0.0953125, 0.325, 0.7453125, 1.6])
    assert steps == pytest.approx([0.97628121, 0.91001374, 1.15244306, 1.56624551], abs=1e-8)
    assert steps.sum() == pytest.approx(4.6049835136)
    assert found == pytest.approx((0, 1.6, 0.553125, 0.5844050602))


def test_statistics_of_a_fine_bezier_curve():
    _, steps, found = walk("bezier", 61)
    assert steps.sum() == pytest.approx(4.6392652471)
    assert found.integral == pytest.approx(0.5638258707)
    assert found.average == pytest.approx(0.4722404321)


def test_statistics_of_a_polygon():
    values, steps, found = walk("polygon", 5)
    assert values == pytest.approx([0, 0.125, 0.5, 0.725, 1.6])
    assert steps.sum() == pytest.approx(math.sqrt(5) + math.sqrt(13))
    assert found.average == pytest.approx(0.59)
    assert found.integral == pytest.approx(0.6195524470)


def test_length_and_distance():
    assert plane("polygon").length() == pytest.approx(math.sqrt(5) + math.sqrt(13))
    assert plane("bezier").distance() == pytest.approx(4.0)
    # the integral of |gamma'| = 2 |(1 + 2 t, 2 - 4 t)|
    fine = np.linspace(0, 1, 200_001)
    speed = 2 * np.hypot(1 + 2 * fine, 2 - 4 * fine)
    assert plane("bezier").length() == pytest.approx(np.trapezoid(speed, fine), rel=1e-6)
    assert straight(plane("bezier")).length() == pytest.approx(4.0)


def test_lengths_are_exact_for_close_points_far_from_the_origin():
    ends = torch.tensor([[1000.0, 0.0], [1000.0, 2**-10]])
    assert Curve("polygon", ends, {"w": torch.Size([2])}, ({}, {})).length() == 2**-10


def test_statistics_of_a_path_without_length():
    found = statistics(np.array([1.0, 3.0]), np.array([0.0]))
    assert found[:3] == (1, 3, 2)
    assert math.isnan(found.integral)
    with pytest.raises(ValueError, match="need 1 steps"):
        statistics(np.array([1.0, 3.0]), np.array([0.0, 1.0]))


def test_ends_are_the_networks_bit_for_bit_even_where_a_bend_is_not_finite():
    first = {"a": torch.tensor([-0.0, 1e-40]), "b": torch.tensor([[3.0]])}
    last = {"a": torch.tensor([0.1, -0.0]), "b": torch.tensor([[-7.0]])}
    line = straight_line((first, {"n": torch.tensor(1)}), (last, {"n": torch.tensor(2)}))
    bend = torch.full((1, 3), math.nan)
    controls = torch.cat([line.controls[:1], bend, line.controls[1:]])
    curve = Curve("bezier", controls, line.shapes, line.buffers)
    for t, params, number in ((0.0, first, 1), (1.0, last, 2)):
        found, buffers = curve.at(t)
        for name, value in params.items():
            assert found[name].view(torch.int32).equal(value.view(torch.int32))
        assert buffers["n"] == number
    assert not curve.finite
    assert line.finite


def test_networks_that_do_not_match():
    one, two = {"a": torch.zeros(2)}, {"b": torch.zeros(2)}
    with pytest.raises(ValueError, match="only one"):
        straight_line((one, {}), (two, {}))
    with pytest.raises(ValueError, match="'a' has the shapes"):
        straight_line((one, {}), ({"a": torch.zeros(3)}, {}))
    with pytest.raises(ValueError, match="2 types"):
        straight_line((one, {}), ({"a": torch.zeros(2, dtype=torch.float64)}, {}))
