"""An experiment whose cells are chosen round by round: what is asked, and where it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from lossatlas.errors import UserError
from lossatlas.spec.parts import Strict

if TYPE_CHECKING:
    from lossatlas.spec.config import Config

KINDS = ("performance", "hessian", "connectivity", "cka")  # that decide a phase
MOST = 4  # purchases of one cell: replicas are at most this multiple of `seeds`


class Refine(Strict):
    """Measure a part of the grid: a coarse one first, then the cells that tell most of phases."""

    budget: int = Field(
        ge=1,
        description="how often `seeds` replicas are trained and measured: of new cells, or, with"
        " `again`, of cells that are there",
    )
    start: Literal["coarse"] | int = Field(
        "coarse",
        description="the grid of the first round: 'coarse', a quarter of each axis' values and one"
        " more, or how many values of each axis",
    )
    batch: int = Field(4, ge=1, description="purchases of a round, which is a choice")
    again: bool = Field(
        True,
        description="whether a cell may get as many replicas again where noise, and not distance,"
        " decides",
    )


@dataclass(frozen=True)
class Refined:
    """A refinement as it is planned.

    Attributes:
        start: Ids of the cells of the first round.
        counts: Purchases of each later round.
    """

    start: list[str]
    counts: list[int]

    @property
    def budget(self) -> int:
        """Purchases of all rounds: the most cells that are measured."""
        return len(self.start) + sum(self.counts)


def refined(config: Config, experiment: str, cells: Sequence[str]) -> Refined:
    """Return the first cells of an experiment, whose grid has these cells, and the rounds."""
    asked = config.experiments[experiment].refine
    assert asked is not None
    first = first_cells(config, experiment)
    left, counts = asked.budget - len(first), []
    while left > 0:
        counts.append(min(asked.batch, left))
        left -= counts[-1]
    return Refined([cells[number] for number in first], counts)


def first_cells(config: Config, experiment: str) -> list[int]:
    """Return the numbers of the cells that a refinement starts from."""
    asked = config.experiments[experiment].refine
    kept = asked.start if asked is not None and isinstance(asked.start, int) else 0
    return coarse([tuple(point.values()) for point in config.grid(experiment)], kept)


def check(config: Config, experiment: str) -> None:
    """Refuse a refinement that cannot be.

    Raises:
        UserError: If the grid has less than two axes, a metric that decides phases is not measured,
            or the budget is below the first round or above the whole grid.
    """
    one = config.experiments[experiment]
    if (asked := one.refine) is None:
        return
    where = f"experiments.{experiment}.refine"
    grid = config.grid(experiment)
    axes = [axis for axis in one.axes if len({point[axis] for point in grid}) > 1]
    if len(axes) < 2:
        what = f"the grid has one axis, '{axes[0]}'" if axes else "the grid has one cell"
        raise UserError(what, where=where, fix="two axes of several values, or no 'refine'")
    lacking = [kind for kind in KINDS if kind not in config.firsts(experiment)]
    if lacking:
        what = f"phases need {', '.join(lacking)}, and the experiment does not measure that"
        raise UserError(what, where=where, fix=f"add to experiments.{experiment}.metrics")
    if isinstance(asked.start, int) and asked.start < 2:
        what = f"{asked.start} value of each axis is no grid"
        raise UserError(what, where=f"{where}.start", fix="at least 2, or 'coarse'")
    least, most = len(first_cells(config, experiment)), len(grid)
    if asked.budget < least:
        what = f"{asked.budget} is less than the {least} cells of the first round"
        fix = f"at least {least}" + ("" if asked.start == 2 else ", or 'start: 2'")
        raise UserError(what, where=f"{where}.budget", fix=fix)
    if asked.budget > most:
        what = f"{asked.budget} is more than the {most} cells of the grid"
        fix = f"at most {most}; without 'refine' all are measured"
        raise UserError(what, where=f"{where}.budget", fix=fix)


def coarse(
    points: Sequence[tuple[Any, ...]], kept: int = 0, shifts: Iterator[float] | None = None
) -> list[int]:
    """Return the numbers of the cells of a coarse grid, in their order.

    Args:
        points: Axis values of each cell; of a grid that lacks cells, those that there are.
        kept: Values of each axis that are kept; 0: a quarter, and one more.
        shifts: By which inner places are moved, in steps of the coarse grid; None: not at all.
    """
    inner: list[set[Any]] = []
    for some in zip(*points, strict=True):
        values = sorted(set(some))
        number = min(len(values), kept or max(2, round(len(values) / 4) + 1))
        inner.append({values[place] for place in evenly(len(values), number, shifts)})
    wanted = set(product(*inner))
    return [number for number, point in enumerate(points) if point in wanted]


def evenly(count: int, kept: int, shifts: Iterator[float] | None = None) -> list[int]:
    """Return `kept` of `count` places, both ends among them, evenly spread or shifted."""
    if kept == 1:
        return [0]
    step = (count - 1) / (kept - 1)
    moved = [next(shifts) if shifts and 0 < i < kept - 1 else 0.0 for i in range(kept)]
    return sorted({int((i + shift) * step + 0.5) for i, shift in enumerate(moved)})


def more_seeds(seeds: Sequence[int], times: int) -> list[int]:
    """Return the seeds of a cell that was bought so many times: those given, and the next ones."""
    first = max(seeds) + 1
    return [*seeds, *range(first, first + (times - 1) * len(seeds))]


def times_bought(bought: Sequence[str]) -> Mapping[str, int]:
    """Return cell -> how often it was bought, in the order of the first purchases."""
    found: dict[str, int] = {}
    for cell in bought:
        found[cell] = found.get(cell, 0) + 1
    return found
