"""One training job: a block of replicas of one cell, from its spec to weights and history."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import yaml
from torch import nn

from lossatlas import device, models, paths, seal, store
from lossatlas.data.augment import augmented
from lossatlas.data.loading import load
from lossatlas.data.tensors import TensorData
from lossatlas.files import atomic
from lossatlas.spec.cells import Cell, from_spec
from lossatlas.timing import stopwatch
from lossatlas.training import checkpoints, ends
from lossatlas.training.engine import Engine
from lossatlas.training.pretrained import starting_from
from lossatlas.training.state import State
from lossatlas.training.trained import Trained


def builder_of(cell: Cell, data: TensorData) -> Callable[[], nn.Module]:
    """Return a function that builds the cell's network for the shape of its data."""
    example = data.train.images[:2]
    return lambda: models.build(
        cell.model.builder, cell.model.arguments, example=example, **data.shape
    )


def train_block(
    spec: Mapping[str, Any],
    seeds: list[int],
    dataset: str,
    weights: str,
    history: str,
    code: str,
    start: str = "",
) -> None:
    """Train a block of replicas and write its two files.

    Args:
        spec: Canonical specification of the cell.
        seeds: The replicas.
        dataset: Path of the data set.
        weights: Path of the checkpoints to write.
        history: Path of the training record to write.
        code: Fingerprint of the code.
        start: File of the weights from which the cell starts, if it names some.

    Raises:
        UserError: If an input is missing or damaged.
        Preempted: If a signal asked the job to leave; its state has been saved.
    """
    cell = from_spec(spec)
    data = augmented(load(dataset, cell.data, device.choose()), cell.recipe.augment)
    rest = f"{code}:{seeds}:{seal.stamp(dataset)}"
    name = f"{cell.id}.{weights.rpartition('/')[2]}"
    state = State(paths.state(name), f"{cell.digest}:{rest}").listen()
    used = stopwatch()
    progress = Progress(cell.id)
    earlier = None if cell.recipe.record is None else partial(ends.find, cell, seeds, rest)
    build = builder_of(cell, data)
    if cell.model.start_from:
        build = starting_from(build, start, cell.model.start_from)
    engine = Engine(build, cell.recipe, seeds, data.train, state, progress, earlier)
    trained = engine.train()
    checkpoints.save(weights, trained, cell.digest)
    record = training_record(trained, data.task.unit)
    record.spec, record.times = cell.spec, {**used(), **device.peak_gpu()}
    record.provenance = device.provenance(code=code, seeds=seeds)
    store.write(history, record, [weights])
    if weights.startswith(paths.cell(cell.id)):
        write_spec(cell)
        if trained.end is not None:
            ends.save(cell, seeds, rest, trained.end)
    state.clear()


def write_spec(cell: Cell) -> None:
    """Put the canonical specification into the cell's folder, for people to read."""
    with atomic(paths.cell_spec(cell.id)) as temporary:
        temporary.write_text(yaml.safe_dump(cell.spec, sort_keys=False), encoding="utf-8")


def training_record(trained: Trained, unit: str = "nats") -> store.Record:
    """Return what training measured: final losses with statuses, histories, learning rates.

    Args:
        trained: What training left behind.
        unit: Of the loss.
    """
    record = store.Record("training")
    epochs = np.arange(1, len(trained.rates) + 1)
    for index, seed in enumerate(trained.seeds):
        status = "diverged" if trained.diverged[index] else "ok"
        units = {"train_loss": unit, "train_accuracy": "percent"}
        for name in (name for name in units if name in trained.history):
            curve = trained.history[name][: trained.ends[index], index]
            final = float("nan") if status == "diverged" else float(curve[-1])
            record.scalars.append(
                store.Scalar(f"final_{name}", final, seed, status=status, unit=units[name])
            )
            record.series.append(
                store.Series(
                    name,
                    epochs[: len(curve)],
                    curve,
                    "epoch",
                    seed,
                    y_unit=units[name],
                    status=status,
                )
            )
        for kind, epoch in trained.epoch_of.items():
            chosen = float(epoch[index])
            never = status == "ok" and chosen == 0  # as of a rule of early stopping
            ended = "unconverged" if never else status
            record.scalars.append(store.Scalar(f"{kind}_epoch", chosen, seed, status=ended))
    rates = np.array(trained.rates)
    record.arrays["learning_rate"] = store.Array(rates, ("epoch",))
    record.arrays["seeds"] = store.Array(np.array(trained.seeds), ("replica",))
    record.arrays |= trained.path
    record.status = "diverged" if trained.diverged.all() else "ok"
    return record


class Progress:
    """One JSON line per epoch in the log; now and then a line for a person at a terminal."""

    def __init__(self, name: str, every: float = 5.0) -> None:
        self.name, self.every = name, every
        self._shown_at = time.monotonic()

    def __call__(self, numbers: dict[str, Any]) -> None:
        """Report an epoch."""
        print(json.dumps(numbers), flush=True)
        terminal = sys.__stderr__
        if terminal is None or not terminal.isatty():
            return
        if time.monotonic() - self._shown_at >= self.every:
            self._shown_at = time.monotonic()
            losses = " ".join(f"{loss:.3g}" for loss in numbers["train_loss"])
            epoch = f"epoch {numbers['epoch']}/{numbers['epochs']}"
            print(f"  {self.name}: {epoch}, training loss {losses}", file=terminal, flush=True)
