"""Barycentric sampling against exact maps and moments."""

import numpy as np
import pytest
import torch
from scipy import stats

from lossatlas.simplex import sampling
from lossatlas.training.seeds import generator

EXACT = [
    ((0.5, 0.25, 0.125), (1 / 6, 1 / 3, 1 / 2)),
    ((0.5, 0.5), (0.5, 0.5)),
    ((0.9, 0.5, 0.1, 0.01), (0.01367206, 0.08994595, 0.29879399, 0.59758799)),
]


@pytest.mark.parametrize(("u", "weights"), EXACT)
def test_exact_map(u: tuple, weights: tuple) -> None:
    found = sampling.barycentric(torch.tensor(u))
    np.testing.assert_allclose(found.numpy(), weights, atol=5e-8)


@pytest.mark.parametrize("k", [2, 3, 4, 5, 10])
def test_moments(k: int) -> None:
    w = sampling.uniform(200_000, k, generator("moments", k)).numpy()
    np.testing.assert_allclose(w.sum(1), 1.0, atol=1e-12)
    error = np.sqrt((k - 1) / (k**2 * (k + 1)) / len(w))
    np.testing.assert_allclose(w.mean(0), 1 / k, atol=4 * error)
    np.testing.assert_allclose(w.var(0), (k - 1) / (k**2 * (k + 1)), rtol=0.03)
    np.testing.assert_allclose(np.cov(w.T)[0, 1], -1 / (k**2 * (k + 1)), rtol=0.06)
    assert (w**2).sum(1).mean() == pytest.approx(2 / (k + 1), rel=0.01)
    assert w.max(1).mean() == pytest.approx(sum(1 / i for i in range(1, k + 1)) / k, rel=0.01)
    assert w.min(1).mean() == pytest.approx(1 / k**2, rel=0.02)
    assert stats.kstest(w[:20_000, 0], stats.beta(1, k - 1).cdf).pvalue > 1e-3


def test_two_simplexes_of_equal_volume() -> None:
    equal = torch.tensor([0.5, 0.5], dtype=torch.float64)
    w = sampling.in_complex([(0, 2, 3), (1, 2, 3)], equal, 100_000, 4, generator("two")).numpy()
    np.testing.assert_allclose(w.mean(0), [1 / 6, 1 / 6, 1 / 3, 1 / 3], atol=4e-3)
    assert np.mean(w[:, 0] > 0) == pytest.approx(0.5, abs=0.01)
    assert not np.any((w[:, 0] > 0) & (w[:, 1] > 0))


def test_simplexes_of_unequal_size_and_volume() -> None:
    portions = sampling.shares([np.log(1.0), np.log(3.0)])
    torch.testing.assert_close(portions, torch.tensor([0.25, 0.75]).double())
    w = sampling.in_complex([(0, 1), (1, 2, 3)], portions, 50_000, 4, generator("parts")).numpy()
    first = w[:, 0] > 0
    assert first.mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(w.sum(1), 1.0, atol=1e-12)
    assert w[first, 0].mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(w[~first, 1:].mean(0), 1 / 3, atol=0.01)


def test_shares_of_degenerate_simplexes() -> None:
    inf = float("inf")
    assert sampling.shares([-inf, -inf]).tolist() == [0.5, 0.5]
    assert sampling.shares([-inf, -900.0]).tolist() == [0.0, 1.0]
    assert sampling.shares([float("nan"), 2.0]).tolist() == [0.0, 1.0]


def test_the_largest_draw_is_finite() -> None:
    assert torch.isfinite(sampling.barycentric(torch.ones(3))).all()


def test_bad_counts() -> None:
    with pytest.raises(ValueError, match="0 vertices"):
        sampling.uniform(3, 0, generator("none"))
    with pytest.raises(ValueError, match="no simplex"):
        sampling.shares([])
