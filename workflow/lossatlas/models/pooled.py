"""A convolution of 3 x 3, a max-pool of 2 x 2 and ReLU as one, by kernels compiled for them.

The pool stops three quarters of the slopes that come back, so they need not be multiplied. Forward
and backward together, on one CPU core with AVX-512 and 128 images, this is 1.4 to 1.8 times as fast
as torch's three layers, from 16 channels over 32 x 32 or 8 x 8 to 256 over 16 x 16.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from lossatlas.kernels import LANES, LISTS, TAPS, WIDEST, windows_company
from lossatlas.kernels.compiled import kernel, usable
from lossatlas.kernels.shared import groups, shared
from lossatlas.models import direct, winograd

PLACES = 64  # fewest of an image that gain
MORE = 64  # most channels over planes so small that Winograd's way is the fastest


def fits(x: Tensor, weight: Tensor) -> bool:
    """Say whether this way is possible and faster for plain images and weights, with gradients.

    Args:
        x: (N, C, H, W).
        weight: (O, C, 3, 3).
    """
    height, width = x.shape[2:]
    sides = height % 2 == 0 and width % 2 == 0 and width <= WIDEST and height * width >= PLACES
    channels = all(size % LANES == 0 for size in weight.shape[:2])
    loses = min(weight.shape[:2]) > MORE and winograd.fits(x, weight, tracked=True)
    return x.dtype == torch.float32 and sides and channels and not loses and usable()


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ReLU of the largest of each 2 x 2 places of a convolution with zeros around.

    Args:
        x: (N, C, H, W), fastest channels last; of a size that `fits`, as the weights.
        weight: (O, C, 3, 3).
        bias: (O,).

    Returns:
        (N, O, H / 2, W / 2), channels last.
    """
    y: Tensor = _Pooled.apply(x, weight, bias)
    return y


def _plainly(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.relu(F.max_pool2d(F.conv2d(x, weight, bias, padding=1), 2))


class _Pooled(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        images, height, width = len(x), *x.shape[2:]
        shape = images, len(weight), height // 2, width // 2
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        choice = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        before = direct.correlate if direct.fits(x, weight) else partial(F.conv2d, padding=1)
        all_places = before(x, weight, bias).contiguous(memory_format=torch.channels_last)
        run = kernel("pool", len(weight), height, width)

        def part(first: int, count: int) -> None:
            own = all_places[first:], y[first:], choice[first:]
            run(*(t.data_ptr() for t in own), count)

        shared(images, part)
        ctx.save_for_backward(x, weight, bias, choice)
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, choice = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        if torch.is_grad_enabled():  # this is itself to be differentiated, which torch's own can be
            leaves = [one for one, asked in zip((x, weight, bias), wanted, strict=True) if asked]
            y = _plainly(x, weight, bias)
            slopes = iter(torch.autograd.grad(y, leaves, slope, create_graph=True))
            return tuple(next(slopes) if asked else None for asked in wanted)
        slope = slope.contiguous(memory_format=torch.channels_last)
        before = _for_images(slope, choice, weight) if wanted[0] else None
        found = before, *_for_taps(x, slope, choice)
        return tuple(one if asked else None for one, asked in zip(found, wanted, strict=True))


def _for_images(slope: Tensor, choice: Tensor, weight: Tensor) -> Tensor:
    """Return the derivatives of a loss by images (N, C, H, W)."""
    (images, out, height, width), channels = slope.shape, weight.shape[1]
    height, width, blocks = 2 * height, 2 * width, channels // LANES
    before = slope.new_empty(images, height, width, channels).permute(0, 3, 1, 2)
    taps = weight.reshape(out, blocks, LANES, TAPS).permute(1, 0, 3, 2).contiguous()
    run = kernel("pooled_images", channels, out, height, width)

    def part(first: int, count: int) -> None:
        space, room = slope.new_empty(channels * (height + 2) * (width + 2)), slope.new_empty(LISTS)
        own = slope[first:], choice[first:], taps, before[first:], space, room
        run(*(t.data_ptr() for t in own), count)

    shared(images, part)
    return before


def _for_taps(x: Tensor, slope: Tensor, choice: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives of a loss by weights (O, C, 3, 3) and bias (O,)."""
    x = x.contiguous(memory_format=torch.channels_last)
    (images, channels, height, width), out = x.shape, slope.shape[1]
    blocks, sizes = channels // LANES, (windows_company(height, width), 1)
    runs = {size: kernel("pooled_taps", channels, out, height, width, size) for size in sizes}

    def part(first: int, count: int) -> tuple[Tensor, Tensor]:
        taps, bias = x.new_zeros(blocks, out, TAPS, LANES), x.new_zeros(out)
        for size, begin, many in groups(first, count, sizes):
            space = x.new_zeros(size * channels * (height + 2) * (width + 2))
            room = x.new_empty(size * out * height * width // 4)
            own = x[begin:], slope[begin:], choice[begin:], taps, bias, space, room
            runs[size](*(t.data_ptr() for t in own), many)
        return taps, bias

    parts = zip(*shared(images, part), strict=True)
    taps, bias = (torch.stack(some).sum(dim=0) for some in parts)
    return taps.permute(1, 0, 3, 2).reshape(out, channels, 3, 3), bias
