"""Residual networks for small images (He et al., CVPR 2016), with and without shortcuts and norms.

Depth 6n + 2: 14, 20, 32, 44, 56, 110. As Chen et al. (2022) use them: projections of 1x1
convolution and BatchNorm where a block changes shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models import initial
from lossatlas.spec.counts import Counts, convolution, linear, total
from lossatlas.spec.depths import Depths
from lossatlas.spec.networks import Network

DEPTHS = Depths("6n + 2", lambda depth: depth >= 8 and depth % 6 == 2)

NORMS = ("full", "partial", "none")


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, or none.

    Args:
        channels: Of the input.
        planes: Of the output.
        stride: Of the first convolution.
        shortcut: Whether the input is added to the output.
        norm: Whether convolutions are followed by BatchNorm.
        norm_shortcut: Whether a projection is.
    """

    def __init__(
        self,
        channels: int,
        planes: int,
        stride: int,
        shortcut: bool,
        norm: bool,
        norm_shortcut: bool,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.norm1: nn.Module = nn.BatchNorm2d(planes) if norm else nn.Identity()
        self.norm2: nn.Module = nn.BatchNorm2d(planes) if norm else nn.Identity()
        self.shortcut: nn.Module | None = None
        if shortcut:
            self.shortcut = nn.Identity()
            if stride != 1 or channels != planes:
                parts: list[nn.Module] = [nn.Conv2d(channels, planes, 1, stride, bias=False)]
                if norm_shortcut:
                    parts.append(nn.BatchNorm2d(planes))
                self.shortcut = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, planes, H / stride, W / stride)."""
        y = self.conv2(F.relu(self.norm1(self.conv1(x))))
        y = self.norm2(y)
        return F.relu(y if self.shortcut is None else y + self.shortcut(x))


class ResNetCifar(nn.Module):
    """Three stages of 16k, 32k and 64k channels, then a global average.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        depth: 6n + 2.
        width: k; 1 is the standard one, 2 to 8 the wide ones.
        shortcut: Whether blocks have shortcuts.
        norm: `full`, `none`, or `partial`: what the paper calls no BatchNorm, where that of the
            stem and those of the projections remain.
        linear_std: As in `initial.draw`.

    Raises:
        ValueError: If there is no network of that depth, or no such norm.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        depth: int = 14,
        width: int = 1,
        shortcut: bool = True,
        norm: str = "full",
        linear_std: float = 0.0,
    ) -> None:
        super().__init__()
        DEPTHS.check(depth)
        if norm not in NORMS:
            raise ValueError(f"norm is one of {', '.join(NORMS)}, not {norm}")
        channels = 16 * width
        self.stem = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels) if norm != "none" else nn.Identity()
        blocks = []
        for stage in range(3):
            for index in range((depth - 2) // 6):
                planes, stride = (16 * width) << stage, 2 if stage and not index else 1
                blocks.append(
                    Block(channels, planes, stride, shortcut, norm == "full", norm != "none")
                )
                channels = planes
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)
        initial.draw(self, linear_std)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of ResNetCifar, and multiply-adds per image."""
    k, norm = 16 * arguments["width"], arguments["norm"]
    parts = [convolution(channels, k, 3, size, bias=False), (2 * k * (norm != "none"), 0)]
    channels = k
    for stage in range(3):
        planes = k << stage
        for index in range((arguments["depth"] - 2) // 6):
            stride = 2 if stage and not index else 1
            size = -(-size // stride)
            parts.append(convolution(channels, planes, 3, size, bias=False))
            parts.append(convolution(planes, planes, 3, size, bias=False))
            parts.append((4 * planes * (norm == "full"), 0))
            if arguments["shortcut"] and (stride != 1 or channels != planes):
                parts.append(convolution(channels, planes, 1, size, bias=False))
                parts.append((2 * planes * (norm != "none"), 0))
            channels = planes
    return total([*parts, linear(channels, classes)])


NETWORKS = {
    "resnet_cifar": Network(
        "ResNetCifar",
        {"depth": 14, "width": 1, "shortcut": True, "norm": "full", "linear_std": 0.0},
        count,
        depths=DEPTHS,
        choices={"norm": NORMS},
        norms=True,
        inputs=("square", "oblong"),
    ),
}
