"""Rules of operations that rearrange axes, take parts of them or put them together.

A rule is given what is known of tensors, the arguments by name and the output. It ties what must
move together, fixes what must stay, and returns the axes of the output (None: it has noted the
outputs itself).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lossatlas.permutation.atoms import FIXED
from lossatlas.permutation.seen import Axes, Given, Seen


def reshape(seen: Seen, given: Given, out: Any) -> Axes:
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


def permute(seen: Seen, given: Given, out: Any) -> Axes:
    """Axes in another order."""
    axes = seen(given["self"])
    return [axes[dim] for dim in given["dims"]]


def transpose(seen: Seen, given: Given, out: Any) -> Axes:
    """Two axes that change places."""
    axes = seen(given["self"])
    if len(axes) < 2:
        return axes
    one, other = given.get("dim0", 0), given.get("dim1", 1)
    axes[one], axes[other] = axes[other], axes[one]
    return axes


def unsqueeze(seen: Seen, given: Given, out: Any) -> Axes:
    """A new axis of length 1."""
    axes = seen(given["self"])
    axes.insert(given["dim"] % out.dim(), None)
    return axes


def squeeze(seen: Seen, given: Given, out: Any) -> Axes:
    """Without axes of length 1."""
    tensor = given["self"]
    axes, dims = seen(tensor), given.get("dim", range(tensor.dim()))
    chosen = {dim % max(1, tensor.dim()) for dim in ([dims] if isinstance(dims, int) else dims)}
    kept = range(tensor.dim())
    return [axes[k] for k in kept if k not in chosen or tensor.shape[k] != 1]


def expand(seen: Seen, given: Given, out: Any) -> Axes:
    """Along an axis that is stretched all numbers are the same."""
    tensor = given["self"]
    axes = seen(tensor)
    found: Axes = [*[None] * (out.dim() - tensor.dim()), *axes]
    old = [0] * (out.dim() - tensor.dim()) + list(tensor.shape)
    return [
        axis if before == size else seen.atoms.fresh(size)
        for axis, before, size in zip(found, old, out.shape, strict=True)
    ]


def repeat(seen: Seen, given: Given, out: Any) -> Axes:
    """Copies along an axis: a unit then has several indices."""
    tensor, counts = given["self"], given["repeats"]
    axes: Axes = [*[None] * (len(counts) - tensor.dim()), *seen(tensor)]
    return [a if a is None else np.tile(a, count) for a, count in zip(axes, counts, strict=True)]


def slice_of(seen: Seen, given: Given, out: Any) -> Axes:
    """A part of an axis."""
    axes, dim = seen(given["self"]), given["dim"]
    axes[dim] = seen.part(axes[dim], slice(given["start"], given["end"], given["step"]))
    return axes


def pick(seen: Seen, given: Given, out: Any) -> Axes:
    """One index of an axis, or each by itself."""
    axes = seen(given["self"])
    seen.fix(axes.pop(given["dim"]))
    return axes


def split(seen: Seen, given: Given, out: Any) -> None:
    """Pieces of an axis, which are noted here, as they differ."""
    dim, start = given["dim"], 0
    for piece in out:
        axes, size = seen(given["self"]), piece.shape[dim]
        axes[dim] = seen.part(axes[dim], slice(start, start + size))
        seen.note(piece, axes, depends=seen.depends(given["self"]))
        start += size


def gate(seen: Seen, given: Given, out: Any) -> Axes:
    """A gated linear unit: one half of an axis times the sigmoid of the other."""
    axes, dim = seen(given["self"]), given["dim"]
    size = out.shape[dim]
    halves = [seen.part(axes[dim], slice(first, first + size)) for first in (0, size)]
    axes[dim] = seen.tie(*halves)
    return axes


def cat(seen: Seen, given: Given, out: Any) -> Axes:
    """Axes put one behind another."""
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


def stack(seen: Seen, given: Given, out: Any) -> Axes:
    """A new axis, over tensors."""
    axes, *rest = (seen(t) for t in given["tensors"])
    for other in rest:
        axes = [seen.tie(a, b) for a, b in zip(axes, other, strict=True)]
    axes.insert(given["dim"] % out.dim(), None)
    return axes


def pad(seen: Seen, given: Given, out: Any) -> Axes:
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


def unfold(seen: Seen, given: Given, out: Any) -> Axes:
    """Patches: a channel has as many indices as a patch has pixels."""
    *count, channels, tall, wide = seen(given["self"])
    seen.fix(tall, wide)
    area = math.prod(given["kernel_size"])
    return [*count, None if channels is None else np.repeat(channels, area), None]
