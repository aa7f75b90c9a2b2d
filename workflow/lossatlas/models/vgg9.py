"""VGG-9 with BatchNorm, for small images, as Chen et al. (2022) use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lossatlas.models import initial
from lossatlas.models.stages import stages
from lossatlas.spec import counts
from lossatlas.spec.counts import Counts
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
        if image_size < 2 ** len(STAGES):
            raise ValueError(f"images are 8 pixels or larger, not {image_size}")
        layers, channels, size = stages(STAGES, in_channels, image_size, width)
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
    k = arguments["width"]
    parts, channels, size = counts.stages(STAGES, channels, size, k, norms=True)
    parts += [counts.linear(channels * size**2, 4 * k), (8 * k, 0), counts.linear(4 * k, classes)]
    return counts.total(parts)


NETWORKS = {
    "vgg9": Network("VGG9", {"width": 64, "linear_std": 0.0}, count, smallest=8, norms=True),
}
