"""DenseNet of 40 layers for small images (Huang et al., CVPR 2017, without bottlenecks).

1,019,722 parameters at growth rate 12 on CIFAR-10; the paper says 1.0 M.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.spec.counts import Counts, convolution, linear, total
from lossatlas.spec.networks import Network

STEM = 16  # channels of the first convolution, whatever the growth rate
BLOCKS, LAYERS = 3, 12  # 3 blocks of 12 layers, 2 transitions, the stem and the head make 40


class Layer(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution to `growth` channels, put after the input's."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, channels + growth, H, W)."""
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class Transition(nn.Module):
    """As many channels, half the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, channels, H / 2, W / 2)."""
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class DenseNet40(nn.Module):
    """Three dense blocks without bottlenecks or compression, and a global average; no dropout.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image, which is 4x4 or larger.
        width: Growth rate: channels that a layer adds; 12 is the standard one.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 12) -> None:
        super().__init__()
        channels = STEM
        parts: list[nn.Module] = [nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)]
        for block in range(BLOCKS):
            if block:
                parts.append(Transition(channels))
            parts += [Layer(channels + layer * width, width) for layer in range(LAYERS)]
            channels += LAYERS * width
        self.features = nn.Sequential(*parts)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        return self.head(F.relu(self.norm(self.features(x))).mean(dim=(2, 3)))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of DenseNet40, and multiply-adds per image."""
    k = arguments["width"]
    parts, channels = [convolution(channels, STEM, 3, size, bias=False)], STEM
    for block in range(BLOCKS):
        if block:
            parts += [(2 * channels, 0), convolution(channels, channels, 1, size, bias=False)]
            size //= 2
        for _ in range(LAYERS):
            parts += [(2 * channels, 0), convolution(channels, k, 3, size, bias=False)]
            channels += k
    return total([*parts, (2 * channels, 0), linear(channels, classes)])


NETWORKS = {
    "densenet40": Network(
        "DenseNet40", {"width": 12}, count, smallest=4, activations=40.0, norms=True
    ),
}
