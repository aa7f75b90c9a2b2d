"""CKA against naive estimators, identities, and its undefined cases."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossatlas.similarity import cka, cka_matrix
from lossatlas.similarity.alignment import centre, estimates

torch.set_num_threads(1)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def naive_biased(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. (2019), from centred Gram matrices."""
    n = len(x)
    h = np.eye(n) - np.ones((n, n)) / n
    k, m = h @ x @ x.T @ h, h @ y @ y.T @ h
    return np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m))


def naive_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al. (2012): the U-statistic over all ordered quadruples of inputs."""
    terms = [
        k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(len(k)), 4)
    ]
    return float(np.mean(terms))


def naive_unbiased(x: np.ndarray, y: np.ndarray) -> float:
    k, m = x @ x.T, y @ y.T
    return naive_hsic(k, m) / np.sqrt(naive_hsic(k, k) * naive_hsic(m, m))


@pytest.mark.parametrize(("wide", "narrow"), [(3, 2), (20, 15), (20, 2), (5000, 3)])
def test_agrees_with_naive_estimators_in_feature_gram_and_mixed_space(wide, narrow):
    x = normal(7, wide) + 3.0
    y = x[:, :narrow] ** 2 + normal(7, narrow, seed=1)
    assert cka(x, y) == pytest.approx(naive_biased(x, y), abs=1e-12)
    assert cka(x, y, unbiased=True) == pytest.approx(naive_unbiased(x, y), abs=1e-10)


def test_smallest_number_of_inputs():
    x, y = normal(4, 3), normal(4, 2, seed=1)
    assert cka(x, y) == pytest.approx(naive_biased(x, y), abs=1e-12)
    assert cka(x, y, unbiased=True) == pytest.approx(naive_unbiased(x, y), abs=1e-10)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("width", [4, 60])
def test_invariances(width, unbiased):
    x, y = normal(30, width), normal(30, width + 1, seed=1) + normal(30, 1)
    rotation = np.linalg.qr(normal(width, width, seed=2))[0]
    value = cka(x, y, unbiased=unbiased)
    assert cka(x, x, unbiased=unbiased) == pytest.approx(1.0, abs=1e-12)
    assert cka(y, x, unbiased=unbiased) == pytest.approx(value, abs=1e-12)
    changed = 1e-3 * (x @ rotation) + 5.0
    assert cka(x, changed, unbiased=unbiased) == pytest.approx(1.0, abs=1e-9)
    assert cka(changed, y, unbiased=unbiased) == pytest.approx(value, abs=1e-9)
    skewed = x * np.linspace(1.0, 9.0, width)  # not a linear invariance: only rotation and scale
    assert abs(cka(skewed, y, unbiased=unbiased) - value) > 1e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 12), st.integers(1, 14), st.integers(1, 14), st.integers(0, 10**6))
def test_bounds(n, wide, narrow, seed):
    x, y = normal(n, wide, seed=seed), normal(n, narrow, seed=seed + 1)
    assert -1e-12 <= cka(x, y) <= 1 + 1e-12
    debiased = cka(x, y, unbiased=True)
    assert np.isnan(debiased) or abs(debiased) <= 1 + 1e-9


def test_unbiased_is_near_zero_on_independent_features_and_biased_is_not():
    pairs = [(normal(32, 64, seed=2 * i), normal(32, 64, seed=2 * i + 1)) for i in range(20)]
    biased = np.mean([cka(x, y) for x, y in pairs])
    unbiased = [cka(x, y, unbiased=True) for x, y in pairs]
    assert biased > 0.5
    assert abs(np.mean(unbiased)) < 0.02
    assert min(unbiased) < 0  # small negative values are legal


def test_matrix_is_symmetric_with_ones():
    features = [normal(12, 3, seed=i) for i in range(3)]
    matrix = cka_matrix(features, unbiased=True)
    assert matrix.dtype == torch.float64
    assert torch.equal(matrix, matrix.T)
    assert matrix.diagonal().numpy() == pytest.approx(np.ones(3), abs=1e-12)
    assert matrix[0, 2].item() == cka(features[0], features[2], unbiased=True)


def test_images_are_flattened_and_float32_is_summed_in_float64():
    x = torch.as_tensor(normal(9, 2, 3, 3)).float()
    flat = x.flatten(1).double().numpy()
    assert cka(x, x.square()) == pytest.approx(naive_biased(flat, flat**2), abs=1e-7)
    vector = normal(9)
    assert cka(vector, vector**2) == pytest.approx(
        naive_biased(vector[:, None], vector[:, None] ** 2)
    )


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1e20, 1e150])
def test_no_overflow_or_underflow(scale):
    x, y = normal(8, 3), normal(8, 3, seed=1)
    assert cka(x * scale, y) == pytest.approx(cka(x, y), abs=1e-12)


@pytest.mark.parametrize("width", [3, 40])
def test_constant_features_have_no_similarity(width):
    constant = torch.full((16, width), 0.1)
    rounding = constant * (1 + 1e-7 * torch.as_tensor(normal(16, width)).sign().float())
    other = torch.as_tensor(normal(16, width)).float()
    for dead in (torch.zeros(16, width), constant, rounding):
        for estimate in estimates([centre(dead), centre(other), centre(other + other**2)]):
            assert torch.isnan(estimate[0]).all()
            assert torch.isnan(estimate[:, 0]).all()
            assert torch.isfinite(estimate[1:, 1:]).all()


def test_small_but_real_variation_counts():
    x = torch.as_tensor(normal(16, 3)).float()
    assert cka(1.0 + 1e-4 * x, x) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_features_have_no_similarity(bad):
    x = normal(8, 3)
    x[2, 1] = bad
    assert np.isnan(cka(x, normal(8, 3)))


def test_equidistant_inputs_have_no_unbiased_self_similarity():
    x = np.eye(6)  # all distances equal: the off-diagonal Gram matrix carries nothing
    assert cka(x, x) == pytest.approx(1.0)
    assert np.isnan(cka(x, x, unbiased=True))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="at least 4 inputs, not 3"):
        cka(normal(3, 2), normal(3, 2))
    with pytest.raises(ValueError, match="same inputs"):
        cka(normal(5, 2), normal(6, 2))
    with pytest.raises(ValueError, match="same inputs"):
        cka_matrix([])
