"""Layers of a network that go the faster of several ways; what they compute stays."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models import batch_norm, direct, strided, winograd


def quicken(network: nn.Module) -> None:
    """Let the common convolutions and BatchNorms of a network go their fastest ways, in place.

    Which way is taken depends on shapes alone, and all agree to rounding. In evaluation mode, if
    gradients are wanted, it is torch's: second derivatives need its precision.
    """
    for module in network.modules():
        # Its type stays: others look at it.
        if "forward" in vars(module):
            continue
        if type(module) is nn.Conv2d and is_common(module):
            module.forward = partial(_convolve, module)  # type: ignore[method-assign]
        elif type(module) is nn.Conv2d and strided.is_common(module):
            module.forward = partial(_halve, module)  # type: ignore[method-assign]
        elif type(module) is nn.BatchNorm2d:
            module.forward = partial(_normalise, module)  # type: ignore[method-assign]


def is_common(conv: nn.Conv2d) -> bool:
    """Say whether a convolution has kernels of 3 x 3, keeps planes' sizes and is else plain."""
    sides = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    known = sides == ((3, 3), (1, 1), (1, 1), (1, 1))
    return known and conv.groups == 1 and conv.padding_mode == "zeros"


def _convolve(conv: nn.Conv2d, input: Tensor) -> Tensor:  # noqa: A002 (as torch names it)
    tracked, weight = torch.is_grad_enabled(), conv.weight
    if (conv.training or not tracked) and is_plain(input, weight):
        if winograd.fits(input, weight, tracked=tracked):
            return winograd.convolve(input, weight, conv.bias)
        if input.dtype == torch.float32 and direct.fits(input, weight, tracked=tracked):
            return direct.convolve(input, weight, conv.bias)
    return nn.Conv2d.forward(conv, input)


def _halve(conv: nn.Conv2d, input: Tensor) -> Tensor:  # noqa: A002
    quick = conv.training and torch.is_grad_enabled() and is_plain(input, conv.weight)
    if quick and strided.fits(input, conv.weight):
        return strided.convolve(input, conv.weight, conv.bias)
    return nn.Conv2d.forward(conv, input)


def _normalise(norm: nn.BatchNorm2d, input: Tensor) -> Tensor:  # noqa: A002
    if is_plain(input, norm.weight) and batch_norm.fits(norm, input):
        return batch_norm.normalise(norm, input)
    return nn.BatchNorm2d.forward(norm, input)


def activated(norm: nn.Module, x: Tensor, rest: Tensor | None = None) -> Tensor:
    """Return ReLU of what a norm makes of images, plus a rest; in one pass where that is possible.

    Args:
        norm: BatchNorm, or what stands for it.
        x: (N, C, H, W).
        rest: Added before ReLU.
    """
    if type(norm) is nn.BatchNorm2d and "forward" in vars(norm) and isinstance(x, Tensor):
        free = not _has_hooks(norm) and is_plain(x, norm.weight)
        if free and batch_norm.fits(norm, x):
            return batch_norm.normalise(norm, x, rest, relu=True)
    y = norm(x)
    return F.relu(y if rest is None else y + rest)


def _has_hooks(module: nn.Module) -> bool:
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks  # noqa: SLF001
    return any(hooks)


def is_plain(x: Tensor, weight: Tensor | None) -> bool:
    """Say whether these are common images and weights on the CPU."""
    if (
        weight is None
        or x.dim() != 4
        or x.numel() == 0
        or x.shape[1] != weight.shape[weight.dim() > 1]
    ):
        return False
    if {x.device.type, weight.device.type} != {"cpu"} or x.dtype != weight.dtype:
        return False
    if torch.is_autocast_enabled("cpu") or x.dtype not in (torch.float32, torch.float64):
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor  # noqa: SLF001 -- no public question
    return not wrapped(x) and not wrapped(weight)
