"""Counts of parameters and of multiply-adds per image, which networks put together."""

from __future__ import annotations

from collections.abc import Iterable

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
