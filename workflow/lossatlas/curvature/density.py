"""Spectral density by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossatlas.curvature.lanczos import Lanczos, rademacher
from lossatlas.curvature.operator import LinearOperator

RELATIVE_WIDTH = 0.01  # of the Gaussian, in units of the range of the nodes
POINTS = 512


@dataclass(frozen=True)
class Density:
    """The distribution of the eigenvalues of an operator.

    Attributes:
        nodes: (probes, steps) float64, eigenvalues of each quadrature.
        weights: (probes, steps) float64; each row sums to 1.
        x: (512,) float64, eigenvalues.
        y: (512,) float64, density; its integral is 1.
        width: Standard deviation of the Gaussian that each node is drawn with.
        products: Hessian-vector products that were used.
    """

    nodes: Tensor
    weights: Tensor
    x: Tensor
    y: Tensor
    width: float
    products: int

    def moment(self, order: int) -> float:
        """Return the estimate of tr(H^order) / P: exact in expectation up to order 2 steps - 1."""
        return (self.weights * self.nodes**order).sum(dim=1).mean().item()


def density(
    operator: LinearOperator,
    probes: int = 2,
    steps: int = 30,
    *,
    generator: torch.Generator,
    relative_width: float = RELATIVE_WIDTH,
) -> Density:
    """Return the spectral density by stochastic Lanczos quadrature (Ubaru, Chen and Saad, 2017).

    For a random vector z the Ritz values and the squares of the first components of their vectors
    are the Gauss quadrature of z^T f(H) z / P, whose mean over z is tr f(H) / P. The curve is the
    mean over probes of Gaussians at the nodes.

    Args:
        operator: The operator.
        probes: Random vectors of signs, at least 1.
        steps: Lanczos steps, hence nodes, of each.
        generator: For the probes.
        relative_width: Standard deviation of the Gaussians over the range of the nodes.

    Raises:
        ValueError: If there is no probe or no step.
    """
    if probes < 1 or steps < 1:
        raise ValueError(f"expected at least one probe and one step, got {probes} and {steps}")
    starts = (rademacher(operator, generator) for _ in range(probes))
    pairs = [quadrature(operator, start, steps, generator) for start in starts]
    nodes = torch.stack([node for node, _ in pairs])
    weights = torch.stack([weight for _, weight in pairs])
    x, y, width = smooth(nodes, weights, relative_width)
    return Density(nodes, weights, x, y, width, nodes.numel())


def quadrature(
    operator: LinearOperator, start: Tensor, steps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return nodes (m,) and weights (m,) for one start vector (P,); m = min(steps, P).

    They are NaN where a product was not finite.
    """
    lanczos = Lanczos(operator, start, steps, generator)
    for _ in range(lanczos.capacity):
        lanczos.step()
    if not lanczos.finite:
        nothing = torch.full((lanczos.capacity,), math.nan, dtype=torch.float64)
        return nothing, nothing
    nodes, _, weights = lanczos.ritz()
    return nodes, weights


def smooth(nodes: Tensor, weights: Tensor, relative_width: float) -> tuple[Tensor, Tensor, float]:
    """Return x (512,), y (512,) and the width of the Gaussians; see `density`."""
    low, high = nodes.min().item(), nodes.max().item()
    spread = high - low or abs(high) or 1.0  # one single node: its modulus sets the scale
    width = relative_width * spread
    x = torch.linspace(low - 5 * width, high + 5 * width, POINTS, dtype=torch.float64)
    distance = (x - nodes.reshape(-1, 1)) / width
    bells = torch.exp(-0.5 * distance.square()) / (width * math.sqrt(2 * math.pi))
    y = (weights.reshape(-1, 1) * bells).sum(dim=0) / len(nodes)
    return x, y, width
