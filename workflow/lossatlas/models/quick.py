"""Layers of a network that go the faster of several ways; what they compute stays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models import batch_norm, direct, pooled, strided, winograd


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
        elif type(module) is nn.Sequential and any(type(one) is nn.Conv2d for one in module):
            module.forward = partial(_in_turn, module)  # type: ignore[method-assign]


def is_common(conv: nn.Conv2d) -> bool:
    """Say whether a convolution has kernels of 3 x 3, keeps planes' sizes and is else plain."""
    sides = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    known = sides == ((3, 3), (1, 1), (1, 1), (1, 1))
    return known and conv.groups == 1 and conv.padding_mode == "zeros"


def _convolve(conv: nn.Conv2d, input: Tensor) -> Tensor:  # noqa: A002 (as torch names it)
    tracked, weight = torch.is_grad_enabled(), conv.weight
    fast = (conv.training or not tracked) and is_plain(input, weight)
    way = _way(input, weight, tracked=tracked) if fast else None
    return way(input, weight, conv.bias) if way else nn.Conv2d.forward(conv, input)


def _way(x: Tensor, weight: Tensor, *, tracked: bool) -> Callable[..., Tensor] | None:
    """Return what is faster than torch for plain images and weights, if anything is."""
    if winograd.fits(x, weight, tracked=tracked):
        return winograd.convolve
    if x.dtype == torch.float32 and direct.fits(x, weight, tracked=tracked):
        return direct.convolve
    return None


def _halve(conv: nn.Conv2d, input: Tensor) -> Tensor:  # noqa: A002
    quick = conv.training and torch.is_grad_enabled() and is_plain(input, conv.weight)
    if quick and strided.fits(input, conv.weight):
        return strided.convolve(input, conv.weight, conv.bias)
    return nn.Conv2d.forward(conv, input)


def _normalise(norm: nn.BatchNorm2d, input: Tensor) -> Tensor:  # noqa: A002
    if is_plain(input, norm.weight) and batch_norm.fits(norm, input):
        return batch_norm.normalise(norm, input)
    return nn.BatchNorm2d.forward(norm, input)


def _in_turn(network: nn.Sequential, input: Tensor) -> Tensor:  # noqa: A002
    """Run layers one after another, but a convolution, its pool and its ReLU at once."""
    layers, x = list(network), input
    while layers:
        x, taken = _together(layers, x) if torch.is_grad_enabled() else (x, 0)
        if not taken:
            x, taken = layers[0](x), 1
        del layers[:taken]
    return x


def _together(layers: list[nn.Module], x: Tensor) -> tuple[Tensor, int]:
    """Run the first layers at once, if that is possible and faster; return how many those were."""
    first, *behind = layers[:3]
    opens, halves = ([test(one) for one in behind] for test in (_is_relu, _halves))
    if not any(opens) or any(map(_has_hooks, layers[:3])) or not isinstance(x, Tensor):
        return x, 0
    if type(first) is nn.BatchNorm2d:
        if opens[0] and is_plain(x, first.weight) and batch_norm.fits(first, x):
            return batch_norm.normalise(first, x, relu=True), 2
    elif type(first) is nn.Conv2d and first.training and is_common(first):
        given = x, first.weight, first.bias
        if is_plain(x, first.weight) and any(halves) and pooled.fits(x, first.weight):
            return pooled.convolve(*given), 3
        if is_plain(x, first.weight) and opens[0] and (way := _way(*given[:2], tracked=True)):
            return way(*given, relu=True), 2
    return x, 0


def _is_relu(layer: nn.Module) -> bool:
    return type(layer) is nn.ReLU


def _halves(pool: nn.Module) -> bool:
    """Say whether a layer is a max-pool of 2 x 2 and nothing else."""
    if type(pool) is not nn.MaxPool2d:
        return False
    sides = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    plain = not pool.ceil_mode and not pool.return_indices
    return plain and sides in ((2, 2, 0, 1), ((2, 2), (2, 2), (0, 0), (1, 1)))


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
    kinds = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    return any(getattr(module, kind) for kind in kinds)


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
