"""What torch's operations do to the units of their inputs: rules, one for each kind of operation.

Rules are as `rearranging` says. An operation without one fixes all that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lossatlas.permutation import rearranging
from lossatlas.permutation.layers import name_of
from lossatlas.permutation.seen import Axes, Axis, Given, Rule, Seen, tensors_in

_SPATIAL = re.compile(
    r"(?:_|mkldnn_)?(?:adaptive_)?(?:max|avg)_pool([123])d.*|_?upsample_\D*([123])d.*"
    r"|(?:reflection|replication)_pad([123])d"
)


def rule_of(function: Any) -> tuple[str, Rule | None]:
    """Return the name of an operation, and its rule."""
    name = name_of(function)
    if name in RULES:
        return name, RULES[name]
    if torch.Tag.pointwise in function.tags:
        return name, elementwise
    spatial = _SPATIAL.fullmatch(name)
    return name, _spatial(int(next(filter(None, spatial.groups())))) if spatial else None


def elementwise(seen: Seen, given: Given, out: Any) -> Axes:
    """Tie axes that are broadcast to one; along an axis of length 1 all units get the same."""
    (first, *_) = tensors_in(out)
    return _broadcast(seen, first.shape, [(t.shape, seen(t)) for t in tensors_in(given)])


def _broadcast(
    seen: Seen, shape: Sequence[int], parts: Sequence[tuple[Sequence[int], Axes]]
) -> Axes:
    found: Axes = []
    for back in range(len(shape), 0, -1):
        size = shape[-back]
        own = [axes[-back] for s, axes in parts if len(s) >= back and s[-back] == size]
        axis = own[0] if own else None
        for other in own[1:] if size > 1 else ():
            axis = seen.tie(axis, other)
        found.append(axis)
    return found


def _reduce(seen: Seen, given: Given, out: Any) -> Axes:
    """A sum, mean or extreme over an axis does not depend on the order along it."""
    tensor = given["self"]
    axes, dims = seen(tensor), given.get("dim")
    chosen = [dims] if isinstance(dims, int) else dims or range(tensor.dim())
    gone = {dim % max(1, tensor.dim()) for dim in chosen}
    if given.get("keepdim"):
        return [None if k in gone else axis for k, axis in enumerate(axes)]
    return [axis for k, axis in enumerate(axes) if k not in gone]


def _product(first: str, second: str, added: str = "") -> Rule:
    """Products of matrices, vectors or batches of these: what is summed over is tied."""

    def rule(seen: Seen, given: Given, out: Any) -> Axes:
        *left, inner = seen(given[first])
        right = seen(given[second])
        seen.tie(inner, right.pop(-2 if len(right) > 1 else -1))
        batch = [seen.tie(a, b) for a, b in zip(left[:-1], right[:-1], strict=True)]
        axes = [*batch, *left[-1:], *right[-1:]]
        if added:
            parts = [(out.shape, axes), (given[added].shape, seen(given[added]))]
            axes = _broadcast(seen, out.shape, parts)
        return axes

    return rule


def _linear(seen: Seen, given: Given, out: Any) -> Axes:
    *axes, inner = seen(given["input"])
    rows, columns = seen(given["weight"])
    seen.tie(inner, columns)
    if given.get("bias") is not None:
        rows = seen.tie(rows, seen(given["bias"])[0])
    return [*axes, rows]


def _convolution(seen: Seen, given: Given, out: Any) -> Axes:
    count, channels, *places = seen(given["input"])
    left, right, *kernel = seen(given["weight"])
    seen.fix(*places, *kernel)
    groups, transposed = given["groups"], given["transposed"]
    if groups == 1:
        inner, made = (left, right) if transposed else (right, left)
        seen.tie(channels, inner)
    elif transposed:
        seen.fix(channels, left, right)
        made = None
    else:
        made = _of_groups(seen, channels, (left, right), groups, given["input"].shape[1])
    if given["bias"] is not None:
        made = seen.tie(made, seen(given["bias"])[0])
    return [count, made, *[None] * len(places)]


def _of_groups(
    seen: Seen, channels: Axis, weight: tuple[Axis, Axis], groups: int, inputs: int
) -> Axis:
    """Outputs of a convolution in groups: of one channel each, or of several that then stay."""
    made, inner = weight
    if made is None:
        seen.fix(channels, inner)
    elif groups == inputs and channels is not None:
        seen.tie(made, np.repeat(channels, len(made) // groups))
    else:
        seen.fix(channels, inner)
        for block in np.split(made, groups):
            seen.atoms.mark(block)
    return made


def _batch_norm(seen: Seen, given: Given, out: Any) -> Axes:
    axes = seen(given["input"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        if given.get(name) is not None:
            axes[1] = seen.tie(axes[1], seen(given[name])[0])
    return axes


def _layer_norm(seen: Seen, given: Given, out: Any) -> Axes:
    axes = seen(given["input"])
    for name in ("weight", "bias"):
        if given.get(name) is not None:
            own = seen(given[name])
            for back in range(1, len(own) + 1):
                axes[-back] = seen.tie(axes[-back], own[-back])
    return axes


def _group_norm(seen: Seen, given: Given, out: Any) -> Axes:
    axes, groups = seen(given["input"]), given["group"]
    for name in ("weight", "bias"):
        if given.get(name) is not None:
            axes[1] = seen.tie(axes[1], seen(given[name])[0])
    if axes[1] is not None and 1 < groups < len(axes[1]):
        for block in np.split(axes[1], groups):
            seen.atoms.mark(block)
    return axes


def _same(seen: Seen, given: Given, out: Any) -> Axes:
    """An operation along an axis to which order does not matter, such as softmax."""
    return seen(given["self"])


def _spatial(count: int) -> Rule:
    """Pools and the like, over the last axes."""

    def rule(seen: Seen, given: Given, out: Any) -> Axes:
        tensor = given.get("self", given.get("input"))
        axes = seen(tensor)
        seen.fix(*axes[len(axes) - count :])
        return [*axes[: len(axes) - count], *[None] * count]

    return rule


def _embedding(seen: Seen, given: Given, out: Any) -> Axes:
    rows, columns = seen(given["weight"])
    seen.fix(rows, *seen(given["indices"]))
    return [*[None] * (out.dim() - 1), columns]


_POINTWISE = (  # that torch does not mark as such
    *("_prelu_kernel", "hardswish", "hardswish_", "gelu_", "mish_", "threshold_", "masked_fill_"),
    "log_sigmoid_forward",
)
_REDUCTIONS = (
    *("mean", "sum", "amax", "amin", "var", "std", "prod", "any", "all", "norm"),
    *("linalg_vector_norm", "logsumexp"),
)
UNIFORM = (  # operations that make tensors whose numbers are all the same
    *("zeros", "ones", "full", "zeros_like", "ones_like", "full_like"),
    *("new_zeros", "new_ones", "new_full"),
)
_NORMS = (
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    *("cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update"),
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(["_to_copy", "copy_", "alias", "detach", "contiguous", "clone"], elementwise),
    **dict.fromkeys(_POINTWISE, elementwise),
    **dict.fromkeys(["view", "_unsafe_view", "reshape", "_reshape_alias"], rearranging.reshape),
    **dict.fromkeys(["_softmax", "_log_softmax", "fill_", "zero_"], _same),
    **dict.fromkeys(["t", "transpose", "t_", "transpose_"], rearranging.transpose),
    **dict.fromkeys(["select", "unbind"], rearranging.pick),
    **dict.fromkeys(["split", "split_with_sizes", "unsafe_split"], rearranging.split),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_NORMS, _batch_norm),
    "permute": rearranging.permute,
    "unsqueeze": rearranging.unsqueeze,
    "squeeze": rearranging.squeeze,
    "expand": rearranging.expand,
    "repeat": rearranging.repeat,
    "slice": rearranging.slice_of,
    "cat": rearranging.cat,
    "stack": rearranging.stack,
    "mm": _product("self", "mat2"),
    "bmm": _product("self", "mat2"),
    "mv": _product("self", "vec"),
    "dot": _product("self", "tensor"),
    "vdot": _product("self", "other"),
    "addmm": _product("mat1", "mat2", "self"),
    "baddbmm": _product("batch1", "batch2", "self"),
    "linear": _linear,
    "glu": rearranging.gate,
    "convolution": _convolution,
    "native_layer_norm": _layer_norm,
    "_fused_rms_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "constant_pad_nd": rearranging.pad,
    "im2col": rearranging.unfold,
    "embedding": _embedding,
}
# Rules under which numbers that are all the same stay so.
KEEP_UNIFORM = (
    *(elementwise, rearranging.reshape, rearranging.permute, rearranging.transpose),
    *(rearranging.unsqueeze, rearranging.squeeze, rearranging.expand, rearranging.repeat),
    *(rearranging.slice_of, rearranging.pick, rearranging.split),
)
