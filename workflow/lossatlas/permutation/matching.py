"""Which units of one network are those of another: matching by weights or by activations.

By weights (Ainsworth et al., 2023, "Git Re-Basin", algorithm 1) the permutations of the second
network maximise the inner product of all parameters with the first one's, which minimises their
distance: a linear assignment problem for each group, given the others, one after another until
none gains. By activations (Li et al., 2016; Tatro et al., 2020) each group by itself maximises the
sum of correlations of units over examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lossatlas.models.functional import Tensors
from lossatlas.permutation.atoms import Group, Place, identity
from lossatlas.permutation.trace import permuted
from lossatlas.progress import advance, counted
from lossatlas.training.seeds import generator

_GAIN = 1e-12  # of the objective's scale: less is rounding
_SWEEPS = 1000  # far more than any matching takes


@dataclass(frozen=True)
class Matching:
    """Permutations that bring the units of a second network to those of a first.

    Attributes:
        permutations: Of each group: the second network's unit (units,) that comes to each place.
        objective: Inner product of the first network's parameters with the permuted ones; or the
            mean correlation of the units of both.
        sweeps: Passes over all groups.
    """

    permutations: list[np.ndarray]
    objective: float
    sweeps: int = 1

    @property
    def moved(self) -> int:
        """Units that come from another place."""
        return sum(int((p != np.arange(len(p))).sum()) for p in self.permutations)


def assignment(gains: np.ndarray) -> np.ndarray:
    """Return for each row its column (K,), so that the sum of (K, K) numbers is largest.

    Nothing is moved where one of them is not finite.
    """
    if not np.isfinite(gains).all():
        return np.arange(len(gains))
    return linear_sum_assignment(gains, maximize=True)[1]


def match_weights(
    first: Tensors, second: Tensors, groups: Sequence[Group], seed: int = 0, restarts: int = 1
) -> Matching:
    """Match the units of two networks by their parameters, in float64.

    Args:
        first: Name -> parameter.
        second: The same of the network whose units are permuted.
        groups: What can be permuted.
        seed: Of the order in which groups are visited, and of where restarts begin.
        restarts: Searches, of which the best counts: the first from the second network as it is,
            others from random permutations.

    Returns:
        The best matching; the same numbers on any device.
    """
    names = {place.name for group in groups for place in group.places} & first.keys()
    a, b = ({n: p.detach().cpu().double() for n, p in held.items()} for held in (first, second))
    rest = sum(float((a.pop(n) * b.pop(n)).sum()) for n in sorted(first.keys() - names))
    found = []
    for restart in range(restarts):
        search = _Search(a, b, groups, generator("matching", seed, restart))
        found.append(search.run(scattered=restart > 0))
    best = max(found, key=lambda one: one.objective)
    return Matching(best.permutations, best.objective + rest, best.sweeps)


class _Search:
    """Coordinate ascent over the permutations of groups.

    Args:
        first: Parameters, float64.
        second: Parameters, float64, of the network whose units are permuted.
        groups: The groups.
        draw: Of the order.
    """

    def __init__(
        self, first: Tensors, second: Tensors, groups: Sequence[Group], draw: torch.Generator
    ) -> None:
        self.first, self.now, self.groups, self.draw = first, dict(second), groups, draw
        self.found = identity(groups)
        held = [[p for p in group.places if p.name in first] for group in groups]
        self.held = {k: places for k, places in enumerate(held) if places}
        self.names = {k: {place.name for place in places} for k, places in self.held.items()}
        self.rows = {k: _rows(first, places) for k, places in self.held.items()}

    def run(self, *, scattered: bool) -> Matching:
        """Search until no group gains."""
        if scattered:
            for k in self.held:
                self._move(k, torch.randperm(self.groups[k].size, generator=self.draw).numpy())
        left, sweeps = set(self.held), 0
        with counted("matching", _SWEEPS, "sweeps"):
            while left and sweeps < _SWEEPS:
                for k in torch.randperm(len(self.groups), generator=self.draw).tolist():
                    if k not in left:
                        continue
                    left.remove(k)
                    if self._improve(k):
                        near = {o for o in self.held if self.names[o] & self.names[k]}
                        left |= near if self._couples(k) else near - {k}
                sweeps += 1
                advance("sweeps")
        return Matching(self.found, self._objective(set(self.first)), sweeps)

    def _couples(self, k: int) -> bool:
        """Say whether a tensor has a group on two axes: its gain is then no sum over units."""
        return len(self.names[k]) < len(self.held[k])

    def _improve(self, k: int) -> bool:
        """Match one group, the others being as they are, and say whether that gained."""
        gains = (self.rows[k] @ _rows(self.now, self.held[k]).T).numpy()
        step = assignment(gains)
        least = _GAIN * float(np.abs(gains).max()) * len(gains)
        if not float(gains[np.arange(len(step)), step].sum() - gains.trace()) > least:  # nor NaN
            return False
        if not self._couples(k):
            self._move(k, step)
            return True
        before = self.now, list(self.found), self._objective(self.names[k])
        self._move(k, step)
        if self._objective(self.names[k]) > before[2] + least:
            return True
        self.now, self.found = before[:2]
        return False

    def _move(self, k: int, step: np.ndarray) -> None:
        self.now = permuted(self.now, [self.groups[k]], [step])
        self.found[k] = self.found[k][step]

    def _objective(self, names: set[str]) -> float:
        return sum(float((self.first[n] * self.now[n]).sum()) for n in sorted(names))


def _rows(tensors: Tensors, places: Sequence[Place]) -> Tensor:
    """Return what belongs to each unit of a group, (units, numbers)."""
    found = []
    for place in places:
        index = torch.from_numpy(place.index.reshape(-1))
        rows = tensors[place.name].movedim(place.axis, 0).index_select(0, index)
        found.append(rows.reshape(len(place.index), -1))
    return torch.cat(found, 1)
