"""Layers of several networks at once, each network with its own weights, for training on the CPU.

Values have the shape (G, C, H, W, N): G networks, C channels, N images. In memory they lie either
in that order, where a convolution over a small plane is one product of matrices, or as (N, H, W,
G, C), where it is a grouped convolution over images channels last. Each layer takes both.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

DENSE = 20_000  # most entries of a matrix from one plane to the next
ALWAYS = 4  # pixels of a plane so small that a convolution is hardly more than that matrix


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Return the convolutions of G networks; zeros lie around the images.

    Args:
        x: (G, C, H, W, N).
        weight: (G, O, C, k, k).
        bias: (G, O).
        stride: In both directions.
        padding: In both directions.

    Returns:
        (G, O, H', W', N).
    """
    count, channels, height, width, images = x.shape
    out, kernel = weight.shape[1], weight.shape[3]
    tall, wide = plane_after(height, width, kernel, stride, padding)
    entries = out * tall * wide * channels * height * width
    if kernel == 1 and padding == 0 and x.is_contiguous():
        few = x[:, :, ::stride, ::stride] if stride > 1 else x
        y = torch.bmm(weight[..., 0, 0], few.reshape(count, channels, -1))
        y = y.view(count, out, tall, wide, images)
    elif entries <= DENSE or height * width <= ALWAYS:
        y = _Dense.apply(x.contiguous(), weight, stride, padding)
    else:
        y = _Grouped.apply(x, weight, stride, padding)
    return y if bias is None else y + bias[:, :, None, None, None]


def normalise(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Return BatchNorm in training mode of G networks, over planes and images.

    Args:
        x: (G, C, H, W, N).
        weight: (G, C).
        bias: (G, C).
        mean: Running means (G, C), contiguous; updated in place, as is `variance`.
        variance: Running variances (G, C), contiguous.
        momentum: Weight of this batch in them.
        eps: Added to the variance of the batch.

    Raises:
        ValueError: If there is one image of one pixel, as `torch.nn.BatchNorm2d` does.
    """
    if x[0, 0].numel() == 1:
        raise ValueError(f"Expected more than 1 value per channel, got shape {tuple(x.shape)}")
    y: Tensor = _Norm.apply(x, weight, bias, (mean, variance), (momentum, eps))
    return y


def plane_after(height: int, width: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Return height and width of what a convolution makes of a plane."""
    tall, wide = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    return tall, wide


def plane_matrix(weight: Tensor, height: int, width: int, stride: int, padding: int) -> Tensor:
    """Return convolutions as the matrices from one plane to the next; differentiable.

    Args:
        weight: (G, O, C, k, k).
        height: Of the plane they are applied to.
        width: Of it.
        stride: In both directions.
        padding: In both directions; zeros.

    Returns:
        (G, O H' W', C H W).
    """
    count, out, channels, kernel, _ = weight.shape
    taps = _taps(height, width, kernel, stride, padding, weight.dtype)
    matrix = weight.reshape(-1, kernel * kernel).mm(taps)
    matrix = matrix.view(count, out, channels, -1, height * width).transpose(2, 3)
    return matrix.reshape(count, -1, channels * height * width)


@lru_cache(maxsize=256)
def _taps(
    height: int, width: int, kernel: int, stride: int, padding: int, dtype: torch.dtype
) -> Tensor:
    """Return (k k, H' W' H W): 1 where that entry of a kernel joins two pixels, 0 elsewhere."""
    tall, wide = plane_after(height, width, kernel, stride, padding)

    def along(side: int, outs: int) -> Tensor:
        place = torch.arange(outs)[None, :] * stride + torch.arange(kernel)[:, None] - padding
        return (place[..., None] == torch.arange(side)).to(dtype)  # (k, out, in)

    with torch.inference_mode(mode=False):  # it is kept, and others may want gradients
        both = torch.einsum("kab,lcd->klacbd", along(height, tall), along(width, wide))
        return both.reshape(kernel * kernel, -1)


class _Dense(Function):
    """A convolution as the matrix from one plane to the next."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        count, _, height, width, images = x.shape
        out, kernel = weight.shape[1], weight.shape[3]
        tall, wide = plane_after(height, width, kernel, stride, padding)
        matrix = plane_matrix(weight, height, width, stride, padding)
        ctx.save_for_backward(x, matrix, _taps(height, width, kernel, stride, padding, x.dtype))
        ctx.shapes = weight.shape, tall * wide, height * width
        y = torch.bmm(matrix, x.view(count, -1, images))
        return y.view(count, out, tall, wide, images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, matrix, taps = ctx.saved_tensors
        shape, places, pixels = ctx.shapes
        count, images = len(x), x.shape[-1]
        slope = slope.contiguous().view(count, -1, images)
        before = for_weight = None
        if ctx.needs_input_grad[0]:
            before = torch.bmm(matrix.transpose(1, 2), slope).view(x.shape)
        if ctx.needs_input_grad[1]:
            found = torch.bmm(slope, x.view(count, -1, images).transpose(1, 2))
            found = found.view(count, shape[1], places, shape[2], pixels).transpose(2, 3)
            for_weight = found.reshape(-1, places * pixels).mm(taps.T).view(shape)
        return before, for_weight, None, None


class _Grouped(Function):
    """A convolution as one of G groups, images channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        last, kernels = _channels_last(x), weight.reshape(-1, *weight.shape[2:])
        ctx.save_for_backward(last, kernels)
        ctx.how = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(x)
        y = F.conv2d(last, kernels, None, stride, padding, 1, len(x))
        return _from_channels_last(y, len(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        last, kernels = ctx.saved_tensors
        count, wanted = ctx.how[-1], [*ctx.needs_input_grad[:2], False]
        before, for_weight, _ = torch.ops.aten.convolution_backward(
            _channels_last(slope), last, kernels, None, *ctx.how, wanted
        )
        if for_weight is not None:
            for_weight = for_weight.reshape(count, -1, *kernels.shape[1:])
        return (
            None if before is None else _from_channels_last(before, count),
            for_weight,
            None,
            None,
        )


class _Norm(Function):
    """BatchNorm of G networks: one of G * C channels."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor | None, Tensor | None],
        numbers: tuple[float, float],
    ) -> Tensor:
        flat = _flat(x)
        scale, shift = (None if one is None else one.reshape(-1) for one in (weight, bias))
        mean, variance = (None if one is None else one.view(-1) for one in running)
        y, means, scales = torch.native_batch_norm(
            flat, scale, shift, mean, variance, True, *numbers
        )
        ctx.save_for_backward(flat, scale, means, scales)
        ctx.eps, ctx.shape = numbers[1], (len(x), x.shape[1])
        return _unflat(y, x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, means, scales = ctx.saved_tensors
        shape = slope.shape
        slope = _flat(slope.contiguous()) if flat.dim() == 3 else _channels_last(slope)
        before, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            slope, flat, weight, None, None, means, scales, True, ctx.eps, [True, True, True]
        )
        before = _unflat(before, shape)
        if weight is None:
            return before, None, None, None, None
        return before, for_weight.view(ctx.shape), for_bias.view(ctx.shape), None, None


def _flat(x: Tensor) -> Tensor:
    """Return values as BatchNorm takes them: (1, G C, H W N), or images channels last."""
    if x.is_contiguous():
        return x.view(1, x.shape[0] * x.shape[1], -1)
    return _channels_last(x)


def _unflat(y: Tensor, shape: torch.Size) -> Tensor:
    return y.view(shape) if y.dim() == 3 else _from_channels_last(y, shape[0])


def _channels_last(x: Tensor) -> Tensor:
    """Return (N, G C, H, W), channels last; a view of values that lie so."""
    count, channels, height, width, images = x.shape
    last = x.permute(4, 2, 3, 0, 1).reshape(images, height, width, count * channels)
    return last.permute(0, 3, 1, 2)


def _from_channels_last(y: Tensor, count: int) -> Tensor:
    """Return (G, C, H, W, N), a view."""
    images, channels, height, width = y.shape
    y = y.permute(0, 2, 3, 1).reshape(images, height, width, count, channels // count)
    return y.permute(3, 4, 1, 2, 0)
