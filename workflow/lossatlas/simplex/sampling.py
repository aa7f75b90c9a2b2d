"""Uniform points in simplexes and in complexes of simplexes, as barycentric weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def barycentric(u: Tensor) -> Tensor:
    """Map uniform numbers to weights that are uniform on the standard simplex.

    w = e / sum(e) with e = -log u is Dirichlet(1, ..., 1), and an affine map keeps it uniform on a
    simplex of any shape (Benton et al., 2021, section 4.1).

    Args:
        u: (..., k) in (0, 1].

    Returns:
        (..., k), nonnegative, of sum 1.
    """
    e = -u.double().log()
    return e / e.sum(-1, keepdim=True).clamp_min(1e-300)


def uniform(count: int, vertices: int, generator: torch.Generator) -> Tensor:
    """Draw weights (count, vertices), float64, uniform on the standard simplex.

    The uniform numbers are taken from (0, 1]: a 0, which float32 draws give once in 2^24, would
    make a weight of NaN.

    Raises:
        ValueError: If there is no vertex, or `count` is negative.
    """
    if vertices < 1 or count < 0:
        raise ValueError(f"cannot draw {count} points of a simplex of {vertices} vertices")
    u = torch.rand(count, vertices, generator=generator, dtype=torch.float64)
    return barycentric(1.0 - u)


def shares(log_volumes: Sequence[float]) -> Tensor:
    """Return the probability of each simplex: its share of the volume (N,), float64.

    If all are degenerate (or have NaN for a volume) they are equally likely.
    """
    logs = torch.tensor(list(log_volumes), dtype=torch.float64)
    if not len(logs):
        raise ValueError("there is no simplex")
    logs = torch.nan_to_num(logs, nan=-math.inf, neginf=-math.inf)
    if bool(torch.isinf(logs).all()):
        return torch.full_like(logs, 1.0 / len(logs))
    return torch.softmax(logs, 0)


def in_complex(
    simplexes: Sequence[Sequence[int]],
    probabilities: Tensor,
    count: int,
    vertices: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw weights (count, vertices), float64, of points in a complex.

    Args:
        simplexes: Vertex indices of each.
        probabilities: (N,) of the simplexes: `shares`, or equal ones as in the authors' code.
        count: How many points.
        vertices: How many vertices the complex has.
        generator: On the CPU.
    """
    widest = max(len(simplex) for simplex in simplexes)
    places = torch.zeros(len(simplexes), widest, dtype=torch.long)
    present = torch.zeros(len(simplexes), widest, dtype=torch.bool)
    for row, simplex in enumerate(simplexes):
        places[row, : len(simplex)] = torch.tensor(list(simplex))
        present[row, : len(simplex)] = True
    u = torch.rand(count, widest, generator=generator, dtype=torch.float64)
    chosen = torch.multinomial(probabilities, count, replacement=True, generator=generator)
    # A weight of u = 1 is 0: what a simplex lacks takes no part.
    weights = barycentric(torch.where(present[chosen], 1.0 - u, torch.ones_like(u)))
    found = torch.zeros(count, vertices, dtype=torch.float64)
    return found.scatter_add_(1, places[chosen], weights)
