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
import math
import os
import re
import sys
import time
from collections.abc import Callable
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
sys.path[:0] = [str(HERE.parent / "workflow"), str(HERE)]

from _gpu_checks import check, engine, images, resnet18, switched  # noqa: E402
from _gpu_results import MARK, REPLICAS, Results, hours, table  # noqa: E402

from lossatlas import device as devices  # noqa: E402
from lossatlas.connectivity.fit import CurveFit  # noqa: E402
from lossatlas.curvature.operator import hessian_of  # noqa: E402
from lossatlas.data.tensors import Split  # noqa: E402
from lossatlas.metrics.connectivity import Connectivity  # noqa: E402
from lossatlas.models.functional import Functional, state_of  # noqa: E402
from lossatlas.training.engine import initialise  # noqa: E402

MEASURED_WIDTHS = (2, 8, 128, 32, 16, 64)  # the most telling first: time may run out
MEASURED_BATCHES = (16, 128, 1024)
MODES = {  # name -> precision, CUDA graphs
    "eager": ("float32", False),
    "graphs": ("float32", True),
    "tf32 + graphs": ("tf32", True),
    "bfloat16 + graphs": ("bfloat16", True),
    "bfloat16": ("bfloat16", False),
}


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
