"""Loss and error on the plane through three points of parameter space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossatlas.data.tensors import Inputs, Split
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, Tensors
from lossatlas.progress import tracked
from lossatlas.simplex.complexes import Vertex
from lossatlas.simplex.geometry import tolerance_of
from lossatlas.simplex.points import buffers_at, group_size, loss_and_error
from lossatlas.store import Table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """A raster over the plane of a triangle; all lengths are those of parameter space.

    Attributes:
        u: Coordinates (U,) along the first edge, from the first corner.
        v: Coordinates (V,) across it.
        weights: Barycentric weights (V, U, 3) of the corners; outside the triangle one is negative.
        corners: (3, 2) of the three corners.
    """

    u: Floats
    v: Floats
    weights: Floats
    corners: Floats

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which points (V, U) lie in the triangle, edges included."""
        return np.asarray((self.weights >= -1e-9).all(axis=2))


def raster(corners: Tensor, points: int, margin: float = 0.15) -> Plane:
    """Lay a raster over the plane through three points.

    Args:
        corners: (3, P).
        points: Along each side of the raster.
        margin: Room around the triangle, as a share of its larger extent.

    Raises:
        UserError: If the corners lie on one line, or a corner is not finite.
        ValueError: If there are fewer than 2 points a side.
    """
    if points < 2:
        raise ValueError(f"a raster has 2 points a side or more, not {points}")
    if not torch.isfinite(corners).all():
        raise UserError("a corner is not finite", where="plane", fix="leave out what diverged")
    first, second = corners[1].double() - corners[0], corners[2].double() - corners[0]
    length = torch.linalg.vector_norm(first)
    along = float(first @ second / length) if length > 0 else 0.0
    rest = second - first * (along / length) if length > 0 else first
    height = float(torch.linalg.vector_norm(rest))
    smallest = tolerance_of(corners) * float(torch.linalg.vector_norm(second))
    if not float(length) or height <= smallest:
        fix = "choose three points that span a triangle"
        raise UserError("the three points lie on one line", where="plane", fix=fix)
    flat = np.array([[0.0, 0.0], [float(length), 0.0], [along, height]])
    low, high = flat.min(axis=0), flat.max(axis=0)
    room = margin * (high - low).max()
    u = np.linspace(low[0] - room, high[0] + room, points)
    v = np.linspace(low[1] - room, high[1] + room, points)
    third = np.broadcast_to((v / height)[:, None], (points, points))
    weight = (u[None, :] - third * along) / float(length)
    return Plane(u, v, np.stack([1.0 - weight - third, weight, third], axis=2), flat)


def tables(vertices: Sequence[Vertex], plane: Plane, loss: Floats, error: Floats) -> list[Table]:
    """Return a raster and its corners as the tables `plane` and `corners`.

    Args:
        vertices: What lies at the three corners. Their names are the index `plane` of both tables.
        plane: The raster.
        loss: (V, U) in nats.
        error: (V, U) in percent.
    """
    index = {"plane": " ".join(vertex.name for vertex in vertices)}
    u, v = np.meshgrid(plane.u, plane.v)
    values = {"u": u, "v": v, "inside": plane.inside, "loss": loss, "error": error}
    flat = {key: some.ravel() for key, some in values.items()}
    mode, number = zip(*vertices, strict=True)
    u, v = plane.corners.T
    units = {"loss": "nats", "error": "percent"}
    return [
        Table("plane", flat, index=index, units=units),
        Table("corners", {"mode": mode, "number": number, "u": u, "v": v}, index=index),
    ]


def evaluate(
    functional: Functional,
    corners: Tensor,
    weights: Floats,
    buffers: Tensors,
    split: Split,
    norm_images: Inputs | None = None,
) -> tuple[Floats, Floats]:
    """Return loss (nats) and error (percent) at points of a plane, or of any simplex.

    All points see the same images. The parameters are the exact mixtures, not interpolations.

    Args:
        functional: The network.
        corners: (n, P).
        weights: Barycentric, (..., n).
        buffers: Of one network.
        split: Images and labels.
        norm_images: Where BatchNorm statistics are estimated anew for each point; None keeps those
            in the buffers.

    Returns:
        Two arrays of the shape of `weights` without its last axis.
    """
    return evaluate_each(functional, corners, weights, buffers, [split], norm_images)[0]


@torch.no_grad()
def evaluate_each(
    functional: Functional,
    corners: Tensor,
    weights: Floats,
    buffers: Tensors,
    splits: Sequence[Split],
    norm_images: Inputs | None = None,
) -> list[tuple[Floats, Floats]]:
    """Return what `evaluate` does for each split; BatchNorm statistics are estimated once."""
    table = torch.from_numpy(np.ascontiguousarray(weights)).reshape(-1, len(corners))
    mixing = table.to(corners.device, corners.dtype)
    found: list[list[Tensor]] = [[] for _ in splits]
    groups = mixing.split(group_size(functional, splits[0].images))
    for some in tracked(groups, "loss at points", "groups"):
        points = some @ corners
        own = buffers_at(functional, points, buffers, norm_images)
        for split, pieces in zip(splits, found, strict=True):
            pieces.append(torch.stack(loss_and_error(functional, points, own, split)))
    shape = np.shape(weights)[:-1]
    both = (torch.cat(pieces, 1).cpu().numpy() for pieces in found)
    return [(loss.reshape(shape), error.reshape(shape)) for loss, error in both]
