"""Points of parameter space as networks: many at once, unchanged modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from lossatlas.data.tensors import Inputs, Split, places, repeated
from lossatlas.models.functional import (
    Functional,
    Tensors,
    flatten,
    reestimate_norms,
    stack,
    unflatten,
)
from lossatlas.models.layout import SMALL, fast

CHUNK = {"cpu": 128, "cuda": 512}  # images per pass of one point; a CPU's cache holds few
MOST = 64  # points that share a pass
IMAGES = 4096  # images per pass, those of all its points counted


def rows(params: Tensors, shapes: Mapping[str, torch.Size]) -> Tensor:
    """Return stacked parameters, name -> (G, ...), as vectors (G, P) in the order of `shapes`."""
    count = len(next(iter(params.values())))
    return torch.stack([flatten({name: params[name][i] for name in shapes}) for i in range(count)])


def named(points: Tensor, shapes: Mapping[str, torch.Size]) -> Tensors:
    """Cut vectors (G, P) into stacked parameters, name -> (G, ...), views."""
    pieces = points.split([shape.numel() for shape in shapes.values()], dim=1)
    return {
        name: piece.view(len(points), *shape)
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


def group_size(functional: Functional, images: Inputs) -> int:
    """Return how many points share a pass: the more, the smaller the network; see `is_small`."""
    parameters = sum(shape.numel() for shape in functional.shapes.values())
    return max(1, min(MOST, int(SMALL // (parameters * places(images)))))


@torch.no_grad()
def buffers_at(
    functional: Functional, points: Tensor, buffers: Tensors, images: Inputs | None
) -> list[Tensors]:
    """Return the buffers of each point (G, P): BatchNorm statistics estimated on `images` (N, ...).

    Without BatchNorm (or without images) they are the ones given.
    """
    if images is None or not functional.has_norms:
        return [buffers for _ in points]
    return [
        reestimate_norms(functional, unflatten(point, functional.shapes), buffers, images)
        for point in points
    ]


@torch.no_grad()
def log_probs(
    functional: Functional,
    points: Tensor,
    buffers: list[Tensors],
    images: Inputs,
) -> Tensor:
    """Return log-probabilities (G, N, classes), float32, in evaluation mode.

    Args:
        functional: The network.
        points: (G, P).
        buffers: Of each point, from `buffers_at`.
        images: (N, C, H, W), or other inputs (N, ...).
    """
    found = []
    for _, pieces in _outputs(functional, points, buffers, images):
        found.append(torch.log_softmax(torch.cat(list(pieces), 1).double(), -1).float())
    return torch.cat(found)


def _outputs(
    functional: Functional, points: Tensor, buffers: list[Tensors], images: Inputs
) -> Iterator[tuple[int, Iterator[Tensor]]]:
    """Yield, for groups of points, how many they are and their outputs (G, n, ...) by pieces."""
    size = group_size(functional, images)
    chunk = CHUNK.get(images.device.type, CHUNK["cuda"])
    images = fast(images, functional)
    for first in range(0, len(points), size):
        some = points[first : first + size]
        params, state = named(some, functional.shapes), stack(buffers[first : first + size])
        pieces = images.split(chunk if len(some) == 1 else max(64, IMAGES // len(some)))
        forward = partial(functional.many, params, state, train=False)
        yield len(some), (forward(repeated(x, len(some))) for x in pieces)


@torch.no_grad()
def loss_and_error(
    functional: Functional, points: Tensor, buffers: list[Tensors], split: Split
) -> tuple[Tensor, Tensor]:
    """Return the mean loss and the error in percent of each point, in evaluation mode.

    Args:
        functional: The network.
        points: (G, P).
        buffers: Of each point, from `buffers_at`.
        split: Examples.

    Returns:
        Two float64 tensors (G,); both NaN where the loss is not finite, the error also where the
        task counts none.
    """
    task, found = split.task, []
    for count, pieces in _outputs(functional, points, buffers, split.images):
        total = torch.zeros(3, count, dtype=torch.float64, device=split.device)
        first = 0
        for outputs in pieces:
            wanted = split.labels[first : first + outputs.shape[1]]
            wanted = wanted.expand(count, *wanted.shape)
            first += outputs.shape[1]
            units = task.units(wanted)
            total[0] += task.means(outputs.double(), wanted) * units
            total[1] += task.errors(outputs, wanted)
            total[2] += units
        found.append(total)
    losses, wrong, units = torch.cat(found, 1)
    losses = losses / units
    return losses, torch.where(losses.isfinite(), 100.0 * wrong / units, torch.nan)
