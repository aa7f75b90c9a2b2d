"""Distance of weights, and how differently replicas predict (Yang et al., 2021, appendix).

Needs no torch: it reads weights as arrays and the logits that the performance metric stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.similarity import predictions
from lossatlas.similarity.rows import scalar
from lossatlas.store import Record

if TYPE_CHECKING:
    from lossatlas.metrics.distance import Distance

Weights = Mapping[str, np.ndarray]


def l2_distance(first: Weights, second: Weights) -> float:
    """Return the Euclidean distance of two sets of parameters, summed in float64.

    Args:
        first: Name -> array; trainable parameters, so with BatchNorm's scale and shift but without
            its running statistics.
        second: The same of the other network.

    Raises:
        ValueError: If names or shapes differ.
    """
    _check_alike(first, second)
    total = sum(_square(first[name].astype(np.float64) - second[name]) for name in first)
    return math.sqrt(total)


def normalised_distance(first: Weights, second: Weights) -> float:
    """Return |a - b| / sqrt((|a|^2 + |b|^2) / 2): the distance in units of the weights' own size.

    Between 0 (equal) and 2 (opposite); sqrt(2) when orthogonal; NaN when both are zero. Unlike the
    plain distance it does not change when both networks are scaled.

    Args:
        first: As in `l2_distance`.
        second: As in `l2_distance`.

    Raises:
        ValueError: If names or shapes differ.
    """
    mean_square = (sum(map(_square, first.values())) + sum(map(_square, second.values()))) / 2
    distance = l2_distance(first, second)
    return distance / math.sqrt(mean_square) if mean_square else math.nan


def _square(array: np.ndarray) -> float:
    flat = array.astype(np.float64, copy=False).ravel()
    return float(flat @ flat)


def _check_alike(first: Weights, second: Weights) -> None:
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise ValueError(f"only one of the two networks has the parameters {odd}")
    for name, array in first.items():
        if array.shape != second[name].shape:
            shapes = f"{array.shape} and {second[name].shape}"
            raise ValueError(f"parameter {name!r} has the shapes {shapes}")


def measure(
    weights: Mapping[int, Weights],
    logits: Mapping[int, np.ndarray],
    settings: Distance,  # noqa: ARG001 - every metric takes its settings
    pairs: Sequence[tuple[int, int]] | None = None,
    *,
    classes: bool = True,
) -> Record:
    """Compare pairs of replicas.

    Args:
        weights: Seed -> parameter name -> array; trainable parameters, no buffers.
        logits: Seed -> logits (N, classes), or outputs (N, ...), of the same test images.
        settings: Of the metric; it has no options of its own.
        pairs: Seeds; default: every two replicas.
        classes: Whether the task has classes.

    Returns:
        A record with, per pair: l2_distance, normalised_distance, logit_cosine and, of tasks with
        classes, disagreement (percent) and js_divergence (nats). A number that is not finite is NaN
        and `undefined`.

    Raises:
        ValueError: If seeds, names or shapes differ.
    """
    if weights.keys() != logits.keys():
        odd = sorted(weights.keys() ^ logits.keys())
        raise ValueError(f"seeds {odd} have weights or logits, not both")
    logits = {seed: table.reshape(len(table), -1) for seed, table in logits.items()}
    chosen = logits if classes else {}
    log_probs = {seed: predictions.log_softmax(table) for seed, table in chosen.items()}
    record = Record("distance")
    for a, b in combinations(sorted(weights), 2) if pairs is None else pairs:
        values = {
            "l2_distance": (l2_distance(weights[a], weights[b]), ""),
            "normalised_distance": (normalised_distance(weights[a], weights[b]), ""),
        }
        if classes:
            apart = predictions.disagreement(logits[a], logits[b])
            divergence = predictions.js_divergence(log_probs[a], log_probs[b])
            values |= {"disagreement": (apart, "percent"), "js_divergence": (divergence, "nats")}
        values["logit_cosine"] = (predictions.logit_cosine(logits[a], logits[b]), "")
        record.scalars += [
            scalar(name, value, replica=a, partner=b, unit=unit)
            for name, (value, unit) in values.items()
        ]
    return record
