"""A fully connected network, with no normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from lossatlas.models import initial
from lossatlas.spec.counts import Counts
from lossatlas.spec.depths import at_least
from lossatlas.spec.networks import Network

FULLY_CONNECTED = at_least(2)  # layers


def _places(image_size: int | tuple[int, ...]) -> int:
    return image_size**2 if isinstance(image_size, int) else math.prod(image_size)


class MLP(nn.Module):
    """`depth` hidden layers of `width` ReLU units on the flattened image, signal or row.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image, or the shape of what is not square.
        width: Units per hidden layer.
        depth: Hidden layers; 0 is softmax regression, whose loss is convex.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: int | tuple[int, ...],
        width: int = 64,
        depth: int = 2,
    ) -> None:
        super().__init__()
        sizes = [in_channels * _places(image_size)] + [width] * depth
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        return self.layers(x)


class FullyConnected(nn.Module):
    """`depth` linear layers without bias, ReLU between them (Chen et al. 2022: fc3 to fc110).

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image, or the shape of what is not square.
        width: Units per hidden layer.
        depth: Linear layers, at least 2.
        linear_std: As in `initial.draw`. At the paper's 0.001 the output of `depth` 20 is about
            1e-42, and training does not start.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: int | tuple[int, ...],
        width: int = 100,
        depth: int = 3,
        linear_std: float = 0.0,
    ) -> None:
        super().__init__()
        FULLY_CONNECTED.check(depth)
        sizes = [in_channels * _places(image_size)] + [width] * (depth - 1)
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes, bias=False))
        initial.draw(self, linear_std)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        return self.layers(x)


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of MLP, and multiply-adds per image."""
    width = arguments["width"]
    sizes = [channels * size**2, *[width] * arguments["depth"], classes]
    weights = sum(a * b for a, b in pairwise(sizes))
    return weights + sum(sizes[1:]), weights


def count_fully_connected(
    arguments: Mapping[str, Any], classes: int, channels: int, size: int
) -> Counts:
    """Return the parameters of FullyConnected, and multiply-adds per image."""
    width = arguments["width"]
    inner = width * width * (arguments["depth"] - 2)
    weights = channels * size**2 * width + inner + width * classes
    return weights, weights


INPUTS = ("square", "oblong", "rows")
NETWORKS = {
    "mlp": Network("MLP", {"width": 64, "depth": 2}, count, depths=at_least(0), inputs=INPUTS),
    "fully_connected": Network(
        "FullyConnected",
        {"width": 100, "depth": 3, "linear_std": 0.0},
        count_fully_connected,
        depths=FULLY_CONNECTED,
        inputs=INPUTS,
    ),
}
