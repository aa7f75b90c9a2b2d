"""Points of parameter space as networks: many at once, unchanged modules."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

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


def group_size(functional: Functional, images: Tensor) -> int:
    """Return how many points share a pass: the more, the smaller the network; see `is_small`."""
    parameters = sum(shape.numel() for shape in functional.shapes.values())
    return max(1, min(MOST, int(SMALL // (parameters * images[0, 0].numel()))))


@torch.no_grad()
def buffers_at(
    functional: Functional, points: Tensor, buffers: Tensors, images: Tensor | None
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
    images: Tensor,
) -> Tensor:
    """Return log-probabilities (G, N, classes), float32, in evaluation mode.

    Args:
        functional: The network.
        points: (G, P).
        buffers: Of each point, from `buffers_at`.
        images: (N, C, H, W).
    """
    size, found = group_size(functional, images), []
    chunk = CHUNK.get(images.device.type, CHUNK["cuda"])
    images = fast(images, functional)
    for first in range(0, len(points), size):
        some = points[first : first + size]
        params, state = named(some, functional.shapes), stack(buffers[first : first + size])
        chunks = [
            functional.many(params, state, x.expand(len(some), *x.shape), train=False)
            for x in images.split(chunk if len(some) == 1 else max(64, IMAGES // len(some)))
        ]
        found.append(torch.log_softmax(torch.cat(chunks, 1).double(), 2).float())
    return torch.cat(found)


def loss_and_error(logs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross entropy in nats and the error in percent of each network.

    Args:
        logs: Log-probabilities (G, N, classes).
        labels: (N,).

    Returns:
        Two float64 tensors (G,); both NaN where a log-probability is NaN.
    """
    each = labels.expand(len(logs), -1)
    losses = F.nll_loss(logs.double().transpose(1, 2), each, reduction="none").mean(1)
    errors = 100.0 * (logs.argmax(2) != labels).double().mean(1)
    return losses, torch.where(losses.isfinite(), errors, torch.nan)
