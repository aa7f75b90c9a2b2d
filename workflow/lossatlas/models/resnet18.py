"""ResNet18 of any width, for small images (Yang et al., 2021, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.spec.counts import Counts
from lossatlas.spec.networks import Network


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, by a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            project = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, out, H / stride, W / stride)."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet18 whose four stages have k, 2k, 4k and 8k channels; k = 64 is the standard one.

    Images may have any size from 8x8 up: the stages are followed by a global average pool.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        width: k. The width-k network has 44,622 parameters at k = 4 on CIFAR-10.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        blocks, channels = [], width
        for stride, out in zip((1, 2, 2, 2), (width, 2 * width, 4 * width, 8 * width), strict=True):
            blocks += [Block(channels, out, stride), Block(out, out, 1)]
            channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of ResNet18, and multiply-adds per image."""
    k = arguments["width"]
    parameters, work = 9 * channels * k + 2 * k, 9 * channels * k * size**2
    inputs = k
    for stage, outputs in enumerate((k, 2 * k, 4 * k, 8 * k)):
        size = size if stage == 0 else -(-size // 2)
        weights = 9 * inputs * outputs + 27 * outputs**2
        norms = 8 * outputs
        if inputs != outputs:
            weights, norms = weights + inputs * outputs, norms + 2 * outputs
        parameters, work = parameters + weights + norms, work + weights * size**2
        inputs = outputs
    return parameters + inputs * classes + classes, work + inputs * classes


NETWORKS = {
    "resnet18": Network("ResNet18", {"width": 64}, count, norms=True, inputs=("square", "oblong")),
}
