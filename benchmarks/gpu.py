"""Training steps, curves and Hessian products on a GPU: are they right, and what do they cost?

    python benchmarks/gpu.py                  # at most 8 minutes
    python benchmarks/gpu.py --peer PATH      # beside the authors' network, from their checkout

Needs torch, numpy, h5py and pydantic, no data and no network. Each number is written to
benchmarks/gpu-<device>.csv as soon as it is there, so that the script can be cut at any time; a run
that came to its end also writes the table in benchmarks/README.md. Correctness comes first: what is
wrong is not timed.

Steps are those of ResNet18 on 3 x 32 x 32 images with SGD and momentum, as in the grid of Yang et
al. (2021). `loop` is plain torch: one network after another, images on the device. The share of the
roofline is the larger of FLOP / measured peak and bytes / measured bandwidth, over the time; bytes
are what a forward pass writes, 3 times written and read for a step, and 7 times the weights.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "workflow"))

from lossatlas import device as devices  # noqa: E402
from lossatlas import models  # noqa: E402
from lossatlas.connectivity.fit import CurveFit  # noqa: E402
from lossatlas.curvature.operator import hessian_of  # noqa: E402
from lossatlas.data.tensors import Split  # noqa: E402
from lossatlas.metrics.connectivity import Connectivity  # noqa: E402
from lossatlas.models.functional import Functional, state_of  # noqa: E402
from lossatlas.spec.parts import Recipe  # noqa: E402
from lossatlas.training.engine import Engine, initialise  # noqa: E402
from lossatlas.training.graphs import VARIABLE  # noqa: E402
from lossatlas.training.state import Preempted, State  # noqa: E402

WIDTHS = (2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128)
BATCHES = (16, 24, 32, 44, 64, 92, 128, 180, 256, 364, 512, 724, 1024)
REPLICAS, EPOCHS, IMAGES = 5, 100, 50_000
MEASURED_WIDTHS = (2, 8, 128, 32, 16, 64)  # the most telling first: time may run out
MEASURED_BATCHES = (16, 128, 1024)
MODES = {  # name -> precision, CUDA graphs
    "eager": ("float32", False),
    "graphs": ("float32", True),
    "tf32 + graphs": ("tf32", True),
    "bfloat16 + graphs": ("bfloat16", True),
    "bfloat16": ("bfloat16", False),
}
MARK = re.compile(r"<!-- gpu -->.*?<!-- end -->", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One number."""

    what: str
    width: int
    batch: int
    replicas: int
    mode: str
    value: float
    unit: str
    note: str = ""


class Results:
    """Rows, in a file as soon as they are there, and the time that is left."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.end, self.rows = path, time.monotonic() + seconds, list[Row]()
        self.cut = False
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([field.name for field in fields(Row)])

    def add(self, *values: Any) -> Row:
        """Write a row."""
        row = Row(*values)
        self.rows.append(row)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(astuple(row))
        place = f"width {row.width:>3} batch {row.batch:>4} x{row.replicas}" if row.width else ""
        print(
            f"{row.what:<22} {place} {row.mode:<18} {row.value:.4g} {row.unit} {row.note}".rstrip()
        )
        sys.stdout.flush()
        return row

    def left(self, needed: float = 5.0) -> bool:
        """Say whether there are so many seconds left; if not, the run counts as cut."""
        if time.monotonic() + needed < self.end:
            return True
        self.cut = True
        return False


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Switch CUDA graphs on or off."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1" if on else "0"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})


def images(count: int, device: torch.device, size: int = 32) -> Split:
    """Make images and labels that a network can learn something of."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(count, 3, size, size, generator=draw)
    labels = (x[:, 0].mean((1, 2)) * 100).round().long() % 10
    return Split(x.to(device), labels.to(device))


def resnet18(width: int) -> nn.Module:
    """Build the network of the grid."""
    shape = {"num_classes": 10, "in_channels": 3, "image_size": 32}
    return models.build("resnet18", {"width": width}, **shape)


def engine(
    split: Split, width: int, replicas: int = 1, state: State | None = None, **recipe: Any
) -> Engine:
    """Return an engine of ResNet18."""
    plan = Recipe(**{"epochs": 2, "batch_size": 128, "learning_rate": 0.05, **recipe})
    return Engine(partial(resnet18, width), plan, list(range(replicas)), split, state)


def seconds_of(step: Callable[[], object], device: torch.device, least: float = 0.3) -> float:
    """Return the seconds of a call: the median of 5 blocks, after calls to warm up."""
    for _ in range(6):
        step()
    started = _now(device)
    step()
    calls = max(1, math.ceil(least / 5 / max(1e-5, _now(device) - started)))
    blocks = []
    for _ in range(5):
        started = _now(device)
        for _ in range(calls):
            step()
        blocks.append((_now(device) - started) / calls)
    return float(np.median(blocks))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peaks(results: Results, device: torch.device, size: int) -> dict[str, float]:
    """Measure FLOP per second of products in each precision, and bytes per second of a copy."""
    found = {}
    for precision in ("float32", "tf32", "bfloat16"):
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        with devices.arithmetic(precision, deterministic=False):
            used = seconds_of(partial(torch.matmul, a, b), device, 0.1)
        found[precision] = 2 * size**3 / used
        results.add("peak", 0, 0, 0, precision, found[precision] / 1e12, "TFLOP/s")
    x = torch.zeros(size * size * 8, device=device)
    y = torch.empty_like(x)
    found["bytes"] = 2 * x.numel() * 4 / seconds_of(lambda: y.copy_(x), device, 0.1)
    results.add("bandwidth", 0, 0, 0, "copy", found["bytes"] / 1e12, "TB/s")
    return found


def check(results: Results, device: torch.device, count: int) -> bool:
    """Compare with the CPU, resumed with whole, and graphs with eager; say whether all is right."""
    good = True
    steps = {}
    for where in (torch.device("cpu"), device):
        made = engine(images(count, where), 4, 3, epochs=1, batch_size=count // 4)
        steps[where.type] = [w.cpu() for w in _steps(made, 4)]
    for number, (one, other) in enumerate(zip(steps["cpu"], steps[device.type], strict=True), 1):
        moved = (one - steps["cpu"][0]).abs().max() if number > 1 else one.abs().max()
        error = float((one - other).abs().max() / moved.clamp(min=1e-12))
        good &= error < 0.02  # float32 products in another order, over a few steps
        results.add("CPU against device", 4, count // 4, 3, f"step {number}", error, "of the move")
    whole = engine(images(count, device), 4, 2, deterministic=True, batch_size=count // 4).train()
    resumed = _resumed(images(count, device), count // 4)
    same = _equal(whole, resumed)
    results.add(
        "resumed equals whole", 4, count // 4, 2, "deterministic", float(same), "1: bit for bit"
    )
    good &= same
    if device.type == "cuda":
        with switched(True):
            made = engine(images(count, device), 4, 2, deterministic=True, batch_size=count // 4)
            same = _equal(whole, made.train())
        results.add(
            "graphs equal eager", 4, count // 4, 2, "deterministic", float(same), "1: bit for bit"
        )
        good &= same
    return good


def _steps(made: Engine, count: int) -> Iterator[Tensor]:
    index = torch.arange(len(made.split), device=made.device).expand(len(made.seeds), -1)
    for batch in index.split(len(made.split) // count, dim=1):
        made._step(batch, 0.05)
        yield made.run.flat.clone()


def _resumed(split: Split, batch: int) -> Any:
    """Train with a break in the middle of the second epoch."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        first = engine(split, 4, 2, State(path, "x"), deterministic=True, batch_size=batch)
        step, taken = first._step, 0

        def stopping(index: Tensor, rate: float) -> None:
            nonlocal taken
            step(index, rate)
            taken += 1
            if taken == 6:
                first.run.step, first.run.total = first.run.step + 1, first.run.total + 1
                first._save()
                raise Preempted

        first._step = stopping  # type: ignore[method-assign]
        with suppress(Preempted):
            first.train()
        return engine(split, 4, 2, State(path, "x"), deterministic=True, batch_size=batch).train()


def _equal(one: Any, other: Any) -> bool:
    a, b = (trained.checkpoints["final"][0] for trained in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


class Written(TorchDispatchMode):
    """Counts the bytes that operations write."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and not func.is_view:
            self.bytes += found.numel() * found.element_size()
        return found


def work_of(width: int, size: int) -> tuple[float, float, int]:
    """Return FLOP and bytes of a step, per image, and the parameters."""
    model = resnet18(width)
    x = torch.zeros(8, 3, size, size)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(x)
    with Written() as written, torch.no_grad():
        model(x)
    parameters = sum(p.numel() for p in model.parameters())
    return 3 * flops.get_total_flops() / 8, 6 * written.bytes / 8, parameters


def time_steps(
    results: Results, device: torch.device, peak: dict[str, float], cases: list[tuple[int, int]]
) -> None:
    """Time training steps of each width and batch size in each mode, per replica."""
    for width, batch in cases:
        split = images(2 * batch, device)
        if not results.left(10):
            return
        _time_loop(results, "step", "loop", partial(resnet18, width), split, width, batch)
        for mode, (precision, graph) in MODES.items():
            if graph and device.type != "cuda":
                continue
            if not results.left():
                return
            _time_engine(results, peak, split, width, batch, mode, precision, graph)


def _time_loop(
    results: Results,
    what: str,
    mode: str,
    build: Callable[[], nn.Module],
    split: Split,
    width: int,
    batch: int,
) -> None:
    """Time a step of one network in plain torch."""
    device = split.device
    model = build().to(device).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    assert isinstance(split.images, Tensor)
    x, y = split.images[:batch], split.labels[:batch]

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimiser.step()

    results.add(what, width, batch, 1, mode, 1e3 * seconds_of(step, device), "ms per replica")


def _time_engine(
    results: Results,
    peak: dict[str, float],
    split: Split,
    width: int,
    batch: int,
    mode: str,
    precision: str,
    graph: bool,
) -> None:
    device, replicas = split.device, REPLICAS
    index = torch.arange(batch, device=device).expand(replicas, -1)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        with switched(graph), devices.arithmetic(precision, deterministic=False):
            made = engine(split, width, replicas, batch_size=batch, precision=precision)
            used = seconds_of(lambda: made._step(index, 0.05), device) / replicas
    except torch.OutOfMemoryError:
        results.add(
            "step", width, batch, replicas, mode, math.nan, "ms per replica", "out of memory"
        )
        return
    flops, moved, parameters = work_of(width, 32)
    floor = max(flops * batch / peak[precision], (moved * batch + 28 * parameters) / peak["bytes"])
    results.add("step", width, batch, replicas, mode, 1e3 * used, "ms per replica")
    results.add("roofline", width, batch, replicas, mode, floor / used, "share")
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**30
        results.add("peak memory", width, batch, replicas, mode, memory, "GiB")


def time_metrics(
    results: Results, device: torch.device, widths: tuple[int, ...], samples: int
) -> None:
    """Time a step of a curve at batch 128, and a Hessian-vector product on some images."""
    for width in widths:
        if not results.left(15):
            return
        split, some = images(256, device), images(samples, device)
        one, two = (initialise(partial(resnet18, width), seed) for seed in range(2))
        ends = [state_of(model.to(device)) for model in (one, two)]
        settings = Connectivity(epochs=1, batch_size=128)
        fit = CurveFit(Functional(one), ends[:1], ends[1:], split, settings, [("x",)])
        index, weights = next(iter(fit._draws(0)))
        used = seconds_of(partial(fit._step, index, weights, 0.01), device)
        results.add("curve step", width, len(index[0]), 1, "eager", 1e3 * used, "ms")
        operator = hessian_of(one.eval(), some.images, some.labels, chunk=500)
        used = seconds_of(partial(operator, torch.randn(operator.size, device=device)), device)
        results.add("Hessian product", width, samples, 1, "chunk 500", 1e3 * used, "ms")


def hours(results: Results, mode: str) -> float | None:
    """Return hours of training the 13 x 13 x 5 grid: step times between those measured, log-log."""
    rows = [r for r in results.rows if r.what == "step" and r.mode == mode and r.value == r.value]
    widths, batches = (sorted({getattr(r, axis) for r in rows}) for axis in ("width", "batch"))
    known = {(r.width, r.batch): math.log(r.value) for r in rows}
    if len(widths) < 2 or any((w, b) not in known for w in widths for b in batches):
        return None
    table = np.array([[known[w, b] for b in batches] for w in widths])
    along = np.array([np.interp(np.log(BATCHES), np.log(batches), row) for row in table])
    every = [np.interp(np.log(WIDTHS), np.log(widths), column) for column in along.T]
    steps = [EPOCHS * (IMAGES // batch) for batch in BATCHES]
    used = sum(float(np.exp(column).sum()) * n for column, n in zip(every, steps, strict=True))
    return REPLICAS * used / 1e3 / 3600


def authors(
    results: Results, device: torch.device, peer: Path, cases: list[tuple[int, int]]
) -> None:
    """Time a step of the authors' network in their way: one network, eager, float32."""
    sys.path.insert(0, str(peer / "code"))
    from models import resnet_width  # type: ignore[import-not-found]

    for width, batch in cases:
        if not results.left(5):
            return
        build = partial(resnet_width.ResNet18, width=width)
        _time_loop(results, "step", "authors", build, images(2 * batch, device), width, batch)


def table(results: Results, name: str) -> str:
    """Return the table of a README."""
    lines = [f"On {name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}:", ""]
    lines += ["| what | width | batch | mode | measured |", "|---|---|---|---|---|"]
    for row in results.rows:
        place = f"| {row.width or ''} | {row.batch or ''} "
        lines.append(f"| {row.what} {place}| {row.mode} | {row.value:.4g} {row.unit} {row.note} |")
    return "\n".join(["<!-- gpu -->", *lines, "<!-- end -->"])


def main(arguments: list[str] | None = None) -> int:
    """Run all; return 0 where everything was right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=440.0, help="stop measuring after so many")
    parser.add_argument("--peer", type=Path, help="checkout of the authors' code")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the CSV and README are")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument(
        "--small", action="store_true", help="few and small cases, to try the script"
    )
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no GPU that torch can use: --device cpu --small tries the script", file=sys.stderr)
        return 2
    os.environ["LOSSATLAS_DEVICE"] = given.device
    device = devices.choose()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    results = Results(given.folder / f"gpu-{slug}.csv", given.seconds)
    widths, batches = ((2, 3), (4, 8)) if given.small else (MEASURED_WIDTHS, MEASURED_BATCHES)
    cases = [(width, batch) for width in widths for batch in batches]
    if not check(results, device, 32 if given.small else 512):
        print("wrong numbers, see above: nothing is timed", file=sys.stderr)
        return 1
    peak = peaks(results, device, 128 if given.small else 8192)
    time_steps(results, device, peak, cases)
    time_metrics(results, device, widths[:3], 16 if given.small else 1000)
    if given.peer is not None:
        authors(results, device, given.peer, cases)
    for mode in ("loop", "authors", *MODES):
        if (total := hours(results, mode)) is not None:
            results.add("13 x 13 x 5 diagram", 0, 0, REPLICAS, mode, total, "hours of training")
    if results.cut:
        print("the time was up: what is measured is in the table", file=sys.stderr)
    page = given.folder / "README.md"
    if page.is_file() and device.type == "cuda":
        page.write_text(MARK.sub(lambda _: table(results, name), page.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
