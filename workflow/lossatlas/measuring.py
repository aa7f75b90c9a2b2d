"""Runs one metric on one cell: reads, measures what was not yet, adds what is not its own."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lossatlas import __version__, paths, store
from lossatlas.errors import UserError
from lossatlas.fingerprint import code_of
from lossatlas.metrics import registry
from lossatlas.metrics.base import Given, Metric, Unit
from lossatlas.metrics.parts import Parts, divide, others, put_together
from lossatlas.metrics.results import check, in_unit
from lossatlas.models import target_of
from lossatlas.progress import tracked
from lossatlas.reading import Inputs, Reader, arrays_of, blocks_of
from lossatlas.spec.cells import Cell, from_spec
from lossatlas.tasks import CLASSIFICATION, Task
from lossatlas.timing import stopwatch
from lossatlas.training import checkpoints

if TYPE_CHECKING:
    from lossatlas.training.networks import Networks
    from lossatlas.training.state import State

VERTEX_TRAINING = ("lossatlas.simplex.spro:grow", "lossatlas.data.loading:load")


def measure_cell(
    kind: str,
    settings: Mapping[str, Any],
    spec: Mapping[str, Any],
    seeds: Sequence[int],
    inputs: Inputs,
    code: str,
    write: Callable[[store.Record], None] = lambda _: None,
) -> store.Record:
    """Measure one metric on the replicas of a cell; units that were measured before are taken.

    Args:
        kind: Of the metric.
        settings: Of the metric, as plain values.
        spec: Canonical specification of the cell.
        seeds: The replicas.
        inputs: What to read.
        code: Fingerprint of the code.
        write: Puts the record in its place; unfinished work is kept until it has.

    Returns:
        The record, with a row of status "diverged" for each replica (or pair, or cell) that
        cannot be measured for that reason.

    Raises:
        UserError: If an input is missing, damaged, or does not match the spec; or if the metric
            returns anything but what it declares.
    """
    used, cell = stopwatch(), from_spec(spec)
    metric = registry.find(kind)(**settings)
    blocks = blocks_of(inputs)
    if unknown := [seed for seed in seeds if seed not in blocks]:
        where = ", ".join(inputs.histories)
        raise UserError(f"no training record of seeds {unknown}", where=where, fix=checkpoints.REDO)
    wanted = metric.uses(seeds)
    good = [seed for seed in wanted if blocks[seed].status == "ok"]
    lost = [seed for seed in wanted if seed not in good]
    job = _Job(metric, cell, code, Reader(metric, cell, inputs, blocks, lost))
    record, counts = store.Record(kind), {"units": 0, "units_measured": 0}
    if len(good) >= metric.least:
        units = _measurable(metric, wanted, good)
        record = job.measure(units)
        counts = {"units": len(units), "units_measured": len(job.measured)}
    add_diverged(record, metric, good, lost, cell.data.task)
    record.spec, record.settings = cell.spec, metric.model_dump()
    record.mode = getattr(metric, "mode", "")
    record.provenance = {**record.provenance, "code": code, "seeds": wanted}
    record.times = {**used(), **counts}
    write(record)
    job.clear()
    return record


def measure_networks(
    metric: Metric, networks: Networks, snapshots: Mapping[int, Networks] | None = None
) -> store.Record:
    """Measure a metric on networks in memory.

    Args:
        metric: With its settings.
        networks: The replicas and their data.
        snapshots: Epoch -> the same replicas with the weights kept then.
    """
    if not snapshots:
        check_without_path(metric)
    given = Given(networks, snapshots=snapshots or {}, task=networks.data.task)
    if metric.reads == "arrays":
        given = arrays_of(networks)
    return measure_given(metric, given, networks.seeds, networks.diverged)


def measure_given(
    metric: Metric, given: Given, good: Sequence[int], lost: Sequence[int] = ()
) -> store.Record:
    """Measure a metric on what it reads, in memory; nothing is kept.

    Args:
        metric: With its settings.
        given: What it reads of the replicas that ended well.
        good: Their seeds.
        lost: Seeds of the diverged ones.
    """
    units = _measurable(metric, metric.uses([*good, *lost]), good)
    found: dict[Unit, store.Record] = {}
    for batch in tracked(_batches(metric, units), metric.kind, f"{metric.per}s"):
        found |= _measured(metric, given, batch, None)
    return _whole(metric, [found[unit] for unit in units])


def check_without_path(metric: Metric | type[Metric]) -> None:
    """Refuse a metric that weights alone are not enough for.

    Raises:
        UserError: If it reads what training recorded.
    """
    if metric.reads in ("path", "snapshots"):
        fix = "run it in the workflow, with 'record' in the recipe"
        raise UserError("needs the path of training, not its end", where=metric.kind, fix=fix)


def _measurable(metric: Metric, seeds: Sequence[int], good: Iterable[int]) -> list[Unit]:
    """Return the units without those that hold a diverged replica; a cell goes without these."""
    known = set(good)
    if metric.per == "cell":
        return [tuple(seed for seed in seeds if seed in known)]
    return [unit for unit in metric.units(seeds) if set(unit) <= known]


def _batches(metric: Metric, units: list[Unit]) -> list[list[Unit]]:
    return ([units] if units else []) if metric.at_once else [[unit] for unit in units]


def _measured(
    metric: Metric, given: Given, units: list[Unit], state: State | None
) -> dict[Unit, store.Record]:
    """Return unit -> its record."""
    if metric.trains and given.loaded is not None:
        from lossatlas.training.networks import tell_of_buffers

        tell_of_buffers(given.loaded)
    made = checked(metric, metric.measure_units(given, units, state), given.task)
    return {units[0]: made} if metric.per == "cell" else divide(made, units)


def checked(metric: Metric, record: store.Record, task: Task) -> store.Record:
    """Return what a metric measured, in the unit of the task.

    Raises:
        UserError: If it is not what the metric declares.
    """
    return in_unit(check(metric, record), task.unit)


def _whole(metric: Metric, parts: Sequence[store.Record]) -> store.Record:
    """Return the record of a cell."""
    if metric.per == "cell":
        return metric.finish(parts[0])
    record = put_together(metric.kind, parts)
    return check(metric, metric.finish(record)) if parts else record


@dataclass
class _Job:
    """One metric on one cell."""

    metric: Metric
    cell: Cell
    code: str
    reader: Reader
    measured: list[Unit] = field(default_factory=list)
    _states: list[State] = field(default_factory=list)
    _used: list[Unit] = field(default_factory=list)

    @property
    def parts(self) -> Parts:
        """Where measured units are kept."""
        metric = self.metric
        return Parts(self.reader.inputs.parts, metric.kind, metric.identity, self.words)

    def words(self, unit: Unit) -> list[Any]:
        """Return all that the numbers of a unit depend on, besides the metric's settings."""
        lost = self.reader.lost if self.metric.per == "cell" else []
        return [self.code, self.cell.digest, self.reader.stamps(unit), lost]

    def measure(self, units: list[Unit]) -> store.Record:
        """Measure the units that were not, and put the cell's record together."""
        parts, self._used = self.parts, units
        found = {unit: part for unit in units if (part := parts.read(unit)) is not None}
        missing = [unit for unit in units if unit not in found]
        told = {"measures": missing, "takes": [unit for unit in units if unit in found]}
        print(json.dumps(told), flush=True)
        own = _provenance(self.metric)
        if missing:
            given = self.reader.given(sorted({seed for unit in missing for seed in unit}))
            for batch in _batches(self.metric, missing):
                state = self.state(batch)
                for unit, part in _measured(self.metric, given, batch, state).items():
                    part.provenance = own
                    parts.write(unit, part)
                    found[unit] = part
            self.measured = missing
        ordered = [found[unit] for unit in units]
        mixed = others(own, ordered)
        record = _whole(self.metric, ordered)
        record.provenance = {**own, "others": mixed} if mixed else own
        return record

    def clear(self) -> None:
        """Forget unfinished work, and the units that the record does not hold: it is written."""
        for state in self._states:
            state.clear()
        self.parts.keep_only(self._used)

    def state(self, units: list[Unit]) -> State | None:
        """Return where unfinished work on some units is kept.

        Raises:
            UserError: If an input cannot be read.
        """
        metric = self.metric
        if not metric.resumes:
            return None
        from lossatlas.training.state import State

        asked = json.dumps([metric.model_dump(), units], sort_keys=True)
        short = hashlib.sha256(asked.encode()).hexdigest()[:8]
        name = f"{self.cell.id}.{metric.kind.replace(':', '.')}.{short}"
        # Weights that were trained anew since are other weights, though of the same cell.
        read = [self.reader.stamps(unit) for unit in units]
        key = f"{self.cell.digest}:{self.code}:{asked}:{read}"
        state = State(paths.state(name), key).listen()
        if metric.keeps_vertices:
            # A vertex depends on how it is trained, not on how a metric then looks at it.
            trained = code_of(*VERTEX_TRAINING, target_of(self.cell.model.builder))
            state.keep(paths.vertices(self.cell.id), f"{self.cell.digest}:{trained}")
        self._states.append(state)
        return state


def _provenance(metric: Metric) -> dict[str, Any]:
    if metric.needs_torch():
        from lossatlas import device

        return device.provenance()
    versions = {"lossatlas": __version__, "python": platform.python_version()}
    return {"versions": versions, "device": "cpu", "dtype": "float64"}


def add_diverged(
    record: store.Record,
    metric: Metric,
    good: Sequence[int],
    lost: Sequence[int],
    task: str = CLASSIFICATION.name,
) -> None:
    """Add a row of status "diverged" for what diverged replicas keep from being measured.

    Where too few replicas ended well for anything to be measured, those that did have rows of
    status "undefined".

    Args:
        record: Of the replicas that ended well; rows are added.
        metric: With its settings.
        good: Seeds of the replicas that ended well.
        lost: Seeds of the diverged ones.
        task: What they are for: an output of other tasks gets no rows.
    """
    nan, enough = float("nan"), len(good) >= metric.least
    pairs = [pair for pair in metric.compared([*good, *lost]) if set(pair) & set(lost)]
    for output in metric.outputs:
        if output.tasks and task not in output.tasks:
            continue
        name, per, unit = output.name, metric.per_of(output), output.unit
        rows = []
        if per == "replica":
            rows = [store.Scalar(name, nan, seed, status="diverged") for seed in lost]
            if not enough:
                rows += [store.Scalar(name, nan, seed, status="undefined") for seed in good]
        elif per == "pair":
            rows = [store.Scalar(name, nan, a, b, status="diverged") for a, b in pairs]
        elif not enough:
            rows = [store.Scalar(name, nan, status="diverged")]
        record.scalars += [replace(row, unit=unit) for row in rows]
    if not good or (metric.per == "cell" and not enough):
        record.status = "diverged"
