"""The variant of AlexNet for small images that Chen et al. (2022) use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lossatlas.models import initial
from lossatlas.spec.counts import Counts, convolution, linear, total
from lossatlas.spec.networks import Network

SMALLEST = 28  # pixels; below, the third pool has nothing to pool


def features_of(image_size: int) -> int:
    """Return the height and width of what the convolutions make of an image."""
    size = image_size // 2 + 1
    for _ in range(3):
        size = (size - 3) // 2 + 1
    return size


class AlexNet(nn.Module):
    """Five convolutions of the same width, three 3x3 max pools of stride 2, dropout, three linear.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image, 28 or more.
        width: Channels; with f features after the convolutions, hidden layers have
            f (1 + floor(log2 f)) units. 64 is the paper's (451,146 parameters on CIFAR-10).
        linear_std: As in `initial.draw`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,
        width: int = 64,
        linear_std: float = 0.0,
    ) -> None:
        super().__init__()
        if image_size < SMALLEST:
            raise ValueError(f"images are {SMALLEST} pixels or larger, not {image_size}")
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 2), nn.ReLU()]
        layers += [nn.MaxPool2d(3, 2), nn.Conv2d(width, width, 5, padding=2), nn.ReLU()]
        layers.append(nn.MaxPool2d(3, 2))
        for _ in range(3):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.MaxPool2d(3, 2))
        count = width * features_of(image_size) ** 2
        hidden = count * int(1 + math.log2(count))
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(count, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )
        initial.draw(self, linear_std)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        return self.classifier(self.features(x))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of AlexNet, and multiply-adds per image."""
    k, size = arguments["width"], size // 2 + 1
    parts = [convolution(channels, k, 4, size)]
    for kernels in ((5,), (3, 3, 3)):
        size = (size - 3) // 2 + 1
        parts += [convolution(k, k, kernel, size) for kernel in kernels]
    features = k * ((size - 3) // 2 + 1) ** 2
    hidden = features * features.bit_length()
    parts += [linear(features, hidden), linear(hidden, hidden), linear(hidden, classes)]
    return total(parts)


NETWORKS = {
    "alexnet": Network("AlexNet", {"width": 64, "linear_std": 0.0}, count, smallest=SMALLEST),
}
