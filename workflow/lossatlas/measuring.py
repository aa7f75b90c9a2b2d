"""Runs one metric on one cell: loads what it needs, calls its adapter, adds what is not its own."""

from __future__ import annotations

import hashlib
import importlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from lossatlas import __version__, paths, seal, store
from lossatlas.connectivity.pairs import pairs_of
from lossatlas.errors import UserError
from lossatlas.fingerprint import code_of
from lossatlas.models import target_of
from lossatlas.spec.cells import Cell, from_spec
from lossatlas.spec.metrics import KINDS, Connectivity, MetricSettings
from lossatlas.spec.products import PRODUCES
from lossatlas.timing import stopwatch
from lossatlas.training import checkpoints

if TYPE_CHECKING:
    from lossatlas.training.networks import Networks
    from lossatlas.training.state import State

ADAPTERS = {
    "performance": "lossatlas.similarity.performance:measure",
    "hessian": "lossatlas.curvature.measure:measure",
    "connectivity": "lossatlas.connectivity.measure:measure",
    "cka": "lossatlas.similarity.measure_cka:measure",
    "distance": "lossatlas.similarity.distance:measure",
    "simplex": "lossatlas.simplex.measure:measure",
    "simplex_volume": "lossatlas.simplex.measure_volume:measure",
    "espro": "lossatlas.simplex.measure_espro:measure",
    "diffusion": "lossatlas.diffusion.measure:measure",
    "landscape": "lossatlas.diffusion.landscape:measure",
    "hessian_path": "lossatlas.curvature.along:measure",
}
SIMPLEXES = ("simplex", "simplex_volume", "espro")  # keep the vertices that they train
SIMPLEX_TRAINING = ("lossatlas.simplex.spro:grow", "lossatlas.measuring:_networks")
RESUMES = ("connectivity", "hessian", "hessian_path", *SIMPLEXES)  # keep their unfinished work
# `distance` reads weights as arrays, and predictions; `diffusion` reads training records alone.
WITHOUT_TORCH = ("distance", "diffusion")
NEEDS_PATH = ("diffusion", "hessian_path")
LEAST = {"pair": 2, "replica": 1, "cell": 1}


@dataclass(frozen=True)
class Inputs:
    """Paths that a metric job reads."""

    weights: Sequence[str]
    histories: Sequence[str]
    dataset: str
    performance: str = ""


def measure_cell(
    kind: str,
    settings: Mapping[str, Any],
    spec: Mapping[str, Any],
    seeds: Sequence[int],
    inputs: Inputs,
    code: str,
    write: Callable[[store.Record], None] = lambda _: None,
) -> store.Record:
    """Measure one metric on the replicas of a cell.

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
        UserError: If an input is missing, damaged, or does not match the spec.
    """
    cell = from_spec(spec)
    chosen = KINDS[kind](**settings)
    used = stopwatch()
    status = checkpoints.statuses(inputs.histories)
    if unknown := [seed for seed in seeds if seed not in status]:
        where = ", ".join(inputs.histories)
        raise UserError(f"no training record of seeds {unknown}", where=where, fix=checkpoints.REDO)
    good = [seed for seed in seeds if status[seed] == "ok"]
    lost = [seed for seed in seeds if seed not in good]
    record, state = store.Record(kind), None
    if len(good) >= min(LEAST[of] for of in PRODUCES[kind].values()):
        state = _state(kind, chosen, cell, good, inputs, code) if kind in RESUMES else None
        record = _adapter(kind, chosen, cell, good, lost, inputs, state)
    add_diverged(record, kind, good, lost, _pairs(chosen, seeds))
    record.spec, record.settings = cell.spec, chosen.model_dump()
    record.mode = getattr(chosen, "mode", "")
    record.provenance = {**_provenance(kind), "code": code, "seeds": list(seeds)}
    record.times = used()
    write(record)
    if state is not None:
        state.clear()
    return record


def _adapter(
    kind: str,
    settings: MetricSettings,
    cell: Cell,
    good: list[int],
    lost: list[int],
    inputs: Inputs,
    state: State | None,
) -> store.Record:
    checkpoint = settings.checkpoint or cell.recipe.checkpoints[0]
    if kind == "diffusion":
        from lossatlas.diffusion.recorded import read as read_paths

        return adapter(kind)(read_paths(inputs.histories, good), settings)
    if kind in WITHOUT_TORCH:
        read = checkpoints.read_weights(
            inputs.weights, good, checkpoint, "np", cell.digest, frozen=False
        )
        arrays = store.read(inputs.performance, "performance").arrays
        logits = dict(
            zip(arrays["seeds"].values.tolist(), arrays["test_logits"].values, strict=True)
        )
        return adapter(kind)({seed: params for seed, (params, _) in read.items()}, logits, settings)
    if kind == "hessian_path":
        return adapter(kind)(_stages(cell, good, lost, inputs), settings, state)
    networks = _networks(cell, good, lost, checkpoint, inputs)
    if kind == "landscape" and cell.recipe.record is not None:
        stages = _stages(cell, good, lost, inputs)
        return adapter(kind)(networks, settings, stages)
    if state is None:
        return measure_networks(kind, networks, settings)
    return adapter(kind)(networks, settings, state)


def _state(
    kind: str,
    settings: MetricSettings,
    cell: Cell,
    good: list[int],
    inputs: Inputs,
    code: str,
) -> State:
    """Return where a metric's unfinished work is kept.

    Raises:
        UserError: If an input cannot be read.
    """
    from lossatlas.training.state import State

    asked = json.dumps(settings.model_dump(), sort_keys=True)
    name = f"{cell.id}.{kind}.{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    # Weights that were trained anew since are other weights, though of the same cell.
    try:
        read = [seal.stamp(path) for path in (*inputs.weights, inputs.dataset)]
    except OSError as error:
        what, fix = f"cannot be read: {error.strerror}", "run the command that makes it"
        raise UserError(what, where=str(error.filename), fix=fix) from None
    state = State(paths.state(name), f"{cell.digest}:{code}:{good}:{asked}:{read}").listen()
    if kind in SIMPLEXES:
        # A vertex depends on how it is trained, not on how a metric then looks at it.
        trained = code_of(*SIMPLEX_TRAINING, target_of(cell.model.builder))
        state.keep(paths.vertices(cell.id), f"{cell.digest}:{trained}")
    return state


def adapter(kind: str) -> Callable[..., store.Record]:
    """Import the adapter of a kind of metric."""
    module, _, name = ADAPTERS[kind].partition(":")
    return getattr(importlib.import_module(module), name)


def measure_networks(kind: str, networks: Networks, settings: MetricSettings) -> store.Record:
    """Call a metric's adapter on networks in memory.

    Args:
        kind: Of the metric.
        networks: The replicas and their data.
        settings: Of the metric.
    """
    check_without_path(kind)
    if kind not in WITHOUT_TORCH:
        return adapter(kind)(networks, settings)
    from lossatlas.training.networks import logits

    images = networks.data.test.images
    weights, predictions = {}, {}
    for index, seed in enumerate(networks.seeds):
        params, _ = networks.one(index)
        names = networks.functional.trainable
        weights[seed] = {name: params[name].cpu().numpy() for name in names}
        predictions[seed] = logits(networks, index, images).cpu().numpy()
    return adapter(kind)(weights, predictions, settings)


def check_without_path(kind: str) -> None:
    """Refuse a metric that weights alone are not enough for.

    Raises:
        UserError: If it reads what training recorded.
    """
    if kind in NEEDS_PATH:
        fix = "run it in the workflow, with 'record' in the recipe"
        raise UserError("needs the path of training, not its end", where=kind, fix=fix)


def _networks(
    cell: Cell, good: list[int], lost: list[int], checkpoint: str, inputs: Inputs
) -> Networks:
    from lossatlas import device
    from lossatlas.data.augment import augmented
    from lossatlas.data.loading import load
    from lossatlas.models.functional import Functional
    from lossatlas.training.job import builder_of

    data = augmented(load(inputs.dataset, cell.data, device.choose()), cell.recipe.augment)
    functional = Functional(builder_of(cell, data)())
    weights = checkpoints.read_weights(inputs.weights, good, checkpoint, "pt", cell.digest)
    where = ", ".join(inputs.weights)
    networks = checkpoints.assemble(functional, weights, data, device.choose(), lost, where)
    return replace(networks, epochs=cell.recipe.epochs)


def _stages(cell: Cell, good: list[int], lost: list[int], inputs: Inputs) -> dict[int, Networks]:
    """Return epoch -> the replicas with the weights that were kept then."""
    epochs = checkpoints.kept_epochs(inputs.weights)
    if not epochs:
        fix = "give its recipe a 'record' with 'snapshots: 5'"
        raise UserError("holds no weights along training", where=inputs.weights[0], fix=fix)
    last = _networks(cell, good, lost, f"epoch-{epochs[-1]}", inputs)
    found = {}
    for epoch in epochs:
        read = checkpoints.read_weights(inputs.weights, good, f"epoch-{epoch}", "pt", cell.digest)
        found[epoch] = checkpoints.assemble(
            last.functional, read, last.data, last.device, lost, inputs.weights[0]
        )
    return found


def _provenance(kind: str) -> dict[str, Any]:
    if kind not in WITHOUT_TORCH:
        from lossatlas import device

        return device.provenance()
    versions = {"lossatlas": __version__, "python": platform.python_version()}
    return {"versions": versions, "device": "cpu", "dtype": "float64"}


def _pairs(settings: MetricSettings, seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs of replicas that a metric compares: all, unless its settings choose."""
    if isinstance(settings, Connectivity):
        return pairs_of(settings, seeds)
    return list(combinations(sorted(seeds), 2))


def add_diverged(
    record: store.Record,
    kind: str,
    good: list[int],
    lost: list[int],
    pairs: Sequence[tuple[int, int]],
) -> None:
    """Add a row of status "diverged" for what diverged replicas keep from being measured.

    Args:
        record: Of the replicas that ended well; rows are added.
        kind: Of the metric.
        good: Seeds of the replicas that ended well.
        lost: Seeds of the diverged ones.
        pairs: Pairs of seeds that the metric compares.
    """
    nan = float("nan")
    for name, of in PRODUCES[kind].items():
        if of == "replica":
            rows = [store.Scalar(name, nan, seed, status="diverged") for seed in lost]
        elif of == "pair":
            missing = [pair for pair in pairs if set(pair) & set(lost)]
            rows = [store.Scalar(name, nan, a, b, status="diverged") for a, b in missing]
        else:
            rows = [] if good else [store.Scalar(name, nan, status="diverged")]
        record.scalars += rows
    if not good:
        record.status = "diverged"
