"""What is known of the tensors of a forward pass while it runs.

A tensor has, per axis, the atoms (K,) of its indices, or None where each index has a place of its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lossatlas.permutation.atoms import Atoms

Axis = np.ndarray | None
Axes = list[Axis]


class Seen:
    """Axes of the tensors of a forward pass, and which tensors depend on weights."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms
        # A tensor keeps its number while it is held.
        self._of: dict[int, tuple[Tensor, Axes | None, bool]] = {}

    def __call__(self, tensor: Tensor) -> Axes:
        """Return the axes of a tensor."""
        _, axes, _ = self._of.get(id(tensor), (tensor, [None] * tensor.dim(), False))
        return [self.atoms.fresh(size) for size in tensor.shape] if axes is None else list(axes)

    def uniform(self, tensor: Tensor) -> bool:
        """Say whether all numbers of a tensor are the same, such as zeros."""
        return id(tensor) in self._of and self._of[id(tensor)][1] is None

    def depends(self, tensor: Tensor) -> bool:
        """Say whether the values of a tensor depend on weights."""
        return id(tensor) in self._of and self._of[id(tensor)][2]

    def note(self, tensor: Tensor, axes: Axes | None, *, depends: bool) -> None:
        """Remember what is known of a tensor; its axes are None if all its numbers are the same."""
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
