"""ResNets of four stages (He et al., CVPR 2016, table 1), with and without shortcuts.

As Chen et al. (2022) use them on small images: a 3x3 stem of stride 1 and no pool after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models import initial
from lossatlas.spec.counts import Counts, convolution, linear, total
from lossatlas.spec.depths import listed
from lossatlas.spec.networks import Network

STAGES = {  # depth -> blocks of each stage
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECKS_FROM = 50  # depth
DEPTHS = listed(*STAGES)


class Block(nn.Module):
    """Two 3x3 convolutions, or a bottleneck of three, and a shortcut or none.

    Without shortcuts the paper's bottlenecks end without a ReLU, its basic blocks with one.

    Args:
        channels: Of the input.
        planes: Of the inner convolutions.
        stride: Of the 3x3 convolution that shrinks the image.
        bottleneck: 1x1, 3x3 and 1x1 convolutions to 4 planes.
        shortcut: Whether the input is added to the output.
    """

    def __init__(
        self, channels: int, planes: int, stride: int, bottleneck: bool, shortcut: bool
    ) -> None:
        super().__init__()
        self.out = 4 * planes if bottleneck else planes
        plan = [(channels, planes, 3, stride), (planes, planes, 3, 1)]
        if bottleneck:
            plan = [(channels, planes, 1, 1), (planes, planes, 3, stride), (planes, self.out, 1, 1)]
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, step, kernel // 2, bias=False)
            for inputs, outputs, kernel, step in plan
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _, outputs, *_ in plan)
        self.ends_linear = bottleneck and not shortcut
        self.shortcut: nn.Module | None = None
        if shortcut:
            self.shortcut = nn.Identity()
            if stride != 1 or channels != self.out:
                project = nn.Conv2d(channels, self.out, 1, stride, bias=False)
                self.shortcut = nn.Sequential(project, nn.BatchNorm2d(self.out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, out, H / stride, W / stride)."""
        y = x
        last = len(self.convs) - 1
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            y = F.relu(y) if index < last else y
        y = y if self.shortcut is None else y + self.shortcut(x)
        return y if self.ends_linear else F.relu(y)


class ResNetImagenet(nn.Module):
    """Stages of k, 2k, 4k and 8k planes (times 4 with bottlenecks), then a global average.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image, which is 8x8 or larger.
        depth: 18, 34, 50, 101 or 152; bottlenecks from 50 on.
        width: k; 64 is the standard one.
        shortcut: Whether blocks have shortcuts.
        linear_std: As in `initial.draw`.

    Raises:
        ValueError: If there is no network of that depth.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        depth: int = 18,
        width: int = 64,
        shortcut: bool = True,
        linear_std: float = 0.0,
    ) -> None:
        super().__init__()
        DEPTHS.check(depth)
        self.stem = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        blocks, channels = [], width
        for stage, count in enumerate(STAGES[depth]):
            for index in range(count):
                stride = 2 if stage and not index else 1
                bottleneck = depth >= BOTTLENECKS_FROM
                blocks.append(Block(channels, width << stage, stride, bottleneck, shortcut))
                channels = blocks[-1].out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)
        initial.draw(self, linear_std)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of ResNetImagenet, and multiply-adds per image."""
    k, depth = arguments["width"], arguments["depth"]
    parts, channels = [convolution(channels, k, 3, size, bias=False), (2 * k, 0)], k
    for stage, blocks in enumerate(STAGES[depth]):
        planes = k << stage
        out = 4 * planes if depth >= BOTTLENECKS_FROM else planes
        for index in range(blocks):
            stride = 2 if stage and not index else 1
            small = -(-size // stride)
            if depth >= BOTTLENECKS_FROM:
                parts.append(convolution(channels, planes, 1, size, bias=False))
                parts.append(convolution(planes, planes, 3, small, bias=False))
                parts.append(convolution(planes, out, 1, small, bias=False))
                parts.append((4 * planes + 2 * out, 0))
            else:
                parts.append(convolution(channels, planes, 3, small, bias=False))
                parts.append(convolution(planes, planes, 3, small, bias=False))
                parts.append((4 * planes, 0))
            if arguments["shortcut"] and (stride != 1 or channels != out):
                parts += [convolution(channels, out, 1, small, bias=False), (2 * out, 0)]
            channels, size = out, small
    return total([*parts, linear(channels, classes)])


NETWORKS = {
    "resnet_imagenet": Network(
        "ResNetImagenet",
        {"depth": 18, "width": 64, "shortcut": True, "linear_std": 0.0},
        count,
        depths=DEPTHS,
        activations=40.0,
        norms=True,
        inputs=("square", "oblong"),
    ),
}
