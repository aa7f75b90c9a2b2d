"""What predictions say: accuracy, likelihood, calibration, and how two networks differ.

NumPy in float64 and no torch, so that a job on stored predictions starts at once. Every function
also takes a torch tensor on any device. A number that cannot be had (a score is NaN, a vector is
zero) is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDING = 1e-3  # of log-probabilities in single or half precision


def as_floats(values: Any) -> Floats:
    """Return an array or a tensor as a float64 array."""
    return np.asarray(_on_cpu(values), dtype=np.float64)


def _on_cpu(values: Any) -> Any:
    return values.detach().cpu() if hasattr(values, "detach") else values


def _checked(scores: Any, labels: Any) -> tuple[Floats, NDArray[np.int64]]:
    """Return scores (N, classes) and labels (N,), or say what does not fit."""
    table, classes = as_floats(scores), np.asarray(_on_cpu(labels))
    if table.ndim != 2 or classes.shape != table.shape[:1] or not len(table):
        shapes = f"{table.shape} and {classes.shape}"
        raise ValueError(f"scores must be (N, classes) and labels (N,), N > 0, not {shapes}")
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= table.shape[1]:
        raise ValueError(f"labels must be integers from 0 to {table.shape[1] - 1}")
    return table, classes.astype(np.int64)


def _log_probs(table: Floats) -> Floats:
    """Return log-probabilities, or say that these are none: logits would give a wrong number."""
    if (table > _ROUNDING).any():
        what = f"log-probabilities are 0 at most, not {np.nanmax(table):.3g}"
        raise ValueError(f"{what}: take log_softmax of logits first")
    return table


def _same_shape(first: Any, second: Any) -> tuple[Floats, Floats]:
    a, b = as_floats(first), as_floats(second)
    if a.shape != b.shape or a.ndim != 2 or not len(a):
        raise ValueError(f"both must be (N, classes), N > 0, not {a.shape} and {b.shape}")
    return a, b


def log_softmax(logits: Any) -> Floats:
    """Return float64 log-probabilities over the last axis; a row with NaN or +inf becomes NaN."""
    scores = as_floats(logits)
    with np.errstate(invalid="ignore"):
        shifted = scores - scores.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def accuracy(scores: Any, labels: Any) -> float:
    """Return the percentage of rows whose largest score is at the label.

    Args:
        scores: Logits, probabilities or log-probabilities (N, classes). Of equal largest scores
            the first counts.
        labels: (N,), integer.

    Raises:
        ValueError: If the shapes or the labels do not fit.
    """
    table, classes = _checked(scores, labels)
    if np.isnan(table).any():
        return float("nan")
    return 100.0 * float(np.mean(table.argmax(axis=1) == classes))


def nll(log_probs: Any, labels: Any) -> float:
    """Return the mean negative log-likelihood of the labels, in nats.

    Args:
        log_probs: Log-probabilities (N, classes).
        labels: (N,), integer.

    Raises:
        ValueError: If the shapes or the labels do not fit, or a score is above 0.
    """
    table, classes = _checked(log_probs, labels)
    return -float(np.mean(_log_probs(table)[np.arange(len(classes)), classes]))


def brier(log_probs: Any, labels: Any) -> float:
    """Return the Brier score: mean squared distance of probabilities to the one-hot labels.

    Summed over classes, so between 0 and 2 (Brier, 1950).

    Args:
        log_probs: Log-probabilities (N, classes).
        labels: (N,), integer.

    Raises:
        ValueError: If the shapes or the labels do not fit, or a score is above 0.
    """
    table, classes = _checked(log_probs, labels)
    error = np.exp(_log_probs(table))
    error[np.arange(len(classes)), classes] -= 1.0
    return float(np.mean(np.sum(error**2, axis=1)))


def ece(log_probs: Any, labels: Any, bins: int = 15) -> float:
    """Return the expected calibration error, a fraction from 0 to 1.

    The mean over images of |accuracy - mean confidence| of the image's bin, in bins of equal width
    [k / bins, (k + 1) / bins), the last one closed (Guo et al., 2017, equation 3).

    Args:
        log_probs: Log-probabilities (N, classes).
        labels: (N,), integer.
        bins: How many.

    Raises:
        ValueError: If the shapes or the labels do not fit, a score is above 0, or `bins` below 1.
    """
    table, classes = _checked(log_probs, labels)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    if np.isnan(table).any():
        return float("nan")
    confidence = np.exp(_log_probs(table).max(axis=1))
    surplus = confidence - (table.argmax(axis=1) == classes)
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, weights=surplus, minlength=bins)
    return float(np.abs(gaps).sum()) / len(classes)


def ensemble_log_probs(log_probs: Any) -> Floats:
    """Return log-probabilities of the mean probability of G members: logsumexp - log G.

    Args:
        log_probs: Log-probabilities (G, N, classes), best in float64.

    Returns:
        (N, classes).

    Raises:
        ValueError: If there is no member, the shape does not fit, or a score is above 0.
    """
    members = as_floats(log_probs)
    if members.ndim != 3 or not len(members):
        raise ValueError(f"log_probs must be (G, N, classes), G > 0, not {members.shape}")
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logaddexp.reduce(_log_probs(members), axis=0) - np.log(len(members)))


def disagreement(first: Any, second: Any) -> float:
    """Return the percentage of images on which two networks predict different classes.

    Args:
        first: Logits, probabilities or log-probabilities (N, classes).
        second: The same of the other network.

    Raises:
        ValueError: If the shapes differ.
    """
    a, b = _same_shape(first, second)
    if np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    return 100.0 * float(np.mean(a.argmax(axis=1) != b.argmax(axis=1)))


def js_divergence(first: Any, second: Any) -> float:
    """Return the Jensen-Shannon divergence of two networks' predictions, mean per image, in nats.

    JS(p, q) = [KL(p | m) + KL(q | m)] / 2 with m = (p + q) / 2, between 0 and log 2 (Lin, 1991).
    Exact, with 0 log 0 = 0. The code of Yang et al. (2021) clamps m to at least 1e-7, which
    lowers it by at most 1e-7 nats per class.

    Args:
        first: Log-probabilities (N, classes); -inf is a probability of zero.
        second: The same of the other network.

    Raises:
        ValueError: If the shapes differ, or a score is above 0.
    """
    a, b = _same_shape(first, second)
    total = np.zeros(len(a))
    with np.errstate(invalid="ignore"):
        mixture = np.logaddexp(a, b) - np.log(2.0)
        for member in map(_log_probs, (a, b)):
            terms = np.exp(member) * (member - mixture)
            total += np.where(np.isneginf(member), 0.0, terms).sum(axis=1)
    return max(float(np.mean(total)) / 2.0, 0.0)


def logit_cosine(first: Any, second: Any) -> float:
    """Return the cosine of the angle between two networks' logits, all images in one vector.

    The code of Yang et al. (2021) averages the cosines of batches of 128 images instead.

    Args:
        first: Logits (N, classes).
        second: The same of the other network.

    Raises:
        ValueError: If the shapes differ.
    """
    a, b = _same_shape(first, second)
    norms = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.vdot(a, b)) / norms if norms != 0.0 else float("nan")
