"""Convolutions of 3 x 3 with few channels over wide planes, by kernels compiled for them.

What they gain, on one CPU core with AVX-512 and 128 images, forward and backward in turn against
torch: 2 times as fast with 8 channels over 32 x 32, 1.3 with 16 over 16 x 16. With 16 over 32 x 32
a training step is no faster, and a pass without gradients, with ReLU in it, 1.05 to 1.1 times; with
32 and more, torch fills its vectors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lossatlas.kernels import BLOCK, LANES, TAPS, company
from lossatlas.kernels.compiled import kernel, usable
from lossatlas.kernels.shared import groups, shared
from lossatlas.models.derivatives import backward

FEW, MORE = 16, 32  # most channels of the narrower side, and of the wider one


def few(weight: Tensor) -> bool:
    """Say whether weights (O, C, 3, 3) have as few channels as this way takes."""
    out, channels = weight.shape[:2]
    small = min(out, channels) <= FEW and max(out, channels) <= MORE
    return small and out % 8 == 0 and (channels % 8 == 0 or channels <= 4)


def fits(x: Tensor, weight: Tensor, *, tracked: bool = False) -> bool:
    """Say whether this way is possible and faster for plain images and weights of float32.

    Args:
        x: (N, C, H, W).
        weight: (O, C, 3, 3).
        tracked: Whether gradients are wanted.
    """
    height, width = x.shape[2:]
    planes = width % (2 * LANES) == 0 or (width == LANES and height % 2 == 0)
    gains = min(weight.shape[:2]) <= BLOCK or width == LANES or not tracked
    return few(weight) and planes and gains and usable()


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False
) -> Tensor:
    """Return a convolution with one row of zeros around the images.

    Args:
        x: (N, C, H, W), fastest channels last; of a size that `fits`, as the weights.
        weight: (O, C, 3, 3).
        bias: (O,).
        relu: Whether ReLU follows.

    Returns:
        (N, O, H, W), channels last.
    """
    y: Tensor = _Direct.apply(x, weight, bias, relu)
    return y


class _Direct(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        y = correlate(x, weight, bias, floor=0.0 if relu else float("-inf"))
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        again = torch.is_grad_enabled()  # if this is itself to be differentiated
        if y is not None and (again or wanted[0]):
            slope, y = torch.ops.aten.threshold_backward(slope, y, 0), None
        if again:  # which torch's own can be
            return *backward(slope, x, weight, wanted), None
        found: list[Tensor | None] = [None] * 3
        if wanted[0] and x.shape[1] % 8 == 0:
            found[0], wanted[0] = correlate(slope, weight.flip(2, 3).transpose(0, 1)), False
        if y is not None or (wanted[1] and (len(weight) == BLOCK or x.shape[1] < BLOCK)):
            found[1:], wanted[1:] = taps_slope(x, slope, y), [False] * 2
        if any(wanted):
            rest = backward(slope, x, weight, wanted)
            found = [
                mine if other is None else other for mine, other in zip(found, rest, strict=True)
            ]
        needed = zip(found, ctx.needs_input_grad, strict=False)
        return *(one if asked else None for one, asked in needed), None


def correlate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    rest: Tensor | None = None,
    floor: float = float("-inf"),
) -> Tensor:
    """Return max(floor, bias + rest + x * weight), without gradients.

    Args:
        x: (N, C, H, W).
        weight: (O, C, 3, 3).
        bias: (O,).
        rest: (N, O, H, W).
        floor: 0 is ReLU.

    Returns:
        (N, O, H, W), channels last.
    """
    (images, channels, height, width), out = x.shape, len(weight)
    x = x.contiguous(memory_format=torch.channels_last)
    shape = images, out, height, width  # no view: it may be written into
    y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    rest = None if rest is None else rest.contiguous(memory_format=torch.channels_last)
    blocks = out // BLOCK
    taps = weight.reshape(blocks, BLOCK, channels, TAPS)
    taps = taps.permute(0, 2, 3, 1).contiguous()
    bias = x.new_zeros(out) if bias is None else bias.contiguous()
    run = kernel("correlate", channels, out, height, width)

    def part(first: int, count: int) -> None:
        space = x.new_zeros(channels * (height + 2) * (width + 2))
        more = y if rest is None else rest
        run(
            *(t.data_ptr() for t in (x[first:], taps, bias, more[first:], y[first:], space)),
            *(count, rest is not None, floor),
        )

    shared(images, part)
    return y


def taps_slope(x: Tensor, slope: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return what a loss changes by with each tap (O, C, 3, 3) and with the bias (O,).

    Args:
        x: (N, C, H, W).
        slope: What it changes by with the output (N, O, H, W).
        y: That output after ReLU, if ReLU came after.
    """
    (images, channels, height, width), out = x.shape, slope.shape[1]
    relu, blocks, sizes = y is not None, out // BLOCK, (company(height, width), 1)
    x, slope, y = (
        one.contiguous(memory_format=torch.channels_last)
        for one in (x, slope, x if y is None else y)
    )
    runs = {size: kernel("taps_slope", channels, height, width, size, relu=relu) for size in sizes}

    def part(first: int, count: int) -> tuple[Tensor, Tensor]:
        taps, bias = x.new_zeros(blocks, channels, 3, BLOCK, 3, LANES), x.new_zeros(out, LANES)
        for size, begin, many in groups(first, count, sizes):
            space = x.new_zeros(size * channels * (height + 2) * (width + 2))
            room = x.new_empty(size * out * (height * width + LANES))
            own = x[begin:], slope[begin:], y[begin:], taps, bias, space, room
            runs[size](*(t.data_ptr() for t in own), many, blocks)
        return taps, bias

    parts = zip(*shared(images, part), strict=True)
    taps, bias = (torch.stack(some).sum(dim=(0, -1)) for some in parts)
    return taps.permute(0, 3, 1, 2, 4).reshape(out, channels, 3, 3), bias
