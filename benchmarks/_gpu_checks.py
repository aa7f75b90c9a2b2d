"""Whether a GPU computes what the CPU does: step by step, resumed, and from CUDA graphs."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "workflow"), str(HERE)]

from _gpu_results import Results  # noqa: E402

from lossatlas import models  # noqa: E402
from lossatlas.data.tensors import Split  # noqa: E402
from lossatlas.spec.parts import Recipe  # noqa: E402
from lossatlas.training.engine import Engine  # noqa: E402
from lossatlas.training.graphs import VARIABLE  # noqa: E402
from lossatlas.training.state import Preempted, State  # noqa: E402


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
