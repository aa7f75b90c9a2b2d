"""The two networks for MNIST of Chen et al. (2022)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models import initial
from lossatlas.spec.counts import Counts, convolution, linear, total
from lossatlas.spec.networks import Network


class MnistNet(nn.Module):
    """Two 5x5 convolutions, each with a 2x2 max pool, and two linear layers.

    The authors' network ends in a log-softmax, on which cross entropy is what it is on the logits.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image, 16 or more.
        width: Half the channels of the first layer; the others have 5 and 50 times as many. 10 is
            the paper's (431,080 parameters on MNIST).
        linear_std: As in `initial.draw`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        image_size: int = 28,
        width: int = 10,
        linear_std: float = 0.0,
    ) -> None:
        super().__init__()
        size = ((image_size - 4) // 2 - 4) // 2
        if size < 1:
            raise ValueError(f"images are 16 pixels or larger, not {image_size}")
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 2 * width, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 5 * width, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(5 * width * size**2, 50 * width),
            nn.ReLU(),
            nn.Linear(50 * width, num_classes),
        )
        initial.draw(self, linear_std)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        return self.layers(x)


class MnistBlock(nn.Module):
    """Two convolutions of stride 2 and the input added to what they make of it.

    A padding of half the image plus 1 keeps its size in spite of the stride, so that an output
    pixel sees another place of the image than the one that it is added to; most see only padding.

    Args:
        channels: Of the input: 1, added to every channel of the output, or as many as the output.
        hidden: Channels of the first convolution.
        out: Of the second.
        image_size: Height and width, even.
    """

    def __init__(self, channels: int, hidden: int, out: int, image_size: int) -> None:
        super().__init__()
        padding = image_size // 2 + 1
        self.conv1 = nn.Conv2d(channels, hidden, 3, 2, padding)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, out, 3, 2, padding)
        self.norm2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, out, H, W)."""
        y = F.relu(self.norm1(self.conv1(x)))
        return x + F.relu(self.norm2(self.conv2(y)))


class ResNetMnist(nn.Module):
    """Two such blocks, a convolution to one channel per class, BatchNorm, and a global maximum.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image; 1.
        image_size: Height and width of an image, even.
        width: Hidden channels of the first block; 8 is the paper's (12,126 parameters on MNIST).

    Raises:
        ValueError: If images have several channels or an odd size: the shortcut cannot be added.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 1, image_size: int = 28, width: int = 8
    ) -> None:
        super().__init__()
        if in_channels != 1 or image_size % 2:
            what = f"not {in_channels} x {image_size} x {image_size}"
            raise ValueError(f"images have one channel and an even size, {what}")
        self.blocks = nn.Sequential(
            MnistBlock(in_channels, width, 2 * width, image_size),
            MnistBlock(2 * width, 4 * width, 2 * width, image_size),
        )
        self.conv = nn.Conv2d(2 * width, num_classes, 3, 2, 1)
        self.norm = nn.BatchNorm2d(num_classes)
        initial.draw(self, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, H, W) to logits (N, num_classes)."""
        return self.norm(self.conv(self.blocks(x))).amax(dim=(2, 3))


def count_mnist_net(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of MnistNet, and multiply-adds per image."""
    k, half = arguments["width"], (size - 4) // 2
    parts = [convolution(channels, 2 * k, 5, size - 4), convolution(2 * k, 5 * k, 5, half - 4)]
    features = 5 * k * ((half - 4) // 2) ** 2
    return total([*parts, linear(features, 50 * k), linear(50 * k, classes)])


def count_resnet_mnist(
    arguments: Mapping[str, Any], classes: int, channels: int, size: int
) -> Counts:
    """Return the parameters of ResNetMnist, and multiply-adds per image."""
    k, parts = arguments["width"], []
    sizes = (channels, k, 2 * k, 4 * k, 2 * k)
    for inputs, outputs in pairwise(sizes):
        parts += [convolution(inputs, outputs, 3, size), (2 * outputs, 0)]
    return total([*parts, convolution(2 * k, classes, 3, -(-size // 2)), (2 * classes, 0)])


NETWORKS = {
    "mnist_net": Network(
        "MnistNet", {"width": 10, "linear_std": 0.0}, count_mnist_net, smallest=16
    ),
    "resnet_mnist": Network(
        "ResNetMnist", {"width": 8}, count_resnet_mnist, smallest=2, channels=1, norms=True
    ),
}
