"""Spectral density by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossatlas.curvature.lanczos import Lanczos, rademacher
from lossatlas.curvature.operator import LinearOperator
from lossatlas.curvature.progress import Progress
from lossatlas.store import Series

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


def ritz_series(found: Density, seed: int, matrix: str = "hessian", **index: int) -> list[Series]:
    """Return the weights of a replica's quadratures against their nodes: a series per probe.

    Args:
        found: The quadratures.
        seed: The replica.
        matrix: Begins the name of the series.
        index: What tells its series from others of the replica, besides `probe`.
    """
    return [
        Series(
            f"{matrix}_ritz",
            nodes.numpy(),
            weights.numpy(),
            "eigenvalue",
            seed,
            x_unit="nats",
            status="ok" if bool(torch.isfinite(weights).all()) else "undefined",
            index={**index, "probe": probe},
        )
        for probe, (nodes, weights) in enumerate(zip(found.nodes, found.weights, strict=True))
    ]


def density(
    operator: LinearOperator,
    probes: int = 2,
    steps: int = 30,
    *,
    generator: torch.Generator,
    relative_width: float = RELATIVE_WIDTH,
    progress: Progress | None = None,
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
        progress: Where it notes its steps.

    Raises:
        ValueError: If there is no probe or no step.
    """
    if probes < 1 or steps < 1:
        raise ValueError(f"expected at least one probe and one step, got {probes} and {steps}")
    pairs = [
        quadrature(operator, rademacher(operator, generator), steps, generator, progress, number)
        for number in range(probes)
    ]
    nodes = torch.stack([node for node, _ in pairs])
    weights = torch.stack([weight for _, weight in pairs])
    x, y, width = smooth(nodes, weights, relative_width)
    return Density(nodes, weights, x, y, width, nodes.numel())


def quadrature(
    operator: LinearOperator,
    start: Tensor,
    steps: int,
    generator: torch.Generator,
    progress: Progress | None = None,
    number: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return nodes (m,) and weights (m,) for one start vector (P,); m = min(steps, P).

    They are NaN where a product was not finite. Its steps are noted under its number, and when it
    is done its result alone.
    """
    progress, name, basis = progress or Progress(), f"quadrature-{number}", f"vectors-{number}"
    if (known := progress.noted(name)) is not None:
        tensors, _ = known
        operator.products += len(tensors["nodes"])
        generator.set_state(tensors["random"])
        return tensors["nodes"], tensors["weights"]
    lanczos = Lanczos(operator, start, steps, generator, progress=progress, note=basis)
    for _ in range(lanczos.capacity):
        lanczos.step()
    nodes, _, weights = lanczos.ritz() if lanczos.finite else _undefined(lanczos.capacity)
    progress.forget(basis)
    progress.note(name, {"nodes": nodes, "weights": weights, "random": generator.get_state()}, {})
    return nodes, weights


def _undefined(count: int) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.full((3, count), math.nan, dtype=torch.float64)
    return rows[0].clone(), rows[1].clone(), rows[2].clone()


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
