"""How many labels of a known grid are right after how many cells: three strategies.

A cell's numbers are revealed when a strategy buys it. On generated grids a purchase may also be as
many replicas again of a cell that it has. A cell that was bought has the label of its own numbers,
which noise may make wrong; others have the label that is inferred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import RBFInterpolator

from lossatlas import uncertainty
from lossatlas.refine import choose, oracles
from lossatlas.refine.generators import DEVELOPED, HELD_OUT, NAMES
from lossatlas.refine.oracles import Oracle, labels_of
from lossatlas.refine.surrogate import Cells, Floats, coordinates, fit
from lossatlas.spec.figures import PUBLISHED
from lossatlas.spec.refining import coarse
from lossatlas.store import Record, Scalar, Table

STARTS = 10
BATCH = 4
GRIDS = ("straight", "island", "wavy", "tongue", "published")
STRATEGIES = ("adaptive", "regular", "random")
SIDES = range(3, 9)  # values of each axis of regular grids

Path = list[tuple[int, float]]  # purchases, and share of labels that are right


@dataclass
class Bought:
    """What a strategy has: cell -> how often it was bought."""

    oracle: Oracle
    times: dict[int, int] = field(default_factory=dict)

    def buy(self, cells: Iterable[int]) -> None:
        """Buy some cells, or buy them again."""
        for cell in cells:
            self.times[int(cell)] = self.times.get(int(cell), 0) + 1

    @property
    def spent(self) -> int:
        """Purchases so far."""
        return sum(self.times.values())

    def numbers(self) -> tuple[Cells, Floats, Floats, Floats]:
        """Return the cells (m,), values (3, m), standard errors (3, m), degrees of freedom (m,)."""
        cells = np.array(list(self.times))
        found = [self.oracle.reveal(cell, times) for cell, times in self.times.items()]
        values, errors, df = zip(*found, strict=True)
        return cells, np.stack(values, 1), np.stack(errors, 1), np.array(df)

    def right(self, inferred: Cells) -> float:
        """Return the share of labels that are right, where (n,) labels are inferred."""
        cells, values, _, _ = self.numbers()
        labels = np.array(inferred)
        labels[cells] = labels_of(values)
        return float((labels == self.oracle.labels).mean())


def adaptive(oracle: Oracle, seed: int, most: int) -> Path:
    """Return purchases and share of right labels, round by round, up to `most` purchases."""
    places = coordinates(oracle.points)
    bought = Bought(oracle)
    bought.buy(_coarse(oracle, 0, seed))
    found: Path = []
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
        full = [c for c, t in bought.times.items() if t >= oracles.MOST or not oracle.again]
        candidates = np.setdiff1d(np.arange(len(places)), full)
        bought.buy(choose.choose(known, candidates, min(BATCH, most - bought.spent)))


def regular(oracle: Oracle, seed: int, most: int) -> Path:
    """Return the same of regular grids of several sizes, by thin-plate splines."""
    found = [_thin_plate(oracle, _coarse(oracle, side, seed)) for side in SIDES]
    return [point for point in found if point[0] <= most]


def at_random(oracle: Oracle, seed: int, most: int) -> Path:
    """Return the same of random cells, each set a part of the next, by thin-plate splines."""
    order = np.random.default_rng([seed, 3]).permutation(len(oracle.points))
    return [_thin_plate(oracle, order[:count]) for count in range(8, most + 1, BATCH)]


def _coarse(oracle: Oracle, side: int, seed: int) -> list[int]:
    """Return a regular grid; its inner lines are shifted at random but for seed 0."""
    shifts = iter(np.random.default_rng([seed, 2]).uniform(-0.5, 0.5, 100)) if seed else None
    return coarse([tuple(point) for point in oracle.points.tolist()], side, shifts)


def _thin_plate(oracle: Oracle, cells: Iterable[int]) -> tuple[int, float]:
    bought = Bought(oracle)
    bought.buy(cells)
    where, values, _, _ = bought.numbers()
    places = coordinates(oracle.points)
    inside = RBFInterpolator(places[where], values.T, kernel="thin_plate_spline")(places)
    return bought.spent, bought.right(labels_of(inside.T))


def grid(name: str, seed: int) -> Oracle:
    """Return one of `GRIDS`; of generated ones, with the noise of this seed."""
    if name == "published":
        return oracles.published()
    made = {one.__name__: one for one in (*DEVELOPED, *HELD_OUT)}
    return oracles.generated(made[name](), seed)


def at(path: Path, count: int) -> float:
    """Return the share of right labels after at most so many purchases; NaN before the first."""
    before = [share for spent, share in path if spent <= count]
    return before[-1] if before else float("nan")


def study() -> Record:
    """Let three strategies buy cells of four grids, from ten starts each.

    Returns:
        A record with the table `labels_right` (start, cells, share) by `grid` and `strategy`, and
        scalars "<grid> <strategy> <count>": the mean share over the starts after a quarter of the
        cells, and of the published grid after 40 and 60.

    Raises:
        UserError: If the published numbers are missing or damaged.
    """
    record = Record("refinement")
    buy: dict[str, Callable[[Oracle, int, int], Path]]
    buy = dict(zip(STRATEGIES, (adaptive, regular, at_random), strict=True))
    for name in GRIDS:
        known = [grid(name, seed) for seed in range(STARTS)]
        cells = len(known[0].points)
        asked = (40, 60) if name == "published" else (cells // 4,)
        most = 64 if name == "published" else cells // 4
        for strategy, function in buy.items():
            found = [function(one, seed, most) for seed, one in enumerate(known)]
            rows = [(seed, *point) for seed, path in enumerate(found) for point in path]
            columns = dict(zip(("start", "cells", "share"), zip(*rows, strict=True), strict=True))
            index: dict[str, int | str] = {"grid": name, "strategy": strategy, "size": cells}
            record.tables.append(Table("labels_right", columns, index=index))
            for count in asked:
                over = uncertainty.mean([at(path, count) for path in found])
                label = f"{name} {strategy} {count}"
                record.scalars.append(Scalar(label, over.value, stderr=over.stderr, df=over.df))
    return record
