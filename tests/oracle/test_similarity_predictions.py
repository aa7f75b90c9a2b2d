"""Predictions against closed forms, torch, torchmetrics and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
)

from lossatlas.similarity import predictions as p

A = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
B = np.log([[0.5, 0.4, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8]])
LABELS = np.array([0, 1, 0])


def scores(n: int = 50, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return 3 * random.normal(size=(n, classes)), random.integers(classes, size=n)


def test_mixture_of_two_members():
    mixture = p.ensemble_log_probs(np.stack([A, B]))
    assert np.exp(mixture) == pytest.approx((np.exp(A) + np.exp(B)) / 2)
    assert p.nll(A, LABELS) == pytest.approx(0.5945970999, abs=1e-10)
    assert p.nll(B, LABELS) == pytest.approx(1.3040076685, abs=1e-10)
    assert p.nll(mixture, LABELS) == pytest.approx(0.8770297200, abs=1e-10)
    assert p.nll(p.log_softmax((A + B) / 2), LABELS) == pytest.approx(0.8793349408, abs=1e-10)
    assert p.accuracy(mixture, LABELS) == pytest.approx(200 / 3)
    assert p.disagreement(A, B) == 0.0


def test_mixture_far_below_the_smallest_float():
    deep = np.array([[[-2000.0, 0.0]], [[-2001.0, 0.0]]])
    expected = -2000 + np.log1p(np.exp(-1)) - np.log(2)
    assert p.ensemble_log_probs(deep)[0, 0] == pytest.approx(expected, rel=1e-15)
    with pytest.raises(ValueError, match="G > 0"):
        p.ensemble_log_probs(np.zeros((0, 3, 2)))


def test_calibration_error_closed_form():
    confidence = np.array([0.95, 0.85, 0.75, 0.65, 0.55])
    table = np.log(np.stack([confidence, 1 - confidence], axis=1))
    labels = np.array([0, 0, 1, 0, 1])
    assert p.ece(table, labels) == pytest.approx(0.37)
    assert p.ece(table, labels, bins=10) == pytest.approx(0.37)
    shared = np.log([[0.62, 0.38], [0.64, 0.36]])
    assert p.ece(shared, np.array([0, 1])) == pytest.approx(0.13)
    sure = np.array([[0.0, -np.inf]] * 2)  # confidence 1 belongs to the last bin
    assert p.ece(sure, np.array([0, 1])) == 0.5
    last_two = np.log([[0.95, 0.05], [0.9, 0.1]])
    assert p.ece(last_two, np.array([0, 1])) == pytest.approx((0.05 + 0.9) / 2)
    on_edge = np.log([[0.5, 0.5], [0.9, 0.1]])  # 0.5 belongs to the upper of two bins
    assert p.ece(on_edge, np.array([0, 1]), bins=2) == pytest.approx((0.9 - 0.5) / 2)


def test_against_torch_and_torchmetrics():
    logits, labels = scores(200)
    table = p.log_softmax(logits)
    x, y = torch.as_tensor(logits), torch.as_tensor(labels)
    assert table == pytest.approx(F.log_softmax(x, dim=1).numpy(), abs=1e-14)
    assert p.nll(table, labels) == pytest.approx(F.cross_entropy(x, y).item(), abs=1e-13)
    peer = multiclass_accuracy(x, y, num_classes=4, average="micro")
    assert p.accuracy(logits, labels) == pytest.approx(100 * peer.item(), abs=1e-4)
    peer = multiclass_calibration_error(x.softmax(1), y, num_classes=4, n_bins=15, norm="l1")
    assert p.ece(table, labels) == pytest.approx(peer.item(), abs=1e-6)
    one_hot = F.one_hot(y, 4)
    peer = (x.softmax(1) - one_hot).square().sum(1).mean()
    assert p.brier(table, labels) == pytest.approx(peer.item(), abs=1e-13)


def test_tensors_are_taken_as_they_are():
    logits, labels = scores()
    x, y = torch.as_tensor(logits).requires_grad_(), torch.as_tensor(labels)
    assert p.accuracy(x, y) == p.accuracy(logits, labels)
    assert p.nll(x.log_softmax(1), y) == pytest.approx(p.nll(p.log_softmax(logits), labels))


def test_large_logits_do_not_overflow():
    table = p.log_softmax(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    assert table == pytest.approx(np.array([[0.0, -1e4], [-np.log(2), -np.log(2)]]))


def test_js_divergence_of_disjoint_and_equal_predictions():
    left, right = np.array([[0.0, -np.inf]]), np.array([[-np.inf, 0.0]])
    assert p.js_divergence(left, right) == pytest.approx(np.log(2), abs=1e-15)
    assert p.js_divergence(left, left) == 0.0
    half = np.log([[0.5, 0.5]])
    m = 0.75 * np.log(4 / 3)  # by hand: entropy of (3/4, 1/4) less half the entropy of (1/2, 1/2)
    by_hand = m + 0.25 * np.log(4) - 0.5 * np.log(2)
    assert p.js_divergence(left, half) == pytest.approx(by_hand, abs=1e-15)


def test_js_divergence_against_scipy():
    a, b = (p.log_softmax(scores(seed=seed)[0]) for seed in (1, 2))
    peer = jensenshannon(np.exp(a), np.exp(b), axis=1) ** 2
    assert p.js_divergence(a, b) == pytest.approx(peer.mean(), abs=1e-14)


def test_js_divergence_differs_from_the_clamped_one_by_less_than_documented():
    a, b = (p.log_softmax(8 * scores(400, 10, seed=seed)[0]) for seed in (1, 2))
    q = [torch.as_tensor(table).exp() for table in (a, b)]
    mixture = ((q[0] + q[1]) / 2).clamp(1e-7, 1).log()
    total = sum(F.kl_div(mixture, one, reduction="sum").item() for one in q)
    difference = p.js_divergence(a, b) - total / 2 / len(a)
    assert 0 < difference < 10 * 1e-7


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(2, 6), st.integers(0, 10**6), st.floats(0, 300))
def test_properties(n, classes, seed, sharpness):
    (first, labels), (second, _) = scores(n, classes, seed), scores(n, classes, seed + 1)
    a, b = p.log_softmax(sharpness * first), p.log_softmax(sharpness * second)
    assert np.exp(a).sum(axis=1) == pytest.approx(np.ones(n))
    divergence = p.js_divergence(a, b)
    assert 0 <= divergence <= np.log(2) + 1e-12
    assert p.js_divergence(b, a) == pytest.approx(divergence, abs=1e-15)
    assert p.js_divergence(a, a) < 1e-15
    mixture = p.ensemble_log_probs(np.stack([a, b]))
    assert p.nll(mixture, labels) <= (p.nll(a, labels) + p.nll(b, labels)) / 2 + 1e-12  # Jensen
    assert 0 <= p.brier(a, labels) <= 2 + 1e-12
    assert 0 <= p.ece(a, labels) <= 1 + 1e-12
    assert p.disagreement(a, b) == p.disagreement(b, a)


def test_disagreement_and_cosine():
    a = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    b = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert p.disagreement(a, b) == 25.0
    assert p.logit_cosine(a, b) == pytest.approx(0.75)
    assert p.logit_cosine(a, -3 * a) == pytest.approx(-1.0)
    assert np.isnan(p.logit_cosine(a, 0 * a))


def test_nan_is_never_a_number():
    table = A.copy()
    table[1, 2] = np.nan
    for value in (
        p.accuracy(table, LABELS),
        p.ece(table, LABELS),
        p.brier(table, LABELS),
        p.nll(p.log_softmax(table), LABELS),
        p.disagreement(table, B),
        p.js_divergence(p.log_softmax(table), B),
        p.logit_cosine(table, B),
    ):
        assert np.isnan(value)
    infinite = A.copy()
    infinite[0, 0] = np.inf
    assert np.isnan(p.log_softmax(infinite)[0]).all()


@pytest.mark.parametrize(
    "labels", [np.array([0, 1]), np.array([0, 1, 3]), np.array([0, -1, 1]), np.array([0.0, 1, 1])]
)
def test_refuses_labels_that_do_not_fit(labels):
    for score in (p.accuracy, p.nll, p.brier, p.ece):
        with pytest.raises(ValueError, match="labels"):
            score(A, labels)


def test_refuses_shapes_that_do_not_fit():
    for compare in (p.disagreement, p.js_divergence, p.logit_cosine):
        with pytest.raises(ValueError, match=r"\(3, 3\) and \(2, 3\)"):
            compare(A, B[:2])
    with pytest.raises(ValueError, match="bins"):
        p.ece(A, LABELS, bins=0)
    with pytest.raises(ValueError, match="N > 0"):
        p.nll(A[:0], LABELS[:0])


@pytest.mark.parametrize("scores", [[[2.0, -1.0]], [[0.7, 0.3]]])
def test_refuses_logits_and_probabilities_for_log_probabilities(scores):
    for measure in (p.nll, p.brier, p.ece):
        with pytest.raises(ValueError, match=r"0 at most, not .*log_softmax"):
            measure(scores, [0])
    with pytest.raises(ValueError, match="0 at most"):
        p.ensemble_log_probs([scores, scores])
    with pytest.raises(ValueError, match="0 at most"):
        p.js_divergence(p.log_softmax(scores), scores)
