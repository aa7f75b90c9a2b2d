"""Keeps networks away from convolutions that torch computes wrongly on CPUs.

oneDNN, which torch calls for float32 on x86 processors, takes the gradient by the weights of a
strided convolution with kernels of 1 x 1 by way of a copy of the pixels that the stride leaves. For
images channels last with fewer channels than a vector register holds (8 with AVX2, 16 with
AVX-512) it writes behind the memory of that copy: the process crashes or hangs, or the gradient is
wrong (oneDNN issue 6035; torch 2.13 and 2.15 have it). Such a convolution is one with stride 1 over
those pixels. So it is computed here, for every number of channels: a step of ResNet18 takes as long
as before, to a few percent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.overrides import TorchFunctionMode

Convolution = Callable[..., Tensor]


def avoid_faults(network: nn.Module) -> None:
    """Let a network compute strided convolutions with kernels of one pixel in the safe way.

    It changes the network in place: give it a copy. Layers (`nn.Conv1d`, `nn.Conv2d`, and
    subclasses that leave `forward` to them) get a `forward` of their own. If other modules hold
    weights that may be such kernels, the forward pass of the whole network runs under a mode that
    looks at each call of `F.conv1d` and `F.conv2d`; this costs up to a tenth of the time of a step
    of a narrow network, and nothing for networks of layers. Kernels that a module computes on the
    way, from parameters of another shape, are not seen.

    The choice depends on shapes and the device, not on values. Derivatives of any order,
    `torch.vmap`, `torch.fx`, hooks and `copy.deepcopy` work as before.

    Args:
        network: Any module; changed in place.
    """
    for part in list(network.modules()):
        if _is_layer(part) and _is_strided(part.kernel_size, part.stride):
            part.forward = partial(_forward, part)  # type: ignore[method-assign]
    if any(map(_may_call, network.modules())) and not isinstance(network, torch.jit.ScriptModule):
        network.forward = partial(_under_mode, network.forward)


def convolve(
    function: Convolution,
    input: Any,  # noqa: A002 (as torch names it)
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Return `function` of these arguments, computed in the safe way where that is another.

    Args:
        function: `F.conv1d` or `F.conv2d`, whose arguments and result the rest is.
        input: (N, C, L) or (N, C, H, W), or without N.
        weight: (O, C / groups, k) or (O, C / groups, k, k).
        bias: (O,).
        stride: As in torch, as are `padding`, `dilation` and `groups`.
        padding: Rows of zeros; with any, torch takes another way, and a right one.
        dilation: Means nothing to kernels of one pixel.
        groups: Of channels.

    Raises:
        RuntimeError: As torch, if shapes do not fit.
    """
    rest = bias, stride, padding, dilation, groups
    if not isinstance(input, Tensor) or not isinstance(weight, Tensor):  # torch.fx traces it
        return function(input, weight, *rest)
    steps = (stride,) if isinstance(stride, int) else tuple(stride)
    if input.device.type != "cpu" or _some(padding) or not _is_strided(weight.shape[2:], steps):
        return function(input, weight, *rest)
    if len(steps) == 1:
        steps *= weight.dim() - 2
    pixels: Any = (..., *[slice(None, None, step) for step in steps])
    return function(input[pixels], weight, bias, 1, 0, 1, groups)


def _is_strided(kernel: Sequence[int], stride: Sequence[int]) -> bool:
    return all(side == 1 for side in kernel) and any(step > 1 for step in stride)


def _is_layer(part: nn.Module) -> TypeGuard[nn.Conv1d | nn.Conv2d]:
    """Say whether a module is a convolution that works as torch's."""
    return any(
        isinstance(part, kind)
        and type(part).forward is kind.forward
        and type(part)._conv_forward is kind._conv_forward  # noqa: SLF001 -- what forward calls
        for kind in (nn.Conv1d, nn.Conv2d)
    )


def _may_call(part: nn.Module) -> bool:
    """Say whether a module may call `F.conv1d` or `F.conv2d` with a kernel of one pixel."""
    if _is_layer(part) or isinstance(part, ParametrizationList):
        return False
    held = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
    return any(
        one.dim() in (3, 4) and all(side == 1 for side in one.shape[2:])
        for one in held
        if not nn.parameter.is_lazy(one)
    )


def _forward(layer: nn.Conv1d | nn.Conv2d, input: Tensor) -> Tensor:  # noqa: A002
    padding: int | str | Sequence[int] = layer.padding
    if layer.padding_mode != "zeros":
        around = layer._reversed_padding_repeated_twice  # noqa: SLF001 -- as its own forward does
        input, padding = F.pad(input, around, mode=layer.padding_mode), 0  # noqa: A001
    function = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
    how = layer.stride, padding, layer.dilation, layer.groups
    return convolve(function, input, layer.weight, layer.bias, *how)


def _transposed(
    function: Convolution,
    input: Any,  # noqa: A002
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Return a transposed convolution; rows of `output_padding` are added behind it.

    It is the gradient of a convolution, and faulty where its own gradient by the images would be
    one over pixels that the stride leaves: where the result is larger by the whole stride.
    """
    steps = (stride,) if isinstance(stride, int) else tuple(stride)
    more = (output_padding,) if isinstance(output_padding, int) else tuple(output_padding)
    one = isinstance(input, Tensor) and input.device.type == "cpu" and any(more)
    if not one or not _is_strided(weight.shape[2:], steps) or _some(padding):
        rest = bias, stride, padding, output_padding, groups, dilation
        return function(input, weight, *rest)
    planes = weight.dim() - 2
    more = more * planes if len(more) == 1 else more
    result = function(input, weight, None, stride, 0, 0, groups, dilation)
    result = F.pad(result, [side for after in reversed(more) for side in (0, after)])
    return result if bias is None else result + bias.view(-1, *[1] * planes)


def _some(padding: int | str | Sequence[int]) -> bool:
    if isinstance(padding, (int, str)):
        return padding not in (0, "valid")
    return any(padding)


class _Around(TorchFunctionMode):
    """Sees each call of a convolution, whoever makes it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.conv2d or func is F.conv1d:
            return convolve(func, *args, **(kwargs or {}))
        if func is F.conv_transpose2d or func is F.conv_transpose1d:
            return _transposed(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _under_mode(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _Around():
        return forward(*args, **kwargs)
