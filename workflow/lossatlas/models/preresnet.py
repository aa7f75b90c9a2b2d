"""Residual networks with pre-activation, for small images (He et al., ECCV 2016).

Depth 6n + 2 with basic blocks below 44, else 9n + 2 with bottlenecks: 20, 32, 38, 56, 110, 164.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models.initial import draw_by_outputs
from lossatlas.spec.counts import Counts, convolution, linear, total
from lossatlas.spec.depths import Depths
from lossatlas.spec.networks import Network

BOTTLENECKS_FROM = 44  # depth


def _exists(depth: int) -> bool:
    return depth >= 8 and (depth - 2) % (9 if depth >= BOTTLENECKS_FROM else 6) == 0


DEPTHS = Depths("6n + 2 below 44 and 9n + 2 from there on", _exists)


class Block(nn.Module):
    """BatchNorm, ReLU and convolution, two or three times, and a shortcut.

    Args:
        channels: Of the input.
        planes: Channels of the inner convolutions.
        stride: Of the 3x3 convolution that shrinks the image.
        bottleneck: 1x1, 3x3 and 1x1 convolutions to 4 planes, in place of two 3x3 to `planes`.
    """

    def __init__(self, channels: int, planes: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.out = 4 * planes if bottleneck else planes
        plan = [(channels, planes, 3, stride), (planes, planes, 3, 1)]
        if bottleneck:
            plan = [(channels, planes, 1, 1), (planes, planes, 3, stride), (planes, self.out, 1, 1)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(inputs) for inputs, *_ in plan)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, step, kernel // 2, bias=False)
            for inputs, outputs, kernel, step in plan
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != self.out:
            self.shortcut = nn.Conv2d(channels, self.out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, out, H / stride, W / stride)."""
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.relu(norm(y)))
        return y + self.shortcut(x)


class PreResNet(nn.Module):
    """Three stages of k, 2k and 4k planes (times 4 with bottlenecks), then a global average.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        depth: 6n + 2 below 44, 9n + 2 from there on.
        width: k; 16 is the standard one.
        he_init: Initial weights of convolutions as `initial.draw_by_outputs` draws them; else
            PyTorch's own.

    Raises:
        ValueError: If there is no network of that depth.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        depth: int = 20,
        width: int = 16,
        he_init: bool = False,
    ) -> None:
        super().__init__()
        bottleneck = depth >= BOTTLENECKS_FROM
        layers = 9 if bottleneck else 6
        DEPTHS.check(depth)
        self.stem = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        blocks, channels = [], width
        for stage in range(3):
            for index in range((depth - 2) // layers):
                stride = 2 if stage and not index else 1
                blocks.append(Block(channels, width << stage, stride, bottleneck))
                channels = blocks[-1].out
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)
        if he_init:
            draw_by_outputs(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of PreResNet, and multiply-adds per image."""
    k, depth = arguments["width"], arguments["depth"]
    bottleneck = depth >= BOTTLENECKS_FROM
    parts = [convolution(channels, k, 3, size, bias=False)]
    channels = k
    for stage in range(3):
        for index in range((depth - 2) // (9 if bottleneck else 6)):
            stride = 2 if stage and not index else 1
            planes, small = k << stage, -(-size // stride)
            out = 4 * planes if bottleneck else planes
            if bottleneck:
                parts.append(convolution(channels, planes, 1, size, bias=False))
                parts.append(convolution(planes, planes, 3, small, bias=False))
                parts.append(convolution(planes, out, 1, small, bias=False))
                norms = 2 * (channels + 2 * planes)
            else:
                parts.append(convolution(channels, planes, 3, small, bias=False))
                parts.append(convolution(planes, planes, 3, small, bias=False))
                norms = 2 * (channels + planes)
            if stride != 1 or channels != out:
                parts.append(convolution(channels, out, 1, small, bias=False))
            parts.append((norms, 0))
            channels, size = out, small
    return total([*parts, (2 * channels, 0), linear(channels, classes)])


NETWORKS = {
    "preresnet": Network(
        "PreResNet",
        {"depth": 20, "width": 16, "he_init": False},
        count,
        depths=DEPTHS,
        activations=40.0,
        norms=True,
        inputs=("square", "oblong"),
    ),
}
