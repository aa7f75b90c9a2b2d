"""Loss and accuracy of replicas and of their ensemble; predictions on the test set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lossatlas import uncertainty
from lossatlas.similarity import predictions
from lossatlas.similarity.rows import scalar
from lossatlas.store import Array, Record, Scalar
from lossatlas.training.networks import Networks, logits


def measure_replicas(networks: Networks, indices: Sequence[int]) -> Record:
    """Evaluate replicas on both splits.

    Evaluation mode (stored BatchNorm statistics), no gradients. Mean cross entropy in nats and
    accuracy in percent, as in Yang et al. (2021). A collapsed network (constant output) has the
    loss and the accuracy that it has.

    Args:
        networks: The replicas; labels of the training split are the ones trained on.
        indices: Which of them.

    Returns:
        A record with, per replica, train_loss, train_accuracy, test_loss, test_accuracy; arrays
        `test_logits` (replica, image, class), `test_labels` (image), `seeds` (replica). A number
        that is not finite is NaN and `undefined`.
    """
    record = Record("performance")
    test = networks.data.test
    members: list[np.ndarray] = []
    for index in indices:
        seed = networks.seeds[index]
        for name in ("train", "test"):
            split = networks.data.train if name == "train" else test
            scores = logits(networks, index, split.images).float().cpu().numpy()
            loss = predictions.nll(predictions.log_softmax(scores), split.labels)
            record.scalars.append(scalar(f"{name}_loss", loss, replica=seed, unit="nats"))
            right = predictions.accuracy(scores, split.labels)
            record.scalars.append(scalar(f"{name}_accuracy", right, replica=seed, unit="percent"))
        members.append(scores)  # the test set comes last
    seeds = np.array([networks.seeds[index] for index in indices], dtype=np.int64)
    record.arrays = {
        "test_logits": Array(np.stack(members), ("replica", "image", "class")),
        "test_labels": Array(test.labels.cpu().numpy(), ("image",)),
        "seeds": Array(seeds, ("replica",), description="of the rows of the other arrays"),
    }
    return record


def add_ensemble(record: Record) -> Record:
    """Add what needs all replicas: the ensemble on the test set.

    It averages probabilities.

    Args:
        record: As `measure_replicas` returns it.

    Returns:
        The record with ensemble_accuracy and ensemble_nll of the cell, their errors from leaving
        out one replica at a time (`uncertainty.jackknife`), chance_loss = ln(classes), and what any
        later tool needs to evaluate ensembles without a network: the array `test_log_probs`.
    """
    log_probs = predictions.log_softmax(record.arrays["test_logits"].values)
    record.scalars += _ensemble(log_probs, record.arrays["test_labels"].values)
    axes = ("replica", "image", "class")
    record.arrays["test_log_probs"] = Array(log_probs.astype(np.float32), axes, "nats")
    return record


def _ensemble(log_probs: np.ndarray, labels: np.ndarray) -> list[Scalar]:
    """Evaluate the probability mean of G members (G, N, classes)."""
    right, loss = _of_mixture(log_probs, labels)
    count = len(log_probs)
    without = [np.delete(log_probs, place, axis=0) for place in range(count if count > 1 else 0)]
    others = [_of_mixture(some, labels) for some in without]
    named = zip(("accuracy", "nll"), (right, loss), ("percent", "nats"), strict=True)
    rows = []
    for place, (name, value, unit) in enumerate(named):
        found = uncertainty.jackknife(value, [other[place] for other in others])
        row = scalar(f"ensemble_{name}", value, unit=unit)
        rows.append(replace(row, stderr=found.stderr, df=found.df))
    classes = log_probs.shape[-1]
    return [*rows, scalar("chance_loss", math.log(classes), unit="nats")]


def _of_mixture(log_probs: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return accuracy (percent) and NLL (nats) of the probability mean of members."""
    mixture = predictions.ensemble_log_probs(log_probs)
    return predictions.accuracy(mixture, labels), predictions.nll(mixture, labels)
