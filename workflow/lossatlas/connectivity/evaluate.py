"""Loss and error along a path."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from lossatlas.connectivity.curves import Curve, Network, straight_line
from lossatlas.connectivity.summary import linear_barrier as barrier_of
from lossatlas.data.tensors import Inputs, Split
from lossatlas.models.functional import Functional, Tensors, reestimate_norms
from lossatlas.models.layout import fast
from lossatlas.models.outputs import outputs_of
from lossatlas.progress import tracked
from lossatlas.training.networks import chunk_of, evaluator
from lossatlas.training.seeds import generator, seed_default

NORM_BATCH = 256  # images per batch from which BatchNorm statistics are estimated


@dataclass(frozen=True)
class Point:
    """Values at one point: mean loss of the task (no L2 term), error in percent.

    A loss that is not finite is NaN, and so is its error; it also is where a task counts none.
    """

    train_loss: float
    train_error: float
    test_loss: float
    test_error: float


VALUES = tuple(Point.__dataclass_fields__)


@dataclass(frozen=True)
class Path:
    """Values (T,) at the places t (T,); `points[i]` are those at t[i]."""

    t: np.ndarray
    points: tuple[Point, ...]

    def values(self, name: str) -> np.ndarray:
        """Return one of `VALUES` along the path, (T,)."""
        return np.array([getattr(point, name) for point in self.points])


def shuffled(split: Split, *words: object) -> Split:
    """Return the split in an order drawn once, so that no batch has images of one class only.

    BatchNorm's variance is a mean over batches, so data sorted by class would make it too small.
    """
    order = torch.randperm(len(split), generator=generator(*words)).to(split.device)
    return split.take(order)


@torch.no_grad()
def loss_and_error(functional: Functional, network: Network, split: Split) -> tuple[float, float]:
    """Return the mean loss and the error in percent, in evaluation mode.

    Both are NaN where the loss is not finite: an argmax of NaN is a class like any other. The error
    is NaN where the task counts none.

    Raises:
        UserError: If the outputs are not those of the task.
    """
    forward, chunk = evaluator(functional, *network), chunk_of(split.images)
    total = torch.zeros(3, dtype=torch.float64, device=split.device)
    size = outputs_of(split)
    for images, labels in zip(split.images.split(chunk), split.labels.split(chunk), strict=True):
        outputs = forward(images)
        split.task.check(outputs, labels, size, functional.name)
        total += split.task.totals(outputs, labels)
    loss, wrong, units = total.tolist()
    mean = loss / units
    if not math.isfinite(mean):
        return math.nan, math.nan
    return mean, 100.0 * wrong / units


def evaluate_point(
    functional: Functional,
    network: Network,
    train: Split,
    test: Split,
    *,
    batch: int = NORM_BATCH,
    stored: bool = False,
) -> Point:
    """Return the values of one network.

    Args:
        functional: The network without weights.
        network: Parameters and buffers.
        train: Training images, from which BatchNorm statistics are estimated, in the order given:
            see `shuffled`.
        test: Test images.
        batch: Images per batch of that estimate. A last batch of one image is left out.
        stored: Use the statistics in the buffers instead.

    Raises:
        ValueError: If a split is empty.
    """
    if not len(train) or not len(test):
        raise ValueError("needs training and test images")
    params, buffers = network
    if not stored and functional.has_norms:
        buffers = estimate_norms(functional, network, train.images, batch)
    values = [loss_and_error(functional, (params, buffers), split) for split in (train, test)]
    return Point(*values[0], *values[1])


def estimate_norms(functional: Functional, network: Network, images: Inputs, batch: int) -> Tensors:
    """Return buffers with the BatchNorm statistics of these images; dropout draws the same noise.

    A last batch of one image, which has no variance, is left out.
    """
    if len(images) % batch == 1 and len(images) > 1:
        images = images[:-1]
    with torch.random.fork_rng([images.device] if images.device.type == "cuda" else []):
        seed_default(images.device, "norms")
        return reestimate_norms(functional, *network, fast(images, functional), batch)


def evaluate_path(
    functional: Functional,
    curve: Curve,
    train: Split,
    test: Split,
    t: np.ndarray,
    *,
    batch: int = NORM_BATCH,
    ends: tuple[Point, Point] | None = None,
) -> Path:
    """Return loss and error along a curve.

    Statistics of BatchNorm are estimated anew at every t, at the ends too: so the ends differ from
    the networks as they were stored, but the path from end to end is measured with one ruler.

    Args:
        functional: The network.
        curve: The path; see `curves.straight_line` for the straight one.
        train: As in `evaluate_point`.
        test: Test images.
        t: Places (T,), from 0 to 1.
        batch: As in `evaluate_point`.
        ends: Values at t = 0 and t = 1, if they are known.

    Raises:
        ValueError: If a split is empty.
    """
    known = {0.0: ends[0], 1.0: ends[1]} if ends is not None else {}
    points = []
    for place in tracked([float(one) for one in t], "path", "points"):
        if place not in known:
            network = curve.at(place)
            known[place] = evaluate_point(functional, network, train, test, batch=batch)
        points.append(known[place])
    return Path(np.asarray(t, dtype=np.float64), tuple(points))


def linear_barrier(
    functional: Functional,
    start: Network,
    end: Network,
    train: Split,
    test: Split,
    points: int = 21,
) -> float:
    """Return the barrier in training error, in percentage points, on the straight line.

    It is the largest excess over the straight line between the errors of the ends, 0 or more, with
    BatchNorm statistics estimated anew at each of the places. See `summary.linear_barrier`.

    Raises:
        ValueError: If the networks do not match, or a split is empty.
    """
    t = np.linspace(0.0, 1.0, points)
    path = evaluate_path(functional, straight_line(start, end), train, test, t)
    return barrier_of(t, path.values("train_error"))
