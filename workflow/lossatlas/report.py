"""What a person asks before and during a run: `plan` and `status`, as text."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lossatlas import paths, store
from lossatlas.claims import conditions
from lossatlas.errors import UserError
from lossatlas.prune import is_measured, size_in_words
from lossatlas.spec import calibration, needs
from lossatlas.spec.calibration import NO_FILE, Calibration
from lossatlas.spec.cost import (
    GPU,
    LAPTOP,
    Device,
    job_hours,
    paths_bytes,
    training_hours,
    vertices_bytes,
    weights_bytes,
)
from lossatlas.spec.plan import Plan, PlannedCell
from lossatlas.spec.shown import PAPERS
from lossatlas.spec.steps import besides

STOPPED = ("lossatlas: interrupted; ", "lossatlas: told to leave; ")

_NAME = 24  # characters of a name that stay in one line of 80


def _table(title: str, columns: Iterable[str], **look: Any) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", **look)
    for index, column in enumerate(columns):
        # A long name goes on in the next line: names are there to be typed.
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def plan(
    plan_: Plan,
    console: Console | None = None,
    why: Sequence[str] = (),
    stale: Set[str] = frozenset(),
    rehearsal: Plan | None = None,
    files: Sequence[str] = (),
    measured: Calibration | None = None,
    times: str = NO_FILE,
) -> None:
    """Print cells, replicas, jobs, disk and estimated time per experiment and in all.

    A cell that several experiments share is counted in each of them, and once in the last line.

    Args:
        plan_: What the config asks for.
        console: Where to print.
        why: Why existing results would be made again, a line each.
        stale: First outputs of results that are there and not valid: they are left to do.
        rehearsal: What its rehearsal does; None for none.
        files: The config's files, for the command that starts it.
        measured: What passes take on the device of the jobs; None: it is estimated.
        times: Says which it is.
    """
    devices: list[Device] = [LAPTOP, GPU] if measured is None else [measured]
    columns = ("CPU h", "GPU h") if measured is None else ("hours",)
    names = ("cells", "replicas", "jobs", "left", "disk", *columns)
    of = {plan_.config.rehearse: "the rehearsal of ", plan_.config.pilot: "the pilot of "}
    what = of.get(True, "") + plan_.config.name
    told = "estimates; hours of one CPU core, or of one GPU"
    if measured is not None:
        told = f"hours of jobs on {measured.name}"
    title = f"Plan of {what} ({told})"
    close: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False, "padding": 0}
    table = _table(title, ("experiment", *names), **close)  # eight columns in a terminal of 80
    table.columns[0].min_width = min(_NAME, max(map(len, plan_.experiments), default=0))
    every: dict[str, PlannedCell] = {}
    for name in plan_.experiments:
        cells = _at_most(plan_, name)
        every |= cells
        table.add_row(name, *_amounts(plan_, list(cells.values()), stale, devices))
    table.add_section()
    table.add_row("all, shared cells once", *_amounts(plan_, list(every.values()), stale, devices))
    console = console or Console()
    console.print(table)
    _lines(console, [_all_jobs(plan_, list(every.values())), *_about_times(plan_, measured, times)])
    if rehearsal is not None:
        _lines(console, [_first(rehearsal, files)])
    extremes = _extremes(plan_, devices[::-1])
    _lines(console, [*map(partial(_refined, plan_), plan_.refined), *extremes, *why])


def _all_jobs(plan_: Plan, cells: Sequence[PlannedCell]) -> str:
    """Return a line on the jobs that are neither trainings nor metrics."""
    others = besides(plan_)
    count = sum(len(cell.blocks) + len(cell.metrics) for cell in cells) + sum(others.values())
    told = ", ".join(f"{kind} {number}" for kind, number in others.items())
    return f"Jobs in all: {count:,}; besides trainings and metrics: {told}"


def _about_times(plan_: Plan, measured: Calibration | None, times: str) -> list[str]:
    """Return lines on what the hours rest on."""
    found = [f"Times: {times}"]
    if measured is None:
        found.append("CPU h and GPU h are alternatives: all jobs on CPU cores, or all on GPUs.")
    else:
        peak, gpu = (
            max(getattr(row, kind) for row in measured.rows) for kind in ("peak_bytes", "gpu_bytes")
        )
        on_gpu = f", {gpu / 1e9:.2g} GB of a GPU" if gpu else ""
        found.append(f"Most memory of what was measured: {peak / 1e9:.2g} GB{on_gpu}")
        if beyond := measured.beyond(plan_):
            told = "Beyond the networks that were measured, scaled as estimated"
            found.append(f"{told}: {', '.join(beyond)}")
        if lacking := measured.lacks(plan_):
            found.append(f"Not measured but estimated: {', '.join(lacking)} (snakemake calibrate)")
    if calibration.unknown(plan_):
        told = "networks of your own that cannot be built here have no estimate of time and disk."
        found.append(f"?: {told} Rehearse, and see the log.")
    return found


def _at_most(plan_: Plan, experiment: str) -> dict[str, PlannedCell]:
    """Return the cells of an experiment; of a refinement those that are known, and the dearest."""
    chosen = {cell_id: plan_.cells[cell_id] for cell_id in plan_.chosen(experiment)}
    if experiment not in plan_.refined:
        return chosen
    rest = [cell_id for cell_id in plan_.experiments[experiment] if cell_id not in chosen]
    dear = {one: -_hours(plan_, plan_.cells[one], LAPTOP) for one in rest}
    rest.sort(key=lambda one: 0.0 if math.isnan(dear[one]) else dear[one])
    most = plan_.refined[experiment].budget
    return chosen | {one: plan_.cells[one] for one in rest[: max(0, most - len(chosen))]}


def _refined(plan_: Plan, experiment: str) -> str:
    """Return a line on what a refinement buys."""
    return f"{plan_.told_of(experiment)}; the others count above as the dearest that are left"


def _extremes(plan_: Plan, devices: Sequence[Device]) -> list[str]:
    """Return lines on the longest job, on each device, and on the largest."""
    jobs: list[tuple[str, list[float], int]] = []
    for cell_id, cell in plan_.cells.items():
        blocks = max(1, len(cell.blocks))
        largest = max(map(len, cell.blocks.values()), default=0)
        if not cell.cell.adopted:
            each = [(training_hours(cell, device) or 0.0) / blocks for device in devices]
            jobs.append((f"training of {cell_id}", each, needs.training_mb(cell, largest)))
        for name in cell.metrics:
            metric = plan_.config.metric(name, cell.cell)
            alone = [job_hours(cell, metric, device) or 0.0 for device in devices]
            jobs.append((f"{name} of {cell_id}", alone, needs.metric_mb(cell, metric)))
    if not jobs:
        return []
    limit: float = plan_.config.walltime
    found: list[str] = []
    for number, device in enumerate(devices):
        name, hours, _ = max(jobs, key=lambda job: job[1][number])
        line = f"Longest job on {device.name}: {name}, about {hours[number]:.3g} h"
        times = math.ceil(hours[number] / limit)
        if times > 1:
            line += (
                f"; beyond `walltime` ({limit:g} h): it saves itself, and goes on {times - 1} times"
                f" (`retries` of the profile, at least {times - 1})"
            )
        found.append(line)
    name, _, size = max(jobs, key=lambda job: job[2])
    return [*found, f"Largest job: {name}, about {size / 1000:.3g} GB of memory"]


def _first(rehearsal: Plan, files: Sequence[str]) -> str:
    """Return a line on what a rehearsal costs and how it is started."""
    cells = list(rehearsal.cells.values())
    _, replicas, jobs, _, disk, cpu = _amounts(rehearsal, cells, frozenset(), [LAPTOP])
    config = f"--configfile {' '.join(files)} " if files else ""
    cost = f"{replicas} replicas, {jobs} jobs, {disk}, about {cpu} CPU core hours"
    return f"Rehearse it first ({cost}): snakemake {config}--config rehearse=true"


def _lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _amounts(
    plan_: Plan, cells: list[PlannedCell], stale: Set[str], devices: Sequence[Device]
) -> list[str]:
    replicas = sum(len(cell.seeds) for cell in cells)
    measured = [paths.metric(cell.cell.id, name) for cell in cells for name in cell.metrics]
    jobs = sum(len(cell.blocks) for cell in cells) + len(measured)
    left = sum(path in stale or not Path(path).exists() for path in measured)
    left += sum(_is_left(cell, block, stale) for cell in cells for block in cell.blocks)
    disk = sum((weights_bytes(cell) or 0) + paths_bytes(cell) for cell in cells)
    asked = [
        (cell, plan_.config.metric(name, cell.cell)) for cell in cells for name in cell.metrics
    ]
    disk += sum(vertices_bytes(cell, settings) for cell, settings in asked)
    counts = [f"{count:,}" for count in (len(cells), replicas, jobs, left)]
    known = all(weights_bytes(cell) is not None for cell in cells)
    hours = [sum(_hours(plan_, cell, device) for cell in cells) for device in devices]
    told = [f"{total:.2f}" if total < 10 else f"{total:,.0f}" for total in hours]
    told = ["?" if math.isnan(total) else text for total, text in zip(hours, told, strict=True)]
    return [*counts, size_in_words(disk) if known else "?", *told]


def _hours(plan_: Plan, cell: PlannedCell, device: Device) -> float:
    """Return the hours that a cell takes; NaN if that is not known."""
    metrics = (plan_.config.metric(name, cell.cell) for name in cell.metrics)
    parts = [training_hours(cell, device), *(job_hours(cell, one, device) for one in metrics)]
    return sum(math.nan if part is None else part for part in parts)


def status(
    plan_: Plan,
    console: Console | None = None,
    stale: Set[str] = frozenset(),
    why: Sequence[str] = (),
) -> None:
    """Print what is done, missing, failed and diverged, per experiment and step.

    A step has failed if its result is missing and its log ends in a message of ours, other than
    that it was stopped and goes on when it is run again.

    Args:
        plan_: What the config asks for.
        console: Where to print.
        stale: First outputs of results that are there and not valid: they count as missing.
        why: Why they are not valid, a line each.
    """
    console = console or Console()
    console.print(f"Status of {plan_.config.name}")
    failures: list[str] = []
    mixed: list[str] = []
    for name in plan_.experiments:
        ids = plan_.chosen(name)
        columns = ("step", "done", "missing", "failed", "diverged", "of")
        of = f" of up to {plan_.refined[name].budget}" if name in plan_.refined else ""
        table = _table(f"{name}: {len(ids)}{of} cells, {_size(ids)}", columns)
        cells = {cell_id: plan_.cells[cell_id] for cell_id in ids}
        adopted = bool(plan_.config.experiments[name].checkpoints)
        step = "replicas adopted" if adopted else "replicas trained"
        table.add_row(step, *_training(cells, failures, stale))
        for metric in plan_.config.experiments[name].metrics:
            makers: Counter[str] = Counter()
            table.add_row(f"cells: {metric}", *_metric(metric, ids, failures, stale, makers))
            if len(makers) > 1:
                told = "; ".join(f"{count} by {maker}" for maker, count in makers.most_common())
                mixed.append(f"{name}: {metric} is mixed: {told}")
        console.print(table)
    _lines(console, [*why, *mixed])
    failures += _claims(stale)
    _lines(console, [f"failed: {line}" for line in dict.fromkeys(failures)])


def _claims(stale: Set[str]) -> list[str]:
    """Return a line for each claim whose check has a fault of its own."""
    found = []
    for path in map(paths.claims_of, PAPERS):
        if path not in stale and Path(path).exists():
            with Path(path).open(encoding="utf-8", newline="") as file:
                found += [f"{path}: {line}" for line in conditions.faults(csv.DictReader(file))]
    return found


def _training(cells: dict[str, PlannedCell], failures: list[str], stale: Set[str]) -> list[str]:
    counts: Counter[str] = Counter()
    for cell_id, planned in cells.items():
        for block, seeds in planned.blocks.items():
            wanted = [seed for seed in seeds if seed in planned.seeds]
            if paths.weights(cell_id, block) in stale:
                counts["missing"] += len(wanted)
                continue
            found = _replica_statuses(planned, block, stale)
            if found is None:
                rule = "adopt" if planned.cell.adopted else "train"
                log = paths.log(rule, f"{cell_id}.{block}")
                counts[_absent(log, failures)] += len(wanted)
                continue
            counts["done"] += len(wanted)
            counts["diverged"] += sum(found.get(seed) == "diverged" for seed in wanted)
    return _row(counts)


def _replica_statuses(planned: PlannedCell, block: str, stale: Set[str]) -> dict[int, str] | None:
    from lossatlas.training.checkpoints import statuses

    history = paths.history(planned.cell.id, block)
    if not Path(history).exists() or _is_left(planned, block, stale):
        return None
    try:
        return statuses([history])
    except UserError:
        return None


def _is_left(planned: PlannedCell, block: str, stale: Set[str]) -> bool:
    """Say whether replicas are to be trained: those of finished metrics need no weights."""
    weights, history = paths.weights(planned.cell.id, block), paths.history(planned.cell.id, block)
    if weights in stale or not Path(history).exists():
        return True
    return not Path(weights).exists() and not is_measured(planned.cell.id, planned.metrics, stale)


def _size(ids: Iterable[str]) -> str:
    """Return in words what the cells take on the disk."""
    files = [
        os.path.join(at, name) for i in ids for at, _, own in os.walk(paths.cell(i)) for name in own
    ]
    return f"{len(files):,} files, {size_in_words(sum(map(os.path.getsize, files)))}"


def _metric(
    metric: str, ids: list[str], failures: list[str], stale: Set[str], makers: Counter[str]
) -> list[str]:
    counts: Counter[str] = Counter()
    for cell_id in ids:
        path = paths.metric(cell_id, metric)
        if path in stale:
            counts["missing"] += 1
            continue
        try:
            found = store.read_about(path)
        except UserError:
            counts[_absent(paths.log(metric, cell_id), failures)] += 1
            continue
        counts["done"] += 1
        counts["diverged"] += found.status == "diverged"
        makers[_maker(found)] += 1
    return _row(counts)


def _maker(record: store.Record) -> str:
    """Return in words what changes the last bits of numbers: versions, device, kernels."""
    about = record.provenance
    torch = about.get("versions", {}).get("torch")
    words = [f"torch {torch}"] if torch else []
    words += [str(about[key]) for key in ("device", "dtype") if key in about]
    words += [f"{key} {value}" for key, value in about.get("code_path", {}).items()]
    return ", ".join(words)


def _row(counts: Counter[str]) -> list[str]:
    total = counts["done"] + counts["missing"] + counts["failed"]
    return [str(counts[key]) for key in ("done", "missing", "failed", "diverged")] + [str(total)]


def _absent(log: str, failures: list[str]) -> str:
    """Say whether a missing result has failed or was never made."""
    try:
        lines = Path(log).read_text(errors="replace").splitlines()
    except OSError:
        return "missing"
    last = lines[-1] if lines else ""
    if last.startswith("lossatlas: ") and not last.startswith(STOPPED):
        failures.append(f"{log}: {last.removeprefix('lossatlas: ')}")
        return "failed"
    return "missing"
