"""VGG-9 with BatchNorm, for small images, as Chen et al. (2022) use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lossatlas.models import initial
from lossatlas.spec.counts import Counts, convolution, linear, total
from lossatlas.spec.networks import Network

STAGES = ((1, 1), (2, 2), (4, 4, 4))  # channels in units of the width


class VGG9(nn.Module):
    """Seven 3x3 convolutions in three stages that end in a 2x2 max pool, and two linear layers.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image, 8 or more.
        width: Channels of the first stage; 64 is the paper's (2,789,706 parameters on CIFAR-10).
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
        layers: list[nn.Module] = []
        channels, size = in_channels, image_size
        for stage in STAGES:
            for multiple in stage:
                out = multiple * width
                layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
                channels = out
            layers.append(nn.MaxPool2d(2))
            size //= 2
        if not size:
            raise ValueError(f"images are 8 pixels or larger, not {image_size}")
        self.features = nn.Sequential(*layers)
        hidden = 4 * width
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * size**2, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )
        initial.draw(self, linear_std)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        return self.classifier(self.features(x))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of VGG9, and multiply-adds per image."""
    k, parts = arguments["width"], []
    for stage in STAGES:
        for multiple in stage:
            parts += [convolution(channels, multiple * k, 3, size), (2 * multiple * k, 0)]
            channels = multiple * k
        size //= 2
    parts += [linear(channels * size**2, 4 * k), (8 * k, 0), linear(4 * k, classes)]
    return total(parts)


NETWORKS = {
    "vgg9": Network("VGG9", {"width": 64, "linear_std": 0.0}, count, smallest=8, norms=True),
}
