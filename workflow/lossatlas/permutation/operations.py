"""What torch's operations do to the units of their inputs: rules, one for each kind of operation.

A tensor has, per axis, the atoms (K,) of its indices, or None where each index has a place of its
own. A rule ties what must move together, fixes what must stay, and returns the axes of the output
(None: it has noted the outputs itself). An operation without a rule fixes all that it is given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossatlas.permutation.atoms import FIXED, Atoms
from lossatlas.permutation.layers import name_of

Axis = np.ndarray | None
Axes = list[Axis]
_SPATIAL = re.compile(
    r"(?:_|mkldnn_)?(?:adaptive_)?(?:max|avg)_pool([123])d.*|_?upsample_\D*([123])d.*"
    r"|(?:reflection|replication)_pad([123])d"
)


class Seen:
    """Axes of the tensors of a forward pass, and which tensors depend on weights."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms
        self._of: dict[int, tuple[Tensor, Axes, bool]] = {}  # a tensor keeps its number while held

    def __call__(self, tensor: Tensor) -> Axes:
        """Return the axes of a tensor."""
        known = self._of.get(id(tensor))
        return [None] * tensor.dim() if known is None else list(known[1])

    def depends(self, tensor: Tensor) -> bool:
        """Say whether the values of a tensor depend on weights."""
        return id(tensor) in self._of and self._of[id(tensor)][2]

    def note(self, tensor: Tensor, axes: Axes, *, depends: bool) -> None:
        """Remember what is known of a tensor."""
        self._of[id(tensor)] = tensor, axes, depends

    def fix(self, *axes: Axis) -> None:
        """Keep all indices of some axes where they are."""
        for axis in axes:
            if axis is not None:
                self.atoms.fix(axis)

    def tie(self, one: Axis, other: Axis) -> Axis:
        """Tie two axes of one length, and return them as one."""
        if one is None or other is None:
            self.fix(one, other)
            return None
        self.atoms.tie(one, other)
        return one

    def part(self, axis: Axis, index: Any) -> Axis:
        """Return a part of an axis, whose units are told from the others."""
        if axis is None:
            return None
        found = axis[index]
        if len(found) < len(axis):
            self.atoms.mark(found)
        return found


Given = Mapping[str, Any]  # arguments by name
Rule = Callable[[Seen, Given, Any], Axes | None]


def given_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operation by their names, defaults included."""
    declared = function._schema.arguments  # noqa: SLF001 -- torch.fx reads it, too
    found = {one.name: one.default_value for one in declared if one.has_default_value()}
    return found | dict(zip((one.name for one in declared), args, strict=False)) | dict(kwargs)


def tensors_in(value: Any) -> list[Tensor]:
    """Return all tensors in arguments or outputs."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [t for one in value for t in tensors_in(one)] if isinstance(value, list | tuple) else []


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
        size, own = (
            shape[-back],
            [
                axes[-back]
                for sizes, axes in parts
                if len(sizes) >= back and sizes[-back] == shape[-back]
            ],
        )
        axis = own[0] if own else None
        for other in own[1:] if size > 1 else ():
            axis = seen.tie(axis, other)
        found.append(axis)
    return found


def _uniform(seen: Seen, given: Given, out: Any) -> Axes:
    """All numbers are the same: any index can be exchanged with any other."""
    return [seen.atoms.fresh(size) for size in out.shape]


def _reshape(seen: Seen, given: Given, out: Any) -> Axes:
    """Axes that are joined or divided: a unit then has several indices, or is in several places."""
    tensor = given["self"]
    axes, old, new = seen(tensor), list(tensor.shape), list(out.shape)
    if 0 in old:
        seen.fix(*axes)
        return [None] * len(new)
    found: Axes = []
    i = j = 0
    while i < len(old) or j < len(new):  # the shortest runs of axes with equal products
        first, start = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while (here := math.prod(old[first:i])) != (there := math.prod(new[start:j])):
            i, j = (i + 1, j) if here < there else (i, j + 1)
        found += _rearranged(seen, axes[first:i], old[first:i], new[start:j])
    return found


def _rearranged(seen: Seen, axes: Axes, old: Sequence[int], new: Sequence[int]) -> Axes:
    held = [k for k, axis in enumerate(axes) if axis is not None and old[k] > 1]
    if len(old) == len(new) == 1:
        return axes
    if len(held) == 1:
        (k,) = held
        (axis,) = (axes[k],)
        assert axis is not None
        behind = math.prod(old[k + 1 :])
        flat = np.tile(np.repeat(axis, behind), math.prod(old[:k])).reshape(new)
        for place in range(len(new)):
            rows = np.moveaxis(flat, place, 0).reshape(new[place], -1)
            if (rows == rows[:, :1]).all():
                return [rows[:, 0] if own == place else None for own in range(len(new))]
    seen.fix(*(axes[k] for k in held))
    return [None] * len(new)


def _permute(seen: Seen, given: Given, out: Any) -> Axes:
    axes = seen(given["self"])
    return [axes[dim] for dim in given["dims"]]


def _transpose(seen: Seen, given: Given, out: Any) -> Axes:
    axes = seen(given["self"])
    if len(axes) < 2:
        return axes
    one, other = given.get("dim0", 0), given.get("dim1", 1)
    axes[one], axes[other] = axes[other], axes[one]
    return axes


def _unsqueeze(seen: Seen, given: Given, out: Any) -> Axes:
    axes = seen(given["self"])
    axes.insert(given["dim"] % out.dim(), None)
    return axes


def _squeeze(seen: Seen, given: Given, out: Any) -> Axes:
    tensor = given["self"]
    axes, dims = seen(tensor), given.get("dim", range(tensor.dim()))
    chosen = {dim % max(1, tensor.dim()) for dim in ([dims] if isinstance(dims, int) else dims)}
    kept = range(tensor.dim())
    return [axes[k] for k in kept if k not in chosen or tensor.shape[k] != 1]


def _expand(seen: Seen, given: Given, out: Any) -> Axes:
    tensor = given["self"]
    axes = seen(tensor)
    found: Axes = [None] * (out.dim() - tensor.dim()) + axes
    old = [0] * (out.dim() - tensor.dim()) + list(tensor.shape)
    return [
        axis if before == size else seen.atoms.fresh(size)
        for axis, before, size in zip(found, old, out.shape, strict=True)
    ]


def _repeat(seen: Seen, given: Given, out: Any) -> Axes:
    tensor, counts = given["self"], given["repeats"]
    axes: Axes = [None] * (len(counts) - tensor.dim()) + seen(tensor)
    return [a if a is None else np.tile(a, count) for a, count in zip(axes, counts, strict=True)]


def _slice(seen: Seen, given: Given, out: Any) -> Axes:
    axes, dim = seen(given["self"]), given["dim"]
    axes[dim] = seen.part(axes[dim], slice(given["start"], given["end"], given["step"]))
    return axes


def _pick(seen: Seen, given: Given, out: Any) -> Axes:
    """One index of an axis, or each by itself."""
    axes = seen(given["self"])
    seen.fix(axes.pop(given["dim"]))
    return axes


def _split(seen: Seen, given: Given, out: Any) -> None:
    """Pieces of an axis, which are noted here, as they differ."""
    dim, start = given["dim"], 0
    for piece in out:
        axes, size = seen(given["self"]), piece.shape[dim]
        axes[dim] = seen.part(axes[dim], slice(start, start + size))
        seen.note(piece, axes, depends=seen.depends(given["self"]))
        start += size


def _cat(seen: Seen, given: Given, out: Any) -> Axes:
    parts = [t for t in given["tensors"] if t.dim() == out.dim()]  # an old rule skips empty ones
    dim = given["dim"] % out.dim()
    known = [seen(t) for t in parts]
    axes = known[0]
    for other in known[1:]:
        axes = [a if k == dim else seen.tie(a, other[k]) for k, a in enumerate(axes)]
    along = [one[dim] for one in known]
    axes[dim] = None
    if any(axis is not None for axis in along):
        pieces = zip(along, parts, strict=True)
        fixed = [np.full(t.shape[dim], FIXED) if a is None else a for a, t in pieces]
        axes[dim] = np.concatenate(fixed)
    return axes


def _stack(seen: Seen, given: Given, out: Any) -> Axes:
    axes, *rest = (seen(t) for t in given["tensors"])
    for other in rest:
        axes = [seen.tie(a, b) for a, b in zip(axes, other, strict=True)]
    axes.insert(given["dim"] % out.dim(), None)
    return axes


def _reduce(seen: Seen, given: Given, out: Any) -> Axes:
    """A sum, mean or extreme over an axis does not depend on the order along it."""
    tensor = given["self"]
    axes, dims = seen(tensor), given.get("dim")
    every = dims is None or dims == []
    chosen = range(tensor.dim()) if every else [dims] if isinstance(dims, int) else dims
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


def _pad(seen: Seen, given: Given, out: Any) -> Axes:
    """Constants around: those of an axis with units can be exchanged with each other."""
    axes, pad = seen(given["self"]), given["pad"]
    for k in range(len(pad) // 2):
        before, after = pad[2 * k : 2 * k + 2]
        axis = axes[-1 - k]
        if axis is None or not (before or after):
            continue
        if min(before, after) < 0:
            seen.fix(axis)
            axes[-1 - k] = None
        else:
            ends = [seen.atoms.fresh(size) for size in (before, after)]
            axes[-1 - k] = np.concatenate([ends[0], axis, ends[1]])
    return axes


def _unfold(seen: Seen, given: Given, out: Any) -> Axes:
    *count, channels, tall, wide = seen(given["self"])
    seen.fix(tall, wide)
    area = math.prod(given["kernel_size"])
    return [*count, None if channels is None else np.repeat(channels, area), None]


def _embedding(seen: Seen, given: Given, out: Any) -> Axes:
    rows, columns = seen(given["weight"])
    seen.fix(rows, *seen(given["indices"]))
    return [*[None] * (out.dim() - 1), columns]


_REDUCTIONS = "mean sum amax amin var std prod any all norm linalg_vector_norm logsumexp".split()
_UNIFORM = "zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full".split()
_NORMS = """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
    cudnn_batch_norm miopen_batch_norm _batch_norm_with_update _batch_norm_no_update""".split()
RULES: dict[str, Rule] = {
    **dict.fromkeys(["_to_copy", "copy_", "alias", "detach", "contiguous", "clone"], elementwise),
    **dict.fromkeys(["view", "_unsafe_view", "reshape", "_reshape_alias"], _reshape),
    **dict.fromkeys(["_softmax", "_log_softmax", "fill_", "zero_"], _same),
    **dict.fromkeys(["t", "transpose"], _transpose),
    **dict.fromkeys(["select", "unbind"], _pick),
    **dict.fromkeys(["split", "split_with_sizes", "unsafe_split"], _split),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_UNIFORM, _uniform),
    **dict.fromkeys(_NORMS, _batch_norm),
    "permute": _permute,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "expand": _expand,
    "repeat": _repeat,
    "slice": _slice,
    "cat": _cat,
    "stack": _stack,
    "mm": _product("self", "mat2"),
    "bmm": _product("self", "mat2"),
    "mv": _product("self", "vec"),
    "dot": _product("self", "tensor"),
    "vdot": _product("self", "other"),
    "addmm": _product("mat1", "mat2", "self"),
    "baddbmm": _product("batch1", "batch2", "self"),
    "linear": _linear,
    "convolution": _convolution,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "constant_pad_nd": _pad,
    "im2col": _unfold,
    "embedding": _embedding,
}
