"""Convolutions of 3 x 3 over small planes on the CPU, with a quarter of the products.

Along one axis, m places of a convolution with three taps need only m + 2 products of numbers that
are sums of inputs with sums of taps (Toom 1963, Cook 1966; for networks Lavin and Gray, 2016). In
two axes the products of a plane of 4 x 4 are 36 in place of 144, each of them a matrix over
channels and images, and products of matrices are what a processor does best.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from lossatlas.kernels import LANES
from lossatlas.kernels.compiled import kernel, usable
from lossatlas.kernels.shared import shared
from lossatlas.kernels.toom import matrices
from lossatlas.models.derivatives import backward

PLANE = 8  # largest side of a plane on which the sums cost less than the products they save
TRAINED, USED = 64, 128  # fewest channels, in and out: with gradients, and without
IMAGES = 16  # fewest images


def fits(x: Tensor, weight: Tensor, *, tracked: bool) -> bool:
    """Say whether this way is faster for plain images and weights.

    Args:
        x: (N, C, H, W).
        weight: (O, C, 3, 3).
        tracked: Whether gradients are wanted.
    """
    enough = min(weight.shape[:2]) >= (TRAINED if tracked else USED)
    return enough and max(x.shape[2:]) <= PLANE and len(x) >= IMAGES


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False
) -> Tensor:
    """Return a convolution with one row of zeros around the images.

    Args:
        x: (N, C, H, W), fastest channels last.
        weight: (O, C, 3, 3).
        bias: (O,).
        relu: Whether ReLU follows.

    Returns:
        (N, O, H, W), channels last.
    """
    y: Tensor = _Winograd.apply(x, weight, bias, relu)
    return y


class _Winograd(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        sides, channels = x.shape[2:], x.shape[1]
        tall, wide = (_axis(side, x.dtype) for side in sides)
        taps = _taps(*sides, x.dtype)
        sums, _ = _spread(x, tall.into, wide.into)
        kernels = taps.mm(weight.reshape(-1, 9).T).view(-1, *weight.shape[:2])
        kernels = _per_tile(kernels, tall, wide)
        y = torch.bmm(sums.view(len(kernels), -1, channels), kernels.transpose(1, 2))
        y = y.view(tall.rows, wide.rows, len(x), len(weight))
        y = _gather(y, tall.back, wide.back, bias, 0.0 if relu else float("-inf"))
        ctx.save_for_backward(x, weight, sums, kernels, y if relu else None)
        ctx.axes, ctx.taps = (tall, wide), taps
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, sums, kernels, y = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # this is itself to be differentiated, which torch's own can be
            if y is not None:
                slope = torch.ops.aten.threshold_backward(slope, y, 0)
            return *backward(slope, x, weight, list(wanted)), None
        images, channels = x.shape[:2]
        tall, wide = ctx.axes
        before = for_weight = None
        slope, for_bias = _spread(slope, tall.back.T, wide.back.T, y, slopes=True)
        slope = slope.view(len(kernels), -1, len(weight))
        if wanted[0]:
            before = torch.bmm(slope, kernels).view(tall.rows, wide.rows, images, channels)
            before = _gather(before, tall.into.T, wide.into.T, slopes=True)
        if wanted[1]:
            product = torch.bmm(slope.transpose(1, 2), sums.view(len(kernels), -1, channels))
            if tall.tiles > 1:
                product = product.view(tall.products, tall.tiles, wide.products, -1).sum(1)
            for_weight = product.view(len(ctx.taps), -1).T.mm(ctx.taps).view(weight.shape)
        return before, for_weight, for_bias if wanted[2] else None, None


def _spread(
    x: Tensor, tall: Tensor, wide: Tensor, mask: Tensor | None = None, *, slopes: bool = False
) -> tuple[Tensor, Tensor]:
    """Apply a matrix along either axis of images (N, C, H, W): (H', W', N, C).

    Where the mask is not above 0, images count as 0. Of slopes, the sums (C,) are returned, too.
    """
    images, channels, height, width = x.shape
    if not _compiles(x):
        x = x if mask is None else torch.ops.aten.threshold_backward(x, mask, 0)
        total = x.sum(dim=(0, 2, 3)) if slopes else x.new_zeros(channels)
        return _both(x.permute(2, 3, 0, 1).contiguous(), tall, wide), total
    x, shown = (
        one.contiguous(memory_format=torch.channels_last)
        for one in (x, x if mask is None else mask)
    )
    y = x.new_empty(len(tall), len(wide), images, channels)
    run = kernel("spread", height, width, slopes=slopes, relu=mask is not None)

    def part(first: int, count: int) -> Tensor:
        total, room = x.new_zeros(channels), x.new_empty(len(tall) * width * LANES)
        own = x[first:], shown[first:], y[0, 0, first:], total, room
        run(*(t.data_ptr() for t in own), count, channels // LANES, images)
        return total

    return y, torch.stack(shared(images, part)).sum(dim=0)


def _gather(
    x: Tensor,
    tall: Tensor,
    wide: Tensor,
    bias: Tensor | None = None,
    floor: float = float("-inf"),
    *,
    slopes: bool = False,
) -> Tensor:
    """Apply a matrix along either axis of (H', W', N, C), and add a bias: (N, C, H, W).

    Nothing in it is below `floor`.
    """
    images, channels = x.shape[2:]
    shape = images, channels, len(tall), len(wide)  # no view: it may be written into
    y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    if not _compiles(y):
        y.copy_(_both(x, tall, wide).permute(2, 3, 0, 1))
        y = y if bias is None else y.add_(bias[:, None, None])
        return y.clamp_(min=floor) if floor > float("-inf") else y
    shift = x.new_zeros(channels) if bias is None else bias.contiguous()
    run = kernel("gather", len(tall), len(wide), slopes=slopes)

    def part(first: int, count: int) -> None:
        room = x.new_empty(len(tall) * x.shape[1] * LANES)
        own = x[0, 0, first:], shift, y[first:], room
        run(*(t.data_ptr() for t in own), count, channels // LANES, images, floor)

    shared(images, part)
    return y


def _compiles(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.shape[1] % LANES == 0 and usable()


class _Axis:
    """How a convolution with three taps is done along an axis of so many places.

    Attributes:
        into: (rows, side), the sums of inputs; rows are products, each for every tile.
        back: (side, rows), the sums of products.
        taps: (products, 3), the sums of taps.
        products: Per tile.
        tiles: How many pieces the axis is cut into.
    """

    def __init__(self, side: int, dtype: torch.dtype) -> None:
        into, back, taps = matrices(side)
        self.products, self.tiles = into.shape[:2]
        self.rows = self.products * self.tiles
        self.into = _tensor(into.reshape(self.rows, side), dtype)
        self.back = _tensor(back.reshape(side, self.rows), dtype)
        self.taps = _tensor(taps, dtype)


def _tensor(matrix: np.ndarray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(matrix)).to(dtype)


@lru_cache(maxsize=64)
def _axis(side: int, dtype: torch.dtype) -> _Axis:
    with torch.inference_mode(mode=False):  # it is kept, and others may want gradients
        return _Axis(side, dtype)


@lru_cache(maxsize=64)
def _taps(height: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return (products, 9), the sums of a kernel's entries in both directions."""
    with torch.inference_mode(mode=False):
        return torch.kron(_axis(height, dtype).taps, _axis(width, dtype).taps)


def _both(x: Tensor, tall: Tensor, wide: Tensor) -> Tensor:
    """Apply a matrix along each of the first two axes: (H, W, N, C) to (H', W', N, C)."""
    height, width, images, channels = x.shape
    if height * width <= 16 or len(tall) * len(wide) <= 16:
        y = torch.kron(tall.contiguous(), wide.contiguous()).mm(x.reshape(height * width, -1))
    else:
        y = torch.matmul(wide, tall.mm(x.reshape(height, -1)).view(len(tall), width, -1))
    return y.view(len(tall), len(wide), images, channels)


def _per_tile(kernels: Tensor, tall: _Axis, wide: _Axis) -> Tensor:
    """Repeat the kernels (products, O, C) for each tile along the height."""
    if tall.tiles == 1:
        return kernels
    shape = kernels.shape[1:]
    each = kernels.view(tall.products, 1, wide.products, *shape)
    return each.expand(-1, tall.tiles, -1, -1, -1).reshape(-1, *shape)
