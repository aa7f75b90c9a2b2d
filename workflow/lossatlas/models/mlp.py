"""A fully connected network, with no normalisation."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """`depth` hidden layers of `width` ReLU units on the flattened image.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image.
        width: Units per hidden layer.
        depth: Hidden layers; 0 is softmax regression, whose loss is convex.
    """

    def __init__(
        self, num_classes: int, in_channels: int, image_size: int, width: int = 64, depth: int = 2
    ) -> None:
        super().__init__()
        sizes = [in_channels * image_size**2] + [width] * depth
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
        image_size: Height and width of an image.
        width: Units per hidden layer.
        depth: Linear layers, at least 2.
    """

    def __init__(
        self, num_classes: int, in_channels: int, image_size: int, width: int = 100, depth: int = 3
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth is 2 or more, not {depth}")
        sizes = [in_channels * image_size**2] + [width] * (depth - 1)
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        return self.layers(x)
