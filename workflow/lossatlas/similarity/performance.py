"""Loss and accuracy of replicas and of their ensemble; predictions on the test set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.similarity import predictions
from lossatlas.similarity.rows import scalar
from lossatlas.store import Array, Record, Scalar
from lossatlas.training.networks import Networks, logits

if TYPE_CHECKING:
    from lossatlas.spec.metrics import Performance


def measure(
    networks: Networks,
    settings: Performance,  # noqa: ARG001 - every metric takes its settings
) -> Record:
    """Evaluate every replica on both splits, and their ensemble on the test set.

    Evaluation mode (stored BatchNorm statistics), no gradients. Mean cross entropy in nats and
    accuracy in percent, as in Yang et al. (2021). The ensemble averages probabilities. A collapsed
    network (constant output) has the loss and the accuracy that it has.

    Args:
        networks: The replicas; labels of the training split are the ones trained on.
        settings: Of the metric; it has no options of its own.

    Returns:
        A record with, per replica, train_loss, train_accuracy, test_loss, test_accuracy; of the
        cell, ensemble_accuracy and ensemble_nll; and what any later tool needs to evaluate
        ensembles without a network: arrays `test_logits` and `test_log_probs` (replica, image,
        class), `test_labels` (image), `seeds` (replica). A number that is not finite is NaN and
        `undefined`.
    """
    record = Record("performance")
    test = networks.data.test
    members: list[np.ndarray] = []
    for index, seed in enumerate(networks.seeds):
        for name in ("train", "test"):
            split = networks.data.train if name == "train" else test
            scores = logits(networks, index, split.images).float().cpu().numpy()
            loss = predictions.nll(predictions.log_softmax(scores), split.labels)
            record.scalars.append(scalar(f"{name}_loss", loss, replica=seed, unit="nats"))
            right = predictions.accuracy(scores, split.labels)
            record.scalars.append(scalar(f"{name}_accuracy", right, replica=seed, unit="percent"))
        members.append(scores)  # the test set comes last
    none = np.zeros((0, len(test), networks.data.classes), np.float32)
    stored = np.stack(members) if members else none
    log_probs = predictions.log_softmax(stored)
    record.scalars += _ensemble(log_probs, test.labels.cpu().numpy())
    record.arrays = _arrays(networks, stored, log_probs)
    return record


def _ensemble(log_probs: np.ndarray, labels: np.ndarray) -> list[Scalar]:
    """Evaluate the probability mean of G members (G, N, classes); undefined without a member."""
    right = loss = math.nan
    if len(log_probs):
        mixture = predictions.ensemble_log_probs(log_probs)
        right, loss = predictions.accuracy(mixture, labels), predictions.nll(mixture, labels)
    return [
        scalar("ensemble_accuracy", right, unit="percent"),
        scalar("ensemble_nll", loss, unit="nats"),
    ]


def _arrays(networks: Networks, scores: np.ndarray, log_probs: np.ndarray) -> dict[str, Array]:
    axes = ("replica", "image", "class")
    labels = networks.data.test.labels.cpu().numpy()
    seeds = np.array(networks.seeds, dtype=np.int64)
    return {
        "test_logits": Array(scores, axes),
        "test_log_probs": Array(log_probs.astype(np.float32), axes, "nats"),
        "test_labels": Array(labels, ("image",)),
        "seeds": Array(seeds, ("replica",), description="of the rows of the other arrays"),
    }
