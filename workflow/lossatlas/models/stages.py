"""Stages of 3x3 convolutions with BatchNorm, as VGG networks (Simonyan & Zisserman, 2015) have."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def stages(
    multiples: Sequence[Sequence[int]], channels: int, size: int, width: int
) -> tuple[list[nn.Module], int, int]:
    """Return the layers of stages that end in a 2x2 max pool, left out where one pixel is left.

    Args:
        multiples: Channels of each convolution of each stage, in units of the width.
        channels: Of an image.
        size: Height and width of an image.
        width: Unit of channels.

    Returns:
        The layers, and channels and size of what they make of an image.
    """
    layers: list[nn.Module] = []
    for stage in multiples:
        for multiple in stage:
            out = multiple * width
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        if size > 1:
            layers.append(nn.MaxPool2d(2))
            size //= 2
    return layers, channels, size
