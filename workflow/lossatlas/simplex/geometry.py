"""Volumes, heights and singular values of simplexes in high dimension, in float64.

A simplex of dimension n has n + 1 vertices. Its volume is that of the recursion V_n = V_(n-1) h / n
with h the distance of a vertex from the affine span of those before it, which loses no digits where
the Cayley-Menger determinant of Benton et al. (2021) does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

SMALLEST = 16  # a height below so many roundings of its edge is none


@dataclass(frozen=True)
class Shape:
    """Size and shape of one simplex of dimension n.

    Attributes:
        log_volume: Natural logarithm of the volume; -inf for a degenerate simplex. One vertex has
            volume 1.
        heights: (n,) distance of vertex i + 1 from the affine span of vertices 0 to i.
        singular_values: (n,) of the edges from vertex 0, descending.
        status: "degenerate" if the vertices are affinely dependent, to the precision of their type.
    """

    log_volume: float
    heights: Tensor
    singular_values: Tensor
    status: Literal["ok", "degenerate"]

    @property
    def volume(self) -> float:
        """The volume; 0 for a degenerate simplex."""
        return math.exp(self.log_volume)


def orthonormal(edges: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis of the span, and how far each vector is from those before it.

    Gram-Schmidt with each projection done twice, which is as accurate as Householder QR and, unlike
    it, steps over dependent vectors.

    Args:
        edges: (n, P), float64.
        tolerance: A distance of at most this share of the vector's length is 0.

    Returns:
        Basis (rank, P) and heights (n,).
    """
    basis, heights = torch.zeros_like(edges), edges.new_zeros(len(edges))
    rank = 0
    for index, edge in enumerate(edges):
        rest = edge.clone()
        for _ in range(2):
            rest -= basis[:rank].T @ (basis[:rank] @ rest)
        height = torch.linalg.vector_norm(rest)
        if height > tolerance * torch.linalg.vector_norm(edge):
            heights[index] = height
            basis[rank] = rest / height
            rank += 1
    return basis[:rank], heights


def shape_of(vertices: Tensor) -> Shape:
    """Measure a simplex.

    Args:
        vertices: (n + 1, P), n >= 0.

    Raises:
        ValueError: If there is no vertex, more than P + 1 of them, or one is not finite.
    """
    _check(vertices)
    count = len(vertices) - 1
    edges = vertices[1:].double() - vertices[0].double()
    basis, heights = orthonormal(edges, tolerance_of(vertices))
    spectrum = edges.new_zeros(count)
    if len(basis):
        found = torch.linalg.svdvals(edges @ basis.T)
        spectrum[: len(found)] = found
    degenerate = bool((heights == 0).any())
    log_volume = float(heights.log().sum()) - math.lgamma(count + 1)
    return Shape(
        -math.inf if degenerate else log_volume,
        heights.cpu(),
        spectrum.cpu(),
        "degenerate" if degenerate else "ok",
    )


def tolerance_of(vertices: Tensor) -> float:
    """Return the share of an edge's length below which a height is rounding error."""
    return SMALLEST * torch.finfo(vertices.dtype).eps


def _check(vertices: Tensor) -> None:
    if vertices.dim() != 2 or not len(vertices):
        raise ValueError(f"vertices must be (n + 1, P), n >= 0, not {tuple(vertices.shape)}")
    if len(vertices) > vertices.shape[1] + 1:
        what = f"{len(vertices)} vertices span no simplex in {vertices.shape[1]} dimensions"
        raise ValueError(what)
    if not torch.isfinite(vertices).all():
        raise ValueError("a vertex is not finite")


def cayley_menger(vertices: Tensor) -> float:
    """Return the squared volume by the Cayley-Menger determinant, in float64.

    |det [[D, 1], [1, 0]]| / (2^n (n!)^2) with D the squared distances: what the authors' code calls
    the volume. One vertex has 1. For degenerate simplexes the value is rounding error.

    Args:
        vertices: (n + 1, P).

    Raises:
        ValueError: As `shape_of`.
    """
    _check(vertices)
    count = len(vertices) - 1
    points = vertices.double()
    bordered = points.new_ones(count + 2, count + 2)
    for index, point in enumerate(points):
        bordered[index, :-1] = (points - point).square().sum(1)
    bordered[-1, -1] = 0.0
    log_det = float(torch.linalg.slogdet(bordered).logabsdet)
    return math.exp(log_det - count * math.log(2) - 2 * math.lgamma(count + 1))


@dataclass(frozen=True)
class Face:
    """The fixed vertices of a simplex of which one more vertex moves.

    Attributes:
        anchor: (P,) one of the fixed vertices, float64.
        basis: (r, P) orthonormal basis of the span of the others seen from it.
        log_volume: Of the fixed vertices alone.
        dimension: Of the whole simplex: the number of fixed vertices.
        tolerance: Share of the distance to the anchor below which a height is 0.
    """

    anchor: Tensor
    basis: Tensor
    log_volume: float
    dimension: int
    tolerance: float

    def height(self, vertex: Tensor) -> tuple[float, Tensor]:
        """Return the height h of a vertex (P,) over this face, and its direction (P,) of length 1.

        The gradient of log V with respect to the vertex is direction / h. Where h is 0 the
        direction is 0.
        """
        return heights([self], vertex)[0]

    def log_volume_at(self, height: float) -> float:
        """Return the logarithm of the volume of the whole simplex; -inf at height 0."""
        return self.log_volume + math.log(height / self.dimension) if height else -math.inf


def heights(faces: Sequence[Face], vertex: Tensor) -> list[tuple[float, Tensor]]:
    """Return the height of a vertex (P,) over each face, and its direction (`Face.height`).

    The host reads all numbers of the device at once.
    """
    if not faces:
        return []
    edges = [vertex.double() - face.anchor for face in faces]
    rests = [e - f.basis.T @ (f.basis @ e) for e, f in zip(edges, faces, strict=True)]
    lengths = torch.stack([torch.linalg.vector_norm(x) for x in (*rests, *edges)]).tolist()
    found = []
    for face, rest, height, edge in zip(
        faces, rests, lengths[: len(faces)], lengths[len(faces) :], strict=True
    ):
        if height <= face.tolerance * edge:
            found.append((0.0, torch.zeros_like(rest)))
        else:
            found.append((height, rest / height))
    return found


def face_of(vertices: Tensor) -> Face:
    """Prepare the fixed vertices (n, P), n >= 1, of a simplex.

    Raises:
        ValueError: As `shape_of`.
    """
    _check(vertices)
    edges = vertices[1:].double() - vertices[0].double()
    tolerance = tolerance_of(vertices)
    basis, heights = orthonormal(edges, tolerance)
    degenerate = bool((heights == 0).any())
    log_volume = float(heights.log().sum()) - math.lgamma(len(vertices))
    return Face(
        vertices[0].double(),
        basis,
        -math.inf if degenerate else log_volume,
        len(vertices),
        tolerance,
    )


def regular_log_volume(squared_edge: float, dimension: int) -> float:
    """Return log V of a regular simplex: V = a^n sqrt(n + 1) / (n! 2^(n / 2)); -inf at edge 0."""
    n = dimension
    if n and not squared_edge:
        return -math.inf
    edges = n * math.log(squared_edge) / 2 if n else 0.0
    return edges + math.log(n + 1) / 2 - math.lgamma(n + 1) - n * math.log(2) / 2


def effective_edge(log_volume: float, dimension: int) -> float:
    """Return the edge of the regular simplex of that volume; NaN in dimension 0.

    The volume itself shrinks with the dimension for its factor 1 / n!, this does not.
    """
    if not dimension:
        return math.nan
    unit = regular_log_volume(1.0, dimension)
    return math.exp((log_volume - unit) / dimension)
