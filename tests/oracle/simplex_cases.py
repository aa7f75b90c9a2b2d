"""What several tests of simplexes use: settings, images, an interruption, a volume."""

import math

import torch

from lossatlas.data.tensors import Split
from lossatlas.metrics.spro import Spro
from lossatlas.training.state import State

FAST = {"epochs": 4, "batch_size": 32, "learning_rate": 0.05, "samples": 2}


def split(count: int, seed: int) -> Split:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 3, 3, generator=draw)
    flat = images.flatten(1)
    return Split(images, (flat[:, :3] * flat[:, 3:6]).argmax(1))


def settings(**changes) -> Spro:
    base = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05, "samples": 3}
    return Spro(**{**base, **changes})


class Interrupted(State):
    """A state that is told to leave after some steps."""

    def __init__(self, path, key: str, after: int) -> None:
        super().__init__(path, key)
        self.left = after

    def due(self) -> bool:
        self.left -= 1
        self._warning.given = self.left == 0
        return self._warning.given


def squared_volume(vertices: torch.Tensor) -> torch.Tensor:
    """Return V^2 of the Cayley-Menger determinant, differentiable."""
    n = len(vertices) - 1
    bordered = torch.ones(n + 2, n + 2, dtype=torch.float64)
    bordered[-1, -1] = 0.0
    bordered[:-1, :-1] = torch.stack([(vertices - v).square().sum(1) for v in vertices])
    return torch.linalg.det(bordered).abs() / (2**n * math.factorial(n) ** 2)
