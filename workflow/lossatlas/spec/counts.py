"""Counts of parameters and of multiply-adds per image, which networks put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Counts = tuple[int, int]


def total(parts: Iterable[Counts]) -> Counts:
    """Return the counts of parts together."""
    both = list(parts)
    return sum(p for p, _ in both), sum(m for _, m in both)


def convolution(inputs: int, outputs: int, kernel: int, size: int, bias: bool = True) -> Counts:
    """Return the counts of a convolution with an output of size x size."""
    weights = inputs * outputs * kernel**2
    return weights + outputs * bias, weights * size**2


def linear(inputs: int, outputs: int, rows: int = 1) -> Counts:
    """Return the counts of a linear layer that is applied to so many rows of an image."""
    return inputs * outputs + outputs, inputs * outputs * rows


def stages(
    multiples: Sequence[Sequence[int]], channels: int, size: int, width: int, *, norms: bool
) -> tuple[list[Counts], int, int]:
    """Return the counts of stages of 3x3 convolutions, each halving the size down to one pixel.

    Args:
        multiples: Channels of each convolution of each stage, in units of the width.
        channels: Of an image.
        size: Height and width of an image.
        width: Unit of channels.
        norms: Whether BatchNorm follows each convolution.

    Returns:
        The counts, and channels and size of what the stages make of an image.
    """
    parts: list[Counts] = []
    for stage in multiples:
        for multiple in stage:
            out = multiple * width
            parts += [convolution(channels, out, 3, size), (2 * out if norms else 0, 0)]
            channels = out
        size = max(size // 2, 1)
    return parts, channels, size
