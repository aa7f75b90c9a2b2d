"""SWA and SWAG: the mean of weights along SGD, and a Gaussian around it (Maddox et al., 2019).

An ensemble of them from several modes is MultiSWA, MultiSWAG (Wilson and Izmailov, 2020).

Of weights theta_1 ... theta_T, one after each epoch at a constant rate, SWAG keeps the mean, the
mean square, and the last K deviations d_i of theta_i from the mean up to then. Samples are

    mean + (sigma z_1 + D z_2 / sqrt(K - 1)) / sqrt(2)

with sigma^2 = max(mean square - mean^2, 0), D the deviations as columns, and z standard normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossatlas.data.tensors import Split
from lossatlas.models.functional import Functional, Tensors
from lossatlas.simplex.onward import steps_per_epoch, train_on
from lossatlas.training.optimisers import Settings


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian over weights.

    Attributes:
        mean: (P,), in the type of the weights.
        variance: (P,), float64, of its diagonal part.
        deviations: (K, P), of its low-rank part.
    """

    mean: Tensor
    variance: Tensor
    deviations: Tensor

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return samples (count, P)."""
        rank, size = self.deviations.shape
        scale = self.variance.sqrt().to(self.mean)
        found = []
        for _ in range(count):
            wide = torch.randn(size, generator=generator).to(self.mean)
            along = torch.randn(rank, generator=generator).to(self.mean)
            low = along @ self.deviations / math.sqrt(max(rank - 1, 1))
            found.append(self.mean + (scale * wide + low) / math.sqrt(2.0))
        return torch.stack(found)


def collect(
    functional: Functional,
    buffers: Tensors,
    start: Tensor,
    split: Split,
    *,
    epochs: int,
    rate: float,
    rank: int,
    batch_size: int,
    settings: Settings,
    words: tuple[object, ...] = (),
) -> Gaussian:
    """Train on from a network at a constant rate, and return the Gaussian of its weights.

    Args:
        functional: The network.
        buffers: Of the network; not changed.
        start: (P,).
        split: Training images and labels.
        epochs: Passes over the data, each of which gives weights; at least 2.
        rate: Learning rate.
        rank: K, at most `epochs`.
        batch_size: Images per step; an incomplete last batch is left out.
        settings: `optimiser`, `momentum`, `weight_decay`.
        words: What the random numbers are named after.
    """
    every = steps_per_epoch(split, batch_size)
    mean = torch.zeros_like(start, dtype=torch.float64)
    square, deviations = torch.zeros_like(mean), list[Tensor]()
    walk = train_on(
        functional,
        buffers,
        start,
        split,
        steps=epochs * every,
        rate=lambda _: rate,
        batch_size=batch_size,
        settings=settings,
        words=("swag", *words),
    )
    for step, theta in enumerate(walk, 1):
        if step % every:
            continue
        number, weights = step // every, theta.double()
        mean += (weights - mean) / number
        square += (weights.square() - square) / number
        deviations = [*deviations, (weights - mean).to(start)][-rank:]
    variance = (square - mean.square()).clamp_(min=0.0)
    return Gaussian(mean.to(start), variance, torch.stack(deviations))
