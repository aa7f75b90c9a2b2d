"""Measures, on the device of the jobs, what passes through a config's networks take (`calibrate`).

Data have the shape of the config's and are made, or the first of the user's own. Other work on the
machine must not count: each pass is timed several times, in rounds that lie apart, and the shortest
is taken; on a CPU with one thread it is the time of the processor, and not that of a clock.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas import device as devices
from lossatlas.curvature.operator import HessianOperator
from lossatlas.data import rehearsal
from lossatlas.data.augment import augmented
from lossatlas.data.loading import load
from lossatlas.data.tensors import Named, Split, TensorData
from lossatlas.errors import UserError, out_of_memory
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.spec.calibration import Calibration, Case, Row, depth_of, group_of
from lossatlas.spec.catalogue import NETWORKS, data_source, rehearsal_of
from lossatlas.spec.cells import Cell, from_spec
from lossatlas.spec.plan import Plan
from lossatlas.spec.sizes import know, multiplications, network_key, parameter_count
from lossatlas.timing import processor, stopwatch
from lossatlas.training.engine import Engine
from lossatlas.training.job import builder_of
from lossatlas.training.networks import Networks, outputs

ROUNDS = 2
REPEATS = 3  # in each round
BLOCK = 0.1  # seconds of a repeat, at least
MOST_STEPS = 40  # of a repeat
SLOW = 2.0  # seconds of a pass that is timed once
BUDGET = 120.0  # seconds in all; what would take longer is left out
CALLS = 4  # of a pass at least, to warm up and to be timed
SHARE = 0.6  # seconds of a job that Snakemake and its files take
_WARM = "import snakemake.script, lossatlas.entry"
_COLD = "import snakemake.script, lossatlas.training.job"


def calibrate(
    cases: Iterable[Mapping[str, Any]], plan: Plan, threads: int, *, warm: bool
) -> Calibration:
    """Measure passes on the device.

    Args:
        cases: As `spec.calibration.Case`, of the plan.
        plan: In which users' own networks are counted.
        threads: Of the job.
        warm: Whether jobs are forks of a process that has imported everything.

    Raises:
        UserError: If the device is not there, or nothing could be measured.
    """
    device, clock = devices.choose(), time.monotonic()
    wanted = [Case(**case) for case in cases]
    counts = count_own(plan)
    wanted.sort(key=_size)  # so that peaks of memory are each case's own
    rows: dict[str, Row] = {}
    bench = Bench(device)
    rate = math.inf  # operations a second of the largest pass so far
    for case in wanted * ROUNDS:
        if time.monotonic() - clock + CALLS * _size(case)[0] / rate > BUDGET:
            _log(f"not measured, more than {BUDGET:g} s in all: {_words(case)}")
        elif (row := _measured(bench, case)) is not None:
            _log(f"{_words(case)}: {1e3 * row.seconds:.3g} ms")
            rate = _size(case)[0] / row.seconds
            rows[_words(case)] = min(row, rows.get(_words(case), row), key=lambda one: one.seconds)
    if not rows:
        raise UserError("nothing could be measured", where="calibrate", fix="see the log")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    version, start = torch.__version__, SHARE + start_seconds(_WARM if warm else _COLD)
    return Calibration(
        name, device.type, threads, version, made, start, list(rows.values()), counts
    )


def start_seconds(program: str) -> float:
    """Return the seconds of a Python process that runs a program, the least of three."""
    found = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 -- ours
        found.append(time.perf_counter() - began)
    return min(found)


def count_own(plan: Plan) -> dict[str, tuple[int, int]]:
    """Build users' own networks to count parameters and multiply-adds; let these be known.

    A network that cannot be built here is told of, and has no counts.
    """
    found: dict[str, tuple[int, int]] = {}
    for planned in plan.cells.values():
        cell, key = planned.cell, network_key(planned.cell)
        if cell.model.builder in NETWORKS or key in found:
            continue
        try:
            found[key] = counted(cell)
        except UserError as error:
            _log(f"lossatlas: not counted: {error}")
            continue
        know(key, found[key])
    return found


def counted(cell: Cell) -> tuple[int, int]:
    """Return parameters, and multiply-adds per example, of a network as torch counts them.

    Raises:
        UserError: If it cannot be built, or does not run.
    """
    from torch.utils.flop_counter import FlopCounterMode

    data = data_for(cell, torch.device("cpu"))
    module = builder_of(cell, data)().eval()
    example = data.train.images[:2]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(**example.tensors) if isinstance(example, Named) else module(example)
    except Exception as error:
        raise UserError(f"forward fails: {error}", where=cell.model.builder) from error
    size = sum(parameter.numel() for parameter in module.parameters())
    return size, max(1, counter.get_total_flops() // (2 * 2))


def data_for(cell: Cell, device: torch.device) -> TensorData:
    """Return a few examples of the shape that a cell's data have.

    Raises:
        UserError: If they are the user's own, and cannot be read.
    """
    source = data_source(cell.data.source)
    small = source if source.stands_for else rehearsal_of(source)
    if small.own and not small.text:
        record = rehearsal.first_of(small, Path(small.file) if small.file else None)
    else:
        record = rehearsal.made(small)
    part = cell.data.model_copy(update={"fraction": 1.0, "label_noise": 0.0})
    return augmented(load(record, part, device), cell.recipe.augment)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _size(case: Case) -> tuple[float, str]:
    work = multiplications(from_spec(case.spec)) or 1
    return case.replicas * case.images * work, case.kind


def _words(case: Case) -> str:
    cell = from_spec(case.spec)
    of = f"{case.replicas} x {case.images} examples"
    return f"{case.kind} of {cell.id}, {of}"


def _measured(bench: Bench, case: Case) -> Row | None:
    """Return a row; None, and a line in the log, for what does not run on the device."""
    devices.set_threads(case.threads)
    cell, used = from_spec(case.spec), stopwatch()
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        seconds = bench.seconds(case, cell)
    except UserError as error:
        _log(f"not measured: {_words(case)}: {error}")
        return None
    except Exception as error:
        if not out_of_memory(error):
            raise
        _log(f"not measured, out of memory: {_words(case)}")
        return None
    return Row(
        case.kind,
        group_of(cell),
        case.replicas,
        case.images,
        parameter_count(cell) or 0,
        multiplications(cell) or 0,
        depth_of(cell),
        seconds,
        int(used()["peak_memory_bytes"]),
        devices.peak_gpu().get("peak_gpu_bytes", 0),
    )


@dataclass
class Bench:
    """Times passes on a device."""

    device: torch.device
    _data: dict[str, TensorData] = field(default_factory=dict)

    def seconds(self, case: Case, cell: Cell) -> float:
        """Return the least seconds of a pass."""
        if case.kind in ("train", "gradient"):
            return self._training(case, cell)
        step = self._product(case, cell) if case.kind == "product" else self._pass(case, cell)
        return self._least(step)

    def data(self, cell: Cell) -> TensorData:
        """Return examples for a cell."""
        key = str(sorted(cell.spec["data"].items())) + str(cell.recipe.augment)
        if key not in self._data:
            self._data[key] = data_for(cell, self.device)
        return self._data[key]

    def _training(self, case: Case, cell: Cell) -> float:
        """Return the seconds of a step of the engine, on as many examples as some steps take."""
        data = self.data(cell)
        once = self._epochs(case, cell, data, 1, 2)[-1]
        if once > SLOW:
            return once
        steps = min(MOST_STEPS, max(1, math.ceil(BLOCK / once)))
        every = self._epochs(case, cell, data, steps, 1 + REPEATS)
        return min(every[1:]) / steps

    def _epochs(
        self, case: Case, cell: Cell, data: TensorData, steps: int, epochs: int
    ) -> list[float]:
        """Return the seconds of each of some epochs of so many steps."""
        changed: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": case.images,
            "decay_epochs": [],
            "warmup_steps": 0,
            "early_stop": None,
        }
        if case.kind == "gradient":
            changed["record"] = None
        recipe = cell.recipe.model_copy(update=changed)
        split = _repeated(data.train, steps * case.images)
        times = [0.0]
        engine = Engine(
            builder_of(cell, data),
            recipe,
            list(range(case.replicas)),
            split,
            report=lambda _: times.append(self._now()),
        )
        times[0] = self._now()
        engine.train()
        return [after - before for before, after in pairwise(times)]

    def _network(self, cell: Cell, data: TensorData) -> tuple[nn.Module, Networks]:
        module = builder_of(cell, data)().to(self.device)
        params, buffers = (stack([part]) for part in state_of(module))
        return module, Networks(Functional(module), params, buffers, [0], data)

    def _product(self, case: Case, cell: Cell) -> Callable[[], object]:
        data = self.data(cell)
        _, networks = self._network(cell, data)
        some = _repeated(data.train, case.images)
        params, buffers = networks.one(0)
        functional = networks.functional
        operator = HessianOperator(
            functional, params, buffers, some.images, some.labels, loss=data.task
        )
        vector = torch.randn(operator.size, device=self.device)
        return lambda: operator(vector)

    def _pass(self, case: Case, cell: Cell) -> Callable[[], Tensor]:
        data = self.data(cell)
        _, networks = self._network(cell, data)
        images = _repeated(data.train, case.images).images
        return lambda: outputs(networks, 0, images)

    def _least(self, step: Callable[[], object]) -> float:
        """Return the least seconds of a call, of several repeats after one to warm up."""
        self._timed(step, 1)
        once = self._timed(step, 1)
        if once > SLOW:
            return once
        calls = min(MOST_STEPS, max(1, math.ceil(BLOCK / once)))
        return min(self._timed(step, calls) for _ in range(REPEATS)) / calls

    def _timed(self, step: Callable[[], object], calls: int) -> float:
        began = self._now()
        for _ in range(calls):
            step()
        return self._now() - began

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        return time.process_time() if alone else time.perf_counter()


def _repeated(split: Split, count: int) -> Split:
    """Return so many examples, the same ones again where there are fewer."""
    return split.take(torch.arange(count, device=split.device) % len(split))
