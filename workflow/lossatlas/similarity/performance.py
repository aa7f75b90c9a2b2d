"""Loss and accuracy of replicas and of their ensemble; predictions on the test set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from lossatlas import uncertainty
from lossatlas.data.tensors import Split
from lossatlas.progress import tracked
from lossatlas.similarity import predictions
from lossatlas.similarity.rows import scalar
from lossatlas.store import Array, Record, Scalar
from lossatlas.tasks import IGNORED
from lossatlas.training.networks import Networks, chunk_of, evaluator, outputs

MOST_AT_ONCE = 2**26  # numbers of a split of sequences that are computed at once
MOST_KEPT = 2**23  # numbers of predictions on test sequences that are kept of a replica


def measure_replicas(networks: Networks, indices: Sequence[int]) -> Record:
    """Evaluate replicas on both splits.

    Evaluation mode (stored BatchNorm statistics), no gradients. The mean loss of the task, and
    accuracy in percent where the task counts errors, as in Yang et al. (2021). A collapsed network
    (constant output) has the loss and the accuracy that it has.

    Args:
        networks: The replicas; labels of the training split are the ones trained on.
        indices: Which of them.

    Returns:
        A record with, per replica, train_loss, test_loss and, where errors are counted,
        train_accuracy, test_accuracy, and the further `scores` of the task. Arrays: `test_logits`
        (replica, image, class) and `test_labels` (image) of tasks with classes, of sequences those
        of the tokens that count, the first `most_kept`; else `test_outputs` and `test_targets`; and
        `seeds` (replica). A number that is not finite is NaN and `undefined`.
    """
    record = Record("performance")
    data, task, members = networks.data, networks.data.task, []
    for index in tracked(indices, "performance", "networks"):
        seed = networks.seeds[index]
        for name in ("train", "test"):
            split = data.train if name == "train" else data.test
            loss, right, found = _evaluated(networks, index, split, keep=name == "test")
            record.scalars.append(scalar(f"{name}_loss", loss, replica=seed, unit=task.unit))
            if task.scored:
                row = scalar(f"{name}_accuracy", right, replica=seed, unit="percent")
                record.scalars.append(row)
        members.append(found)  # the test set comes last
        forward = evaluator(networks.functional, *networks.one(index))
        for name, value in task.scores(forward, data).items():
            record.scalars.append(scalar(name, value, replica=seed))
    seeds = np.array([networks.seeds[index] for index in indices], dtype=np.int64)
    record.arrays = _arrays(np.stack(members), data.test)
    record.arrays["seeds"] = Array(seeds, ("replica",), description="of the rows of other arrays")
    return record


def _evaluated(
    networks: Networks, index: int, split: Split, *, keep: bool
) -> tuple[float, float, np.ndarray]:
    """Return loss, accuracy, and what is kept of the outputs on a split, where that is asked for.

    Logits of many tokens and classes do not fit into memory at once: they are summed up in pieces.
    """
    if not split.task.sequence or split.labels.numel() * networks.data.classes <= MOST_AT_ONCE:
        found = outputs(networks, index, split.images)
        return *_scores(found, split), kept(found, split) if keep else np.empty(0)
    forward = evaluator(networks.functional, *networks.one(index))
    each, most = split.labels[0].numel() * networks.data.classes, most_kept(networks.data.classes)
    sums, size = np.zeros(3), max(1, min(chunk_of(split.images), MOST_AT_ONCE // each))
    rows: list[np.ndarray] = []
    for first in range(0, len(split), size):
        some = split.take(slice(first, first + size))
        found = forward(some.images)
        sums += split.task.totals(found.double(), some.labels).cpu().numpy()
        if keep and sum(len(one) for one in rows) < most:
            rows.append(kept(found, some))
    loss, wrong, units = sums
    right = 100.0 * (1.0 - wrong / units) if math.isfinite(loss) else math.nan
    return loss / units, right, np.concatenate(rows)[:most] if rows else np.empty(0)


def most_kept(classes: int) -> int:
    """Return of how many tokens predictions are kept, of sequences."""
    return max(1, MOST_KEPT // classes)


def _scores(found: Tensor, split: Split) -> tuple[float, float]:
    """Return the mean loss and the accuracy in percent, NaN where the task counts no errors."""
    if split.task.classes:
        table, labels = _flat(found, split.labels)
        scores = table.float().cpu().numpy()
        loss = predictions.nll(predictions.log_softmax(scores), labels)
        return loss, predictions.accuracy(scores, labels)
    loss, wrong, units = split.task.totals(found.double(), split.labels).tolist()
    return loss / units, 100.0 * (1.0 - wrong / units) if math.isfinite(loss) else math.nan


def _flat(found: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (M, classes) and labels (M,): of sequences, those of the tokens that count."""
    counts = labels.flatten() != IGNORED
    return found.flatten(0, -2)[counts], labels.flatten()[counts]


def kept(found: Tensor, test: Split) -> np.ndarray:
    """Return what is kept of outputs on the test set: logits (M, classes), or outputs (N, ...).

    Of sequences these are the first tokens that count, at most `most_kept`.
    """
    table = _flat(found, test.labels)[0] if test.task.classes else found
    if test.task.sequence:
        table = table[: most_kept(table.shape[-1])]
    return table.float().cpu().numpy()


def _arrays(members: np.ndarray, test: Split) -> dict[str, Array]:
    if not test.task.classes:
        axes = ("replica", "image", *(f"axis_{n}" for n in range(1, members.ndim - 1)))
        targets = test.labels.cpu().numpy()
        return {
            "test_outputs": Array(members, axes),
            "test_targets": Array(targets, ("image", *axes[2:][: targets.ndim - 1])),
        }
    counted = test.labels.flatten()
    labels = counted[counted != IGNORED].cpu().numpy()
    if test.task.sequence:
        labels = labels[: members.shape[1]]
    return {
        "test_logits": Array(members, ("replica", "image", "class")),
        "test_labels": Array(labels, ("image",)),
    }


def add_ensemble(record: Record) -> Record:
    """Add what needs all replicas: the ensemble on the test set, of tasks with classes.

    It averages probabilities.

    Args:
        record: As `measure_replicas` returns it.

    Returns:
        The record with ensemble_accuracy and ensemble_nll of the cell, their errors from leaving
        out one replica at a time (`uncertainty.jackknife`), chance_loss = ln(classes), and what any
        later tool needs to evaluate ensembles without a network: the array `test_log_probs`.
    """
    if "test_logits" not in record.arrays:
        return record
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
