"""Which indices of the axes of a network's tensors one permutation must move together.

Every index of every axis is an atom. What an operation adds, multiplies or sums over is tied, and
what has a place of its own (a pixel, an input, an output) is fixed. Atoms that are tied make a
unit; units that have as many atoms in the same axes can be exchanged, and make a group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

FIXED = 0  # the atom to which all is tied that has a place of its own


@dataclass(frozen=True, eq=False)
class Place:
    """Where the units of a group stand in a tensor.

    Attributes:
        name: Of the parameter or buffer.
        axis: Of it.
        index: Indices (units, repeats) along this axis: of each unit, in ascending order.
    """

    name: str
    axis: int
    index: np.ndarray


@dataclass(frozen=True, eq=False)
class Group:
    """Units that can be exchanged with each other without changing what a network computes.

    Attributes:
        places: In all tensors that hold them.
    """

    places: tuple[Place, ...]

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.places[0].index)


class Atoms:
    """Indices of axes, and ties between them."""

    def __init__(self) -> None:
        self._axes: list[tuple[str, int]] = [("", 0)]
        self._sizes = [1]
        self._count = 1
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []

    def fresh(self, size: int, name: str = "", axis: int = 0) -> np.ndarray:
        """Return the atoms (size,) of a new axis.

        Args:
            size: Its length.
            name: The tensor that it is of; "" is none: units with an atom in such an axis are told
                from others, and no more.
            axis: Its number in the tensor.
        """
        self._axes.append((name, axis))
        self._sizes.append(size)
        self._count += size
        return np.arange(self._count - size, self._count)

    def tie(self, one: np.ndarray, other: np.ndarray) -> None:
        """Let one permutation move atoms (K,) and (K,), each to each."""
        self._ties.append((one, other))

    def fix(self, atoms: np.ndarray) -> None:
        """Keep atoms where they are."""
        self._ties.append((atoms, np.full_like(atoms, FIXED)))

    def mark(self, atoms: np.ndarray) -> None:
        """Tell atoms from all others: they are used in another way."""
        self.tie(atoms, self.fresh(len(atoms)))

    def units(self) -> tuple[list[Group], np.ndarray, np.ndarray]:
        """Return the groups of at least two units, and group and unit of each atom (-1: none)."""
        unit_of = self._tied()
        axis_of = np.repeat(np.arange(len(self._sizes)), self._sizes)
        start_of = np.cumsum([0, *self._sizes])
        alike: dict[tuple[int, ...], list[np.ndarray]] = defaultdict(list)
        order = np.argsort(unit_of, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(unit_of[order])) + 1)
        for atoms in sorted(members, key=lambda one: int(one[0])):
            if atoms[0] != FIXED and any(self._axes[axis][0] for axis in axis_of[atoms]):
                alike[tuple(axis_of[atoms].tolist())].append(atoms)
        groups: list[Group] = []
        group, unit = np.full((2, self._count), -1)
        for axes, found in alike.items():
            if len(found) < 2:
                continue
            atoms = np.stack(found)
            group[atoms], unit[atoms] = len(groups), np.arange(len(found))[:, None]
            groups.append(self._group(np.array(axes), atoms, start_of))
        return groups, group, unit

    def _group(self, axes: np.ndarray, atoms: np.ndarray, start_of: np.ndarray) -> Group:
        places = []
        for axis in np.unique(axes):
            name, number = self._axes[axis]
            if name:
                places.append(Place(name, number, atoms[:, axes == axis] - start_of[axis]))
        return Group(tuple(places))

    def _tied(self) -> np.ndarray:
        """Return the number of the unit of each atom."""
        one, other = (
            np.concatenate([np.zeros(0, int), *(pair[side] for pair in self._ties)])
            for side in (0, 1)
        )
        shape = (self._count, self._count)
        graph = coo_array((np.ones(len(one), bool), (one, other)), shape)
        return connected_components(graph, directed=False)[1]


def identity(groups: Sequence[Group]) -> list[np.ndarray]:
    """Return the permutations that move nothing."""
    return [np.arange(group.size) for group in groups]


def sources(
    groups: Sequence[Group], permutations: Sequence[np.ndarray], shapes: Mapping[str, Sequence[int]]
) -> dict[tuple[str, int], np.ndarray]:
    """Return (tensor, axis) -> which index comes to each place of it, of axes that are permuted.

    Args:
        groups: The groups.
        permutations: Of each group: the unit (units,) that comes to each place.
        shapes: Of all tensors.
    """
    found: dict[tuple[str, int], np.ndarray] = {}
    for group, permutation in zip(groups, permutations, strict=True):
        for place in group.places:
            key = place.name, place.axis
            index = found.setdefault(key, np.arange(shapes[place.name][place.axis]))
            index[place.index] = place.index[permutation]
    return found
