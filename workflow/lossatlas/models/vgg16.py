"""VGG16 for small images, without and with BatchNorm (Simonyan & Zisserman, 2015).

The network of Garipov et al. (2018) and Benton et al. (2021): 13 convolutions, dropout, and three
linear layers. 15,245,130 parameters at width 64 on CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from lossatlas.models.initial import draw_by_outputs
from lossatlas.spec import counts
from lossatlas.spec.counts import Counts
from lossatlas.spec.networks import Network

STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))  # channels in units of the width


class VGG16(nn.Module):
    """VGG16 without normalisation, whose first stage has `width` channels.

    Each stage ends in a 2x2 max pool, left out where the image has shrunk to one pixel. It comes
    before the stage's last ReLU: the two commute, and the ReLU is left with a quarter of the work.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image.
        width: Channels of the first stage; 64 is the standard one.
        he_init: Initial weights of convolutions as `initial.draw_by_outputs` draws them; else
            PyTorch's own.
    """

    norm = False

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,
        width: int = 64,
        he_init: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, size = in_channels, image_size
        for stage in STAGES:
            for multiple in stage:
                layers.append(nn.Conv2d(channels, multiple * width, 3, padding=1))
                channels = multiple * width
                if self.norm:
                    layers.append(nn.BatchNorm2d(channels))
                layers.append(nn.ReLU(inplace=True))
            if size > 1:
                layers.insert(-1, nn.MaxPool2d(2))
                size //= 2
        self.features = nn.Sequential(*layers)
        hidden = 8 * width
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(channels * size**2, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )
        if he_init:
            draw_by_outputs(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        return self.classifier(self.features(x))


class VGG16BN(VGG16):
    """VGG16 with BatchNorm after every convolution."""

    norm = True


def count(
    arguments: Mapping[str, Any], classes: int, channels: int, size: int, *, norms: bool = False
) -> Counts:
    """Return the parameters of VGG16, and multiply-adds per image."""
    k = arguments["width"]
    parts, channels, size = counts.stages(STAGES, channels, size, k, norms=norms)
    ends = ((channels * size**2, 8 * k), (8 * k, 8 * k), (8 * k, classes))
    return counts.total([*parts, *(counts.linear(*end) for end in ends)])


NETWORKS = {
    "vgg16": Network("VGG16", {"width": 64, "he_init": False}, count),
    "vgg16_bn": Network(
        "VGG16BN", {"width": 64, "he_init": False}, partial(count, norms=True), norms=True
    ),
}
