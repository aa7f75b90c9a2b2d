"""What the jobs of a pilot took, for the settings of the run, against what its jobs ask for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from lossatlas import paths, store
from lossatlas.metrics.base import Metric
from lossatlas.spec import needs
from lossatlas.spec.cost import LAPTOP, job_hours
from lossatlas.spec.plan import Plan, PlannedCell

ROOM = 1.1  # of memory and time, in what is suggested
Given = Mapping[str, Mapping[str, int]]
_LAPTOP = replace(LAPTOP, start=0.0)


class _Operations:
    """A device of one operation per second and multiply-add: where networks are not counted."""

    name, start = "operations", 0.0

    def seconds(
        self,
        planned: PlannedCell,  # noqa: ARG002 -- of any network
        factor: float,
        images: float,
        replicas: int = 0,
    ) -> float:
        """Return the operations of a pass, per multiply-add of an image."""
        return max(1, replicas) * factor * images


@dataclass(frozen=True)
class Step:
    """One kind of job on one cell.

    Attributes:
        name: "training", or the metric's.
        cell: As the pilot calls it.
        rule: As --set-resources calls it.
        seconds: That the pilot's job took; NaN where it took up the work of an earlier one.
        peak_mb: Its memory at most.
        minutes: What the run's job would take.
        mb: Likewise, of memory.
        asked_minutes: What the run's job asks for.
        asked_mb: Likewise.
        goes_on: Whether it keeps what it has when its time is over.
    """

    name: str
    cell: str
    rule: str
    seconds: float
    peak_mb: float
    minutes: float
    mb: float
    asked_minutes: int
    asked_mb: int
    goes_on: bool

    def lacks(self, walltime: float) -> Iterator[tuple[str, str]]:
        """Yield what it asks too little of, and what to set.

        Args:
            walltime: Most hours of a job.
        """
        if self.mb > self.asked_mb:
            more = math.ceil(ROOM * self.mb / 100) * 100
            yield (
                f"{self.mb / 1000:.3g} GB and asks for {self.asked_mb / 1000:.3g}",
                f"--set-resources {self.rule}:mem_mb={more}",
            )
        if self.minutes > self.asked_minutes:
            more = math.ceil(ROOM * self.minutes)
            took = f"{_time(self.minutes)} and asks for {_time(self.asked_minutes)}"
            if more <= 60 * walltime:
                yield took, f"--set-resources {self.rule}:runtime={more}"
            elif not self.goes_on:
                yield took, f"--config walltime={math.ceil(more / 60)}, in a queue that gives it"

    def verdict(self, walltime: float) -> str:
        """Return in a few words whether it fits."""
        if any(True for _ in self.lacks(walltime)):
            return "asks for too little"
        known = not math.isnan(self.minutes)
        times = math.ceil(self.minutes / self.asked_minutes) if known else 1
        return "fits" if times <= 1 else f"goes on {times - 1} times"


def steps(small: Plan, whole: Plan, rules: Mapping[str, str], given: Given) -> list[Step]:
    """Return the steps of a pilot's cells, read from what its jobs left.

    Args:
        small: The pilot's plan.
        whole: The run's.
        rules: Metric -> its rule.
        given: Rule -> what --set-resources gives it.

    Raises:
        UserError: If a record is missing or damaged.
    """
    found = []
    for one, real in _pairs(small, whole).values():
        if not one.cell.adopted:
            found.append(_training(one, real, whole.config.walltime, given))
        for name in one.metrics:
            metrics = small.config.metric(name, one.cell), whole.config.metric(name, real.cell)
            limit, rule = whole.config.walltime, rules[name]
            found.append(_metric(name, (one, real), metrics, limit, rule, given))
    return found


def _pairs(small: Plan, whole: Plan) -> dict[str, tuple[PlannedCell, PlannedCell]]:
    """Return cell of the pilot -> it, and the run's cell at the same point of the grid."""
    found = {}
    for name, cells in small.experiments.items():
        points = whole.config.grid(name)
        for cell, point in zip(cells, small.config.grid(name), strict=True):
            real = whole.experiments[name][points.index(point)]
            found[cell] = small.cells[cell], whole.cells[real]
    return found


def _training(one: PlannedCell, real: PlannedCell, walltime: float, given: Given) -> Step:
    """Return the training of a cell's largest block."""
    block, seeds = max(one.blocks.items(), key=lambda item: len(item[1]))
    times = store.read(paths.history(one.cell.id, block), arrays=False).times
    return _step(
        "training",
        one.cell.id,
        "train_replicas",
        times,
        factor=real.cell.recipe.epochs / one.cell.recipe.epochs,
        planned=needs.training_mb(one, len(seeds)),
        asked=(needs.training_minutes(real, 1, walltime), needs.training_mb(real, len(seeds))),
        given=given,
        goes_on=True,
    )


def _metric(
    name: str,
    both: tuple[PlannedCell, PlannedCell],
    metrics: tuple[Metric, Metric],
    walltime: float,
    rule: str,
    given: Given,
) -> Step:
    """Return one metric of a cell: of the pilot, and of the run."""
    (one, real), (small, whole) = both, metrics
    times = store.read(paths.metric(one.cell.id, name), arrays=False).times
    return _step(
        name,
        one.cell.id,
        rule,
        times,
        factor=_work(real, whole) / _work(one, small),
        planned=needs.metric_mb(one, small),
        asked=(needs.metric_minutes(real, whole, 1, walltime), needs.metric_mb(real, whole)),
        given=given,
        goes_on=whole.resumes,
    )


def _work(planned: PlannedCell, metric: Metric) -> float:
    """Return what a metric's time is proportional to; 1 where nothing tells."""
    for device in (_LAPTOP, _Operations()):
        if hours := job_hours(planned, metric, device):
            return hours
    return 1.0


def _step(
    name: str,
    cell: str,
    rule: str,
    times: Mapping[str, Any],
    *,
    factor: float,
    planned: int,
    asked: tuple[int, int],
    given: Given,
    goes_on: bool,
) -> Step:
    """Put a step together of what a job used and what the run's job asks for.

    Args:
        name: Of the step.
        cell: Its cell.
        rule: Its rule.
        times: Of the record.
        factor: How much longer the run's job works.
        planned: MB that the pilot's job asked for.
        asked: Minutes and MB that the run's job asks for.
        given: What --set-resources gives in their place.
        goes_on: Whether it resumes.
    """
    minutes, mb = asked
    seconds, peak = float(times["seconds"]), float(times["peak_memory_bytes"]) / 1e6
    if times.get("units_measured", 1) < times.get("units", 1):  # taken up from an earlier job
        seconds = math.nan
    own = given.get(rule, {})
    return Step(
        name,
        cell,
        rule,
        seconds,
        peak,
        factor * seconds / 60,
        peak + max(0, mb - planned),
        own.get("runtime", minutes),
        own.get("mem_mb", mb),
        goes_on,
    )


def report(found: Sequence[Step], walltime: float, console: Console | None = None) -> list[str]:
    """Print the table; return a line for each step that asks for too little.

    Args:
        found: The steps.
        walltime: Most hours of a job.
        console: Where to print.
    """
    console = console or Console()
    told = f"What the pilot took, and what the run takes and asks for (walltime {walltime:g} h)"
    console.print(told, highlight=False)
    for cell, some in groupby(found, key=lambda step: step.cell):
        console.print(_table(cell, some, walltime))
    return [
        f"{step.name} of {step.cell} needs {what} (set: {fix})"
        for step in found
        for what, fix in step.lacks(walltime)
    ]


def _table(cell: str, found: Iterable[Step], walltime: float) -> Table:
    look: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False}
    table = Table(title=cell, title_justify="left", title_style="bold", **look)
    for name in ("step", "took", "peak", "run takes", "asks", "memory", "asks", ""):
        justify: Literal["left", "right"] = "left" if name in ("step", "") else "right"
        table.add_column(name, justify=justify, overflow="fold")
    for step in found:
        times = _time(step.minutes), _time(step.asked_minutes)
        sizes = _size(step.mb), _size(step.asked_mb)
        measured = _time(step.seconds / 60), _size(step.peak_mb)
        table.add_row(step.name, *measured, *times, *sizes, step.verdict(walltime))
    return table


def _time(minutes: float) -> str:
    """Return a time in its unit."""
    if math.isnan(minutes):
        return "?"
    for unit, size in (("h", 60.0), ("min", 1.0)):
        if minutes >= size:
            return f"{minutes / size:.3g} {unit}"
    return f"{60 * minutes:.2g} s"


def _size(mb: float) -> str:
    return f"{mb / 1000:.2g} GB"
