"""Strategies on grids whose every cell is known: how many labels are right after how many cells.

A cell's numbers are revealed when the strategy buys it. On generated grids a purchase may also be as
many replicas again of a cell that it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import RBFInterpolator

from lossatlas import uncertainty
from lossatlas.refine import choose
from lossatlas.refine.generators import NAMES, Generated
from lossatlas.refine.surrogate import Floats, coordinates, fit
from lossatlas.spec.figures import PUBLISHED
from lossatlas.spec.refining import coarse

BATCH = 4
REPLICAS = 3
MOST = 8  # purchases of one cell
Reveal = Callable[[int, int], tuple[Floats, Floats, float]]


@dataclass(frozen=True)
class Oracle:
    """A grid of n cells of which all is known.

    Attributes:
        points: (n, 2) values of the axes.
        labels: (n,) phases, 0 to 4 as in `tables.phases.PHASES`.
        reveal: (cell, times it was bought) -> values (3,), standard errors (3,), degrees of freedom.
        again: Whether a cell can be bought more than once.
    """

    points: Floats
    labels: np.ndarray
    reveal: Reveal
    again: bool


def labels_of(values: Floats) -> np.ndarray:
    """Return the phases (n,) by the published limits of values (3, n)."""
    trace, connectivity, cka = values
    flat = trace <= PUBLISHED["log_hessian_trace"]
    poor = connectivity < PUBLISHED["mode_connectivity"]
    four = np.where(cka >= PUBLISHED["cka"], 4, 3)
    return np.where(flat, np.where(poor, 2, four), np.where(poor, 0, 1))


def generated(grid: Generated, seed: int) -> Oracle:
    """Return a generated grid with noise of its own; its labels are those without noise."""
    random = np.random.default_rng([seed, 1])
    draws = grid.truth + grid.noise(random, grid.truth, REPLICAS * MOST)

    def reveal(cell: int, times: int) -> tuple[Floats, Floats, float]:
        some = draws[: REPLICAS * times, :, cell]
        found = [uncertainty.mean(column) for column in some.T]
        values = np.array([one.value for one in found])
        return values, np.array([one.stderr for one in found]), len(some) - 1.0

    return Oracle(grid.points, labels_of(grid.truth), reveal, again=True)


@dataclass
class Bought:
    """What a strategy has: cell -> how often it was bought, in order."""

    oracle: Oracle
    times: dict[int, int]

    def buy(self, cells: list[int]) -> None:
        """Buy some cells, or buy them again."""
        for cell in cells:
            self.times[cell] = self.times.get(cell, 0) + 1

    @property
    def spent(self) -> int:
        """Purchases so far."""
        return sum(self.times.values())

    def numbers(self) -> tuple[np.ndarray, Floats, Floats, Floats]:
        """Return the cells (m,), values (3, m), standard errors (3, m), degrees of freedom (m,)."""
        cells = np.array(list(self.times))
        found = [self.oracle.reveal(cell, times) for cell, times in self.times.items()]
        values, errors, df = zip(*found, strict=True)
        return cells, np.stack(values, 1), np.stack(errors, 1), np.array(df)

    def right(self, inferred: np.ndarray) -> float:
        """Return the share of labels that are right, measured cells having those measured."""
        cells, values, _, _ = self.numbers()
        labels = np.array(inferred)
        labels[cells] = labels_of(values)
        return float((labels == self.oracle.labels).mean())


def adaptive(oracle: Oracle, seed: int, most: int) -> list[tuple[int, float]]:
    """Return purchases and share of right labels, round by round."""
    places = coordinates(oracle.points)
    bought = Bought(oracle, {})
    random = np.random.default_rng([seed, 2])
    shifts = iter(random.uniform(-0.5, 0.5, 100)) if seed else None
    bought.buy(coarse([tuple(point) for point in oracle.points.tolist()], shifts=shifts))
    found = []
    while True:
        cells, values, errors, df = bought.numbers()
        known = {
            name: fit(places, cells, values[k], errors[k], df, PUBLISHED[name])[0]
            for k, name in enumerate(NAMES)
        }
        inferred = choose.shares(known)[:, :5].argmax(axis=1)
        found.append((bought.spent, bought.right(inferred)))
        if bought.spent >= most:
            return found
        full = [c for c, t in bought.times.items() if t >= MOST or not oracle.again]
        candidates = np.setdiff1d(np.arange(len(places)), full)
        bought.buy(choose.choose(known, candidates, min(BATCH, most - bought.spent)))


def thin_plate(oracle: Oracle, cells: list[int]) -> tuple[int, float]:
    """Return purchases and share of right labels by thin-plate splines through some cells."""
    bought = Bought(oracle, dict.fromkeys(cells, 1))
    where, values, _, _ = bought.numbers()
    places = coordinates(oracle.points)
    inside = RBFInterpolator(places[where], values.T, kernel="thin_plate_spline")(places)
    return bought.spent, bought.right(labels_of(inside.T))


def at_random(oracle: Oracle, seed: int, count: int) -> tuple[int, float]:
    """Return purchases and share of right labels, of random cells."""
    random = np.random.default_rng([seed, 3])
    cells = random.choice(len(oracle.points), count, replace=False)
    return thin_plate(oracle, [int(cell) for cell in cells])
