"""A small convolutional network, with no normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lossatlas.spec.counts import Counts, convolution, linear, total
from lossatlas.spec.networks import Network


class ConvNet(nn.Module):
    """Three 3x3 convolutions of k, 2k and 4k channels with two pools, and a global average.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image, which is 4x4 or larger.
        width: k.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for index, out in enumerate((width, 2 * width, 4 * width)):
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if index < 2 else []
            channels = out
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        return self.head(self.layers(x).mean(dim=(2, 3)))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of ConvNet, and multiply-adds per image."""
    k = arguments["width"]
    sizes = (size, size // 2, size // 4)
    inputs = (channels, k, 2 * k)
    parts = [
        convolution(i, o, 3, s) for i, o, s in zip(inputs, (k, 2 * k, 4 * k), sizes, strict=True)
    ]
    return total([*parts, linear(4 * k, classes)])


NETWORKS = {
    "convnet": Network("ConvNet", {"width": 16}, count, smallest=4, inputs=("square", "oblong")),
}
