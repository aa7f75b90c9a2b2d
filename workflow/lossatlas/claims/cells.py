"""The cells of an experiment over any axes, in one array per quantity, and of two side by side."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lossatlas.claims.conditions import NotTestableError
from lossatlas.claims.grid import FEWEST, Arranged, Lines
from lossatlas.claims.statistics import Floats
from lossatlas.spec.figures import Thresholds
from lossatlas.tables.collect import axes_of, cell_summary
from lossatlas.tables.phases import labels

OTHER = "other "  # before the name of a quantity: of the second of two experiments
WITHOUT_BLEU = "test_accuracy"
SCORE = "test_score"  # BLEU where it was measured, else accuracy
_BLEU = "test_bleu"


@dataclass(frozen=True)
class Cells(Arranged):
    """Quantities and phases of n cells.

    Attributes:
        places: Axis -> value of each cell (n,).
        metrics: Quantity -> its number in each cell (n,), NaN where it is absent.
        phase: Of each cell (n,), '' where it has none.
        other_phase: The same of the second of two experiments; empty of a single one.
        unconverged: Numbers that are left out because they did not converge.
        read: Quantities that were asked for.
    """

    places: dict[str, Floats]
    metrics: dict[str, Floats]
    phase: NDArray[np.str_]
    other_phase: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=np.str_))
    unconverged: int = 0
    read: set[str] = field(default_factory=set)

    def where(self, kept: NDArray[np.bool_], what: str) -> Cells:
        """Return some of the cells; `kept` is (n,).

        Raises:
            NotTestableError: If there are none; the message says that no cell has `what`.
        """
        if not kept.any():
            raise NotTestableError(f"no cell has {what}")
        return replace(
            self,
            places={axis: values[kept] for axis, values in self.places.items()},
            metrics={name: values[kept] for name, values in self.metrics.items()},
            phase=self.phase[kept],
            other_phase=self.other_phase[kept] if self.other_phase.size else self.other_phase,
        )

    def lines(self, axis: str) -> list[NDArray[np.int64]]:
        """Return the cells of each line: alike in all other axes, in ascending order of this."""
        count = len(self.phase)
        others = [values for name, values in self.places.items() if name != axis]
        which = np.zeros(count, dtype=np.int64)
        if others and count:
            which = np.unique(np.stack(others), axis=1, return_inverse=True)[1].ravel()
        order = np.lexsort((self.places[axis], which))
        return np.split(order, np.flatnonzero(np.diff(which[order])) + 1) if count else []

    def along(self, axis: str, metric: str) -> Lines:
        """Return places and a quantity of each line that has at least `FEWEST` numbers.

        Raises:
            NotTestableError: If no line has.
        """
        values, places = self[metric], self.places[axis]
        known = [line[np.isfinite(values[line])] for line in self.lines(axis)]
        long = [line for line in known if len(line) >= FEWEST]
        if not long:
            raise NotTestableError(f"fewer than {FEWEST} values of {axis} with {metric}")
        return [places[line] for line in long], [values[line] for line in long]

    def neighbours(self) -> NDArray[np.int64]:
        """Return the pairs (m, 2) of cells that are next to each other on a line."""
        pairs = [
            np.stack([line[:-1], line[1:]], axis=1)
            for axis in self.places
            for line in self.lines(axis)
        ]
        return np.concatenate([np.zeros((0, 2), dtype=np.int64), *pairs])


def cells(table: pd.DataFrame, thresholds: Thresholds) -> Cells:
    """Arrange the scalars of one experiment. Numbers that did not converge count as absent.

    Raises:
        NotTestableError: If it has no cells.
    """
    if table.empty:
        raise NotTestableError("it has no cells")
    axes = axes_of(table)
    summary = cell_summary(table)
    rough = summary["status"] == "unconverged"
    summary = summary.assign(value=summary["value"].where(~rough))
    rows = labels(summary, thresholds).set_index("cell").sort_values(axes)
    found = {
        str(name): part.set_index("cell")["value"].reindex(rows.index).to_numpy(np.float64)
        for name, part in summary.groupby("metric")
    }
    found[SCORE] = _score(table).reindex(rows.index).to_numpy(np.float64)
    places = {axis: rows[axis].to_numpy(np.float64) for axis in axes}
    phase = rows["phase"].fillna("").to_numpy(np.str_)
    return Cells(places, found, phase, unconverged=int(rough.sum()))


def _score(table: pd.DataFrame) -> pd.Series:
    """Return, by cell, the mean test score over replicas that did not diverge."""
    name = _BLEU if (table["metric"] == _BLEU).any() else WITHOUT_BLEU
    rows = table[(table["metric"] == name) & table["status"].isin(("ok", "unconverged"))]
    return rows.groupby("cell")["value"].mean()


def side_by_side(one: Cells, two: Cells) -> Cells:
    """Return the cells that two experiments have in common: quantities of both, by name.

    Those of the second have `OTHER` before their names.

    Raises:
        NotTestableError: If the axes differ, or no cell has the same place in both.
    """
    if list(one.places) != list(two.places):
        raise NotTestableError("the two experiments have different axes")
    rows = [list(zip(*part.places.values(), strict=True)) for part in (one, two)]
    at = {place: index for index, place in enumerate(rows[1])}
    pairs = [(index, at[place]) for index, place in enumerate(rows[0]) if place in at]
    if not pairs:
        raise NotTestableError("the two experiments have no cell in common")
    first, second = (np.array(part) for part in zip(*pairs, strict=True))
    theirs = {OTHER + name: values[second] for name, values in two.metrics.items()}
    ours = {name: values[first] for name, values in one.metrics.items()}
    return Cells(
        {axis: values[first] for axis, values in one.places.items()},
        {**ours, **theirs},
        one.phase[first],
        two.phase[second],
        one.unconverged + two.unconverged,
    )
