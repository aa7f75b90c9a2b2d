"""Ensembles evaluated from stored log-probabilities alone: no network, no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from lossatlas.errors import UserError
from lossatlas.similarity import predictions
from lossatlas.similarity.predictions import log_softmax

Floats = NDArray[np.float64]
BINS = 15
MEASURES = ("error", "nll", "ece", "brier")


def groups(count: int, size: int) -> list[tuple[list[int], bool]]:
    """Return groups of neighbouring components in a circle, and whether each is of a partition.

    Every component is in `size` of the `count` groups. Groups of the partition share no component,
    so that statistics may take them as independent.
    """
    if size == count:
        return [(list(range(count)), True)]
    return [
        ([(first + i) % count for i in range(size)], first % size == 0 and first + size <= count)
        for first in range(count)
    ]


def mixture(log_probs: Any) -> Floats:
    """Return log-probabilities (N, classes) of the uniform mixture over all but the last two axes.

    Args:
        log_probs: (..., N, classes): components, samples, or both.

    Raises:
        UserError: If there is no member.
    """
    members = np.asarray(log_probs)
    flat = members.reshape(-1, *members.shape[-2:]) if members.size else members
    if not members.size:
        fix = "ask for at least one component and one sample"
        raise UserError("an ensemble without members", where="ensemble", fix=fix)
    return predictions.ensemble_log_probs(flat)


def assess(log_probs: Any, labels: Any) -> dict[str, float]:
    """Return error (percent), NLL (nats), ECE (15 bins, a fraction) and Brier score.

    Args:
        log_probs: (N, classes).
        labels: (N,).
    """
    return {
        "error": 100.0 - predictions.accuracy(log_probs, labels),
        "nll": predictions.nll(log_probs, labels),
        "ece": predictions.ece(log_probs, labels, BINS),
        "brier": predictions.brier(log_probs, labels),
    }


def temperature(log_probs: Any, labels: Any) -> float:
    """Return the T > 0 that minimises the NLL of softmax(log p / T) (Guo et al., 2017).

    Between e^-3 and e^3; NaN if a log-probability is NaN.

    Args:
        log_probs: (N, classes) on data kept apart from both training and test.
        labels: (N,).

    Raises:
        UserError: If there are no such data.
    """
    table = np.asarray(log_probs, dtype=np.float64)
    if not len(table):
        fix = "keep training images apart: set the data set's fraction below 1"
        raise UserError("no held-out images to fit a temperature on", where="temperature", fix=fix)
    if np.isnan(table).any():
        return float("nan")

    def loss(log_t: float) -> float:
        return predictions.nll(log_softmax(table / np.exp(log_t)), labels)

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def scaled(log_probs: Any, t: float) -> Floats:
    """Return log-probabilities at temperature t."""
    return log_softmax(np.asarray(log_probs, dtype=np.float64) / t)


def diversity(log_probs: Any) -> float:
    """Return the mean percentage of images on which two of G members (G, N, classes) disagree.

    NaN for fewer than two members, or if a log-probability is NaN.
    """
    members = np.asarray(log_probs)
    votes, count = members.argmax(axis=2), len(members)
    if count < 2 or np.isnan(members).any():
        return float("nan")
    apart = [np.mean(votes[i] != votes[j]) for i in range(count) for j in range(i)]
    return 100.0 * float(np.mean(apart))
