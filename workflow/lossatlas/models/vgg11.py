"""VGG11 with BatchNorm for small images (Simonyan & Zisserman, 2015, network A).

The usual form for CIFAR: eight 3x3 convolutions, and one linear layer in place of three.
9,231,114 parameters at width 64 on CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lossatlas.models.stages import stages
from lossatlas.spec import counts
from lossatlas.spec.counts import Counts
from lossatlas.spec.networks import Network

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # channels in units of the width


class VGG11(nn.Module):
    """VGG11 with BatchNorm, whose first stage has `width` channels; no dropout.

    Each stage ends in a 2x2 max pool, left out where the image has shrunk to one pixel.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image.
        width: Channels of the first stage; 64 is the standard one.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, image_size: int = 32, width: int = 64
    ) -> None:
        super().__init__()
        layers, channels, size = stages(STAGES, in_channels, image_size, width)
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(channels * size**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        return self.head(self.features(x))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of VGG11, and multiply-adds per image."""
    parts, channels, size = counts.stages(STAGES, channels, size, arguments["width"], norms=True)
    return counts.total([*parts, counts.linear(channels * size**2, classes)])


NETWORKS = {"vgg11": Network("VGG11", {"width": 64}, count, norms=True)}
