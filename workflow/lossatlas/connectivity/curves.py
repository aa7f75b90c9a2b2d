"""Curves through parameter space: Bezier curves and polygonal chains with fixed ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lossatlas.models.functional import Tensors, flatten, unflatten

Kind = Literal["bezier", "polygon"]
Network = tuple[Tensors, Tensors]  # parameters and buffers, as models.functional.state_of returns


def coefficients(kind: Kind, bends: int, t: float | np.ndarray) -> np.ndarray:
    """Return the weights of the control points in the point at t.

    Bezier: C(n, i) t^i (1 - t)^(n - i); polygonal chain: max(0, 1 - |n t - i|); n = bends + 1
    (Garipov et al., 2018, section 3). Exactly a unit vector at t = 0 and t = 1.

    Args:
        kind: "bezier" or "polygon"; both are the straight line when there is no bend.
        bends: Control points between the two ends.
        t: One place, or places (T,).

    Returns:
        float64, (bends + 2,) or (T, bends + 2).

    Raises:
        ValueError: If the kind is unknown, or `bends` is negative.
    """
    if bends < 0:
        raise ValueError(f"a curve has no bends or more, not {bends}")
    last = bends + 1
    place, index = np.asarray(t, dtype=np.float64)[..., None], np.arange(bends + 2)
    if kind == "bezier":
        binomials = np.array([math.comb(last, int(i)) for i in index], dtype=np.float64)
        return binomials * place**index * (1.0 - place) ** (last - index)
    if kind == "polygon":
        return np.maximum(0.0, 1.0 - np.abs(last * place - index))
    raise ValueError(f"a curve is 'bezier' or 'polygon', not {kind!r}")


@dataclass(frozen=True)
class Curve:
    """A curve between two networks.

    Attributes:
        kind: "bezier" or "polygon".
        controls: (bends + 2, P) flat control points; the first and last are the two networks.
        shapes: Name -> shape, in the order of the flat vectors.
        buffers: Buffers of the two networks.
    """

    kind: Kind
    controls: Tensor
    shapes: Mapping[str, torch.Size]
    buffers: tuple[Tensors, Tensors]

    def at(self, t: float) -> Network:
        """Return parameters and buffers of the point at t.

        At t = 0 and t = 1 these are the two networks, bit for bit. Buffers are those of the nearer
        end; statistics of BatchNorm mean nothing elsewhere until they are estimated anew.
        """
        weights = coefficients(self.kind, len(self.controls) - 2, t).tolist()
        terms = [w * c for w, c in zip(weights, self.controls, strict=True) if w]
        point = torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]
        buffers = self.buffers[0] if t < 0.5 else self.buffers[1]
        return unflatten(point, self.shapes), buffers

    @property
    def finite(self) -> bool:
        """Whether every control point is finite."""
        return bool(torch.isfinite(self.controls).all())

    def step_lengths(self, t: np.ndarray) -> np.ndarray:
        """Return the distances (T - 1,) between neighbouring points at the places t (T,)."""
        moves = np.diff(coefficients(self.kind, len(self.controls) - 2, t), axis=0)
        squares = np.einsum("ti,ij,tj->t", moves, self._products(), moves)
        return np.sqrt(np.maximum(squares, 0.0))

    def length(self, places: int = 1001) -> float:
        """Return the length, as that of the chain through so many points."""
        return float(self.step_lengths(np.linspace(0.0, 1.0, places)).sum())

    def distance(self) -> float:
        """Return the straight distance of the two ends."""
        return float(straight(self).step_lengths(np.array([0.0, 1.0]))[0])

    def _products(self) -> np.ndarray:
        """Return the inner products of the control points seen from the first, in float64.

        The weights of a difference of two points sum to 0, so the origin may be anywhere.
        """
        size = len(self.controls)
        total = torch.zeros(size, size, dtype=torch.float64, device=self.controls.device)
        for piece in self.controls.split(1 << 20, dim=1):
            seen = piece.double() - piece[0].double()
            total += seen @ seen.T
        return total.cpu().numpy()


def straight(curve: Curve) -> Curve:
    """Return the straight line between the ends of a curve."""
    return Curve("polygon", curve.controls[[0, -1]], curve.shapes, curve.buffers)


def straight_line(start: Network, end: Network) -> Curve:
    """Return the straight line between two networks.

    Args:
        start: Parameters and buffers, as `models.functional.state_of` returns them.
        end: The same of the other network.

    Raises:
        ValueError: If names, shapes or types differ.
    """
    check_alike(start, end)
    shapes = {name: p.shape for name, p in start[0].items()}
    ends = torch.stack([flatten(start[0]), flatten({name: end[0][name] for name in shapes})])
    return Curve("polygon", ends.detach(), shapes, (start[1], end[1]))


def check_alike(start: Network, end: Network) -> None:
    """Refuse two networks that no curve can connect.

    Raises:
        ValueError: If names, shapes or types of parameters differ.
    """
    if start[0].keys() != end[0].keys():
        odd = sorted(start[0].keys() ^ end[0].keys())
        raise ValueError(f"only one of the two networks has the parameters {odd}")
    kinds = {p.dtype for params in (start[0], end[0]) for p in params.values()}
    if len(kinds) != 1:
        raise ValueError(f"parameters have {len(kinds)} types, not one")
    for name, one in start[0].items():
        if one.shape != end[0][name].shape:
            shapes = f"{tuple(one.shape)} and {tuple(end[0][name].shape)}"
            raise ValueError(f"parameter {name!r} has the shapes {shapes}")
