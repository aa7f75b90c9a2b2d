"""DenseNet for small images (Huang et al., CVPR 2017, with bottlenecks and compression)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models import initial
from lossatlas.spec.counts import Counts, convolution, linear, total
from lossatlas.spec.depths import listed
from lossatlas.spec.networks import Network

STAGES = {  # depth -> layers of each stage
    121: (6, 12, 24, 16),
    161: (6, 12, 36, 24),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
}
DEPTHS = listed(*STAGES)


class Layer(nn.Module):
    """BatchNorm, ReLU and convolution, 1x1 to 4k and 3x3 to k channels, put before the input's."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, channels + growth, H, W)."""
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([y, x], 1)


class Transition(nn.Module):
    """Half the channels and half the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, channels / 2, H / 2, W / 2)."""
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class DenseNet(nn.Module):
    """Four dense blocks, three transitions, and a global average.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image, which is 8x8 or larger.
        depth: 121, 161, 169 or 201.
        width: Growth rate k: channels that a layer adds. 32 is the standard one (6,956,298
            parameters at depth 121 on CIFAR-10).
        linear_std: As in `initial.draw`.

    Raises:
        ValueError: If there is no network of that depth.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        depth: int = 121,
        width: int = 32,
        linear_std: float = 0.0,
    ) -> None:
        super().__init__()
        DEPTHS.check(depth)
        channels = 2 * width
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        parts: list[nn.Module] = []
        for index, count in enumerate(STAGES[depth]):
            if index:
                parts.append(Transition(channels))
                channels //= 2
            for _ in range(count):
                parts.append(Layer(channels, width))
                channels += width
        self.parts = nn.Sequential(*parts)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)
        initial.draw(self, linear_std)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        x = F.relu(self.norm(self.parts(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of DenseNet, and multiply-adds per image."""
    k = arguments["width"]
    parts, channels = [convolution(channels, 2 * k, 3, size, bias=False)], 2 * k
    for stage, layers in enumerate(STAGES[arguments["depth"]]):
        if stage:
            parts += [(2 * channels, 0), convolution(channels, channels // 2, 1, size, bias=False)]
            channels, size = channels // 2, size // 2
        for _ in range(layers):
            parts += [(2 * channels, 0), convolution(channels, 4 * k, 1, size, bias=False)]
            parts += [(8 * k, 0), convolution(4 * k, k, 3, size, bias=False)]
            channels += k
    return total([*parts, (2 * channels, 0), linear(channels, classes)])


NETWORKS = {
    "densenet": Network(
        "DenseNet",
        {"depth": 121, "width": 32, "linear_std": 0.0},
        count,
        depths=DEPTHS,
        smallest=8,
        activations=40.0,
        norms=True,
    ),
}
