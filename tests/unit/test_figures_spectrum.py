"""What figures say of a spectrum is what quadratures of a known matrix say of its eigenvalues."""

import math

import figure_tables as ft
import numpy as np
import pandas as pd
import pytest
import torch

from lossatlas import uncertainty
from lossatlas.curvature.density import quadrature
from lossatlas.curvature.lanczos import rademacher
from lossatlas.figures import Tables, spectrum
from lossatlas.figures.spectra import spectra
from lossatlas.spec.figures import Figure
from lossatlas.tables.collect import SEEDS, SERIES

EIGENVALUES = np.concatenate([np.geomspace(0.1, 50, 40), -np.geomspace(0.05, 5, 20)])


class Diagonal:
    """A matrix with known eigenvalues."""

    def __init__(self, values):
        self.values, self.products = torch.tensor(values), 0
        self.size, self.dtype, self.device = len(values), torch.float64, torch.device("cpu")

    def __call__(self, vector):
        self.products += 1
        return self.values * vector


def rows(values=EIGENVALUES, steps=60, replicas=3, probes=2, *, signs=True):
    """The series of replicas of one cell; the quadratures are those of the library."""
    parts = []
    for replica in range(replicas):
        random = torch.Generator().manual_seed(replica)
        for probe in range(probes):
            operator = Diagonal(values)
            start = rademacher(operator, random)
            if not signs:  # probes that weigh eigenvalues differently
                start = torch.randn(len(values), generator=random, dtype=torch.float64)
            nodes, weights = quadrature(operator, start, steps, random)
            table = {"x": nodes.numpy(), "y": weights.numpy()}
            parts.append(pd.DataFrame(table).assign(replica=replica, probe=probe))
    found = pd.concat(parts, ignore_index=True)
    place = {"experiment": "e", "cell": "c", "width": 2, "batch_size": 16, "status": "ok"}
    found = found.assign(**place, series="hessian_ritz", partner=None, stderr=math.nan, df=math.nan)
    axes = ["experiment", "cell", "width", "batch_size"]
    return found[[*axes, "series", *SEEDS, "probe", *SERIES[3:]]]


def truth(share, side):
    """The eigenvalue of the matrix beyond which that share lies."""
    ordered = np.sort(side * EIGENVALUES)[::-1]
    return ordered[math.ceil(share * len(ordered) - 1e-9) - 1]


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_signs_give_each_eigenvalue_its_share(side):
    """All entries of a probe have modulus 1: whole quadratures have weights of 1 / P each."""
    shares = np.array([1, 5, 11, 17]) / len(EIGENVALUES)
    found = spectrum.curve(spectrum.sample(rows()), shares, side)
    np.testing.assert_allclose(found.x, [truth(share, side) for share in shares], rtol=1e-6)


def test_intervals_are_those_of_the_logarithms_over_replicas():
    some = rows(steps=8, signs=False)
    shares = np.array([0.02, 0.1])
    found = spectrum.curve(spectrum.sample(some), shares, 1.0)
    for number, share in enumerate(shares):
        logs = []
        for _, replica in some.groupby("replica"):
            ordered = replica.sort_values("x", ascending=False)
            total = ordered["y"].cumsum() / 2  # of two probes
            logs.append(math.log(ordered["x"][total >= share].iloc[0]))
        over = uncertainty.mean(logs)
        low, high = np.exp(over.interval())
        assert found.x[number] == pytest.approx(math.exp(over.value))
        assert (found.low[number], found.high[number]) == pytest.approx((low, high))


def test_of_a_single_replica_probes_are_the_sample():
    found = spectrum.sample(rows(steps=8, replicas=1, probes=3, signs=False))
    assert len(found) == 3
    assert np.isfinite(spectrum.curve(found, np.array([0.05]), 1.0).low).all()
    alone = spectrum.sample(rows(steps=8, replicas=1, probes=1))
    assert np.isnan(spectrum.curve(alone, np.array([0.05]), 1.0).low).all()


@pytest.mark.parametrize("steps", [3, 6, 12, 30])
def test_bounds_hold_whatever_the_steps(steps):
    """Of probes of signs, each eigenvalue weighs 1 / P: the measure that bounds are about."""
    for _, probe in rows(steps=steps).groupby(["replica", "probe"]):
        ((nodes, weights),) = spectrum.sample(probe)
        for x in (*np.linspace(-6, 55, 40), 0.0):
            low, high = spectrum.bounds((nodes, weights), float(x))
            assert low - 1e-9 <= (x >= EIGENVALUES).mean() <= high + 1e-9


def test_bounds_are_no_wider_than_two_weights():
    nodes, weights = np.array([-1.0, 1.0, 2.0]), np.array([0.2, 0.3, 0.5])
    assert spectrum.bounds((nodes, weights), 0.0) == pytest.approx((0.0, 0.5))
    assert spectrum.bounds((nodes, weights), 1.5) == pytest.approx((0.2, 1.0))
    assert spectrum.bounds((nodes, weights), -3.0) == pytest.approx((0.0, 0.2))
    assert spectrum.bounds((nodes, weights), 3.0) == pytest.approx((0.5, 1.0))


def test_the_share_below_0_is_told_where_quadratures_know_it_alone():
    assert spectrum.below_zero(rows()) == "32–35% below 0"  # a third; 1 / 60 each way
    bulk = np.concatenate([np.geomspace(0.1, 50, 10), -np.geomspace(0.05, 5, 5), np.full(85, 1e-9)])
    assert spectrum.below_zero(rows(bulk, steps=8)) == ""
    assert spectrum.below_zero(rows().assign(y=math.nan)) == ""


def drawn(series):
    return spectra(Tables(ft.no_scalars(), series), Figure(), "width", "batch_size")


def test_numbers_are_what_is_drawn():
    figure, numbers = drawn(rows())
    assert list(numbers) == [
        *("load", "temperature", "quantity", "replica", "probe", "x", "y", "low", "high")
    ]
    assert set(numbers["quantity"]) == {"weight", "share above x", "share below −x"}
    weights = numbers[numbers["quantity"] == "weight"]
    assert sorted(weights["x"]) == sorted(rows()["x"])
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    above, below = [line for line in axes.lines if line.get_gid() == "share"]
    some = numbers[numbers["quantity"] == "share above x"]
    kept = np.isfinite(above.get_xdata())
    np.testing.assert_allclose(above.get_xdata()[kept], some["x"])
    assert (above.get_linestyle(), below.get_linestyle()) == ("-", "--")
    assert [t.get_text() for t in axes.texts if t.get_gid() == "below zero"] == ["32–35% below 0"]


def test_panels_share_their_scales():
    one = rows(steps=8)
    figure = drawn(pd.concat([one, one.assign(width=4, cell="d", x=one["x"] * 30)])).figure
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}) == 1
    assert figure.axes[0].get_xlim()[1] > 30 * 50


def test_quadratures_that_are_not_finite_are_left_out():
    some = rows(steps=8)
    some.loc[some["replica"] == 1, ["x", "y"]] = math.nan
    assert len(spectrum.sample(some)) == 2
    figure, _ = drawn(some.assign(x=math.nan, y=math.nan))
    assert not [line for line in figure.axes[0].lines if line.get_gid() == "share"]
