"""Torch's own derivatives of a convolution, which can be differentiated again."""

from __future__ import annotations

import torch
from torch import Tensor


def backward(
    slope: Tensor, x: Tensor, weight: Tensor, wanted: list[bool], stride: int = 1
) -> tuple[Tensor | None, ...]:
    """Return the derivatives by images, weights and bias, of those that are wanted.

    Args:
        slope: Derivative by the output (N, O, H', W').
        x: (N, C, H, W).
        weight: (O, C, k, k), k odd; the images have k // 2 rows of zeros around.
        wanted: Of the three.
        stride: Of the convolution.
    """
    padding = [side // 2 for side in weight.shape[2:]]
    how = [len(weight)], [stride] * 2, padding, [1, 1], False, [0, 0], 1, wanted
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(slope, x, weight, *how)
    return found
