"""Fast ensembles: simplexes grown from every replica, against deep ensembles, FGE, SWA and SWAG."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lossatlas.connectivity.evaluate import shuffled
from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.similarity.rows import scalar
from lossatlas.simplex import ensembles, espro_tables, fge, sampling, swag
from lossatlas.simplex.complexes import grown as grown_from
from lossatlas.simplex.espro_tables import Method, Predicted
from lossatlas.simplex.points import buffers_at, log_probs, rows
from lossatlas.simplex.shifts import Shifts
from lossatlas.simplex.spro import check_modes, grow
from lossatlas.store import Array, Record, Scalar
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator
from lossatlas.training.state import State

if TYPE_CHECKING:
    from lossatlas.metrics.espro import Espro
    from lossatlas.metrics.espro_strength import EsproStrength

# In the column `method`: 0 is the replica itself, d the simplex of d dimensions.
FGE, SWA, SWAG = -1, -2, -3
_NAMES = {FGE: "fge", SWA: "swa", SWAG: "swag"}  # of arrays
DISAGREEMENT = "simplex_disagreement"


def measure(networks: Networks, settings: Espro, state: State | None = None) -> Record:
    """Grow a simplex from each replica and compare ensembles of equal numbers of components.

    An ensemble is the uniform mixture of the predicted probabilities over J components and over the
    H networks sampled in the simplex of each (of FGE its members, of SWAG H draws, of SWA one mean
    of weights). Temperatures are fitted on training images that
    training has not seen. A replica of which a method diverges is left out of all methods.

    Args:
        networks: The replicas; their data must have held-out images.
        settings: Of the metric.
        state: Where unfinished work is kept and found.

    Returns:
        A record with, per replica, `simplex_disagreement` (percent of test images on which two
        networks of its largest simplex disagree) and, per pair, `mode_disagreement`. Tables
        `ensembles`, `reliability` (bins of equal width), `reliability_by_mass` and, by `kind`
        (Gaussian "noise" and those of the archive), `corruption`. Arrays: log-probabilities
        of every network (`<method>_<split>`), of the mixture of each component on shifted images
        (`<method>_<kind>`), labels.

    Raises:
        UserError: If no training images are held out, two replicas are the same, or the archive of
            corrupted images is missing, damaged, or of other images.
        Preempted: If a signal asked the job to leave; the state has been saved.
    """
    held_out = networks.data.held_out
    if held_out is None or not len(held_out):
        fix = "set the data set's fraction below 1"
        raise UserError("no training images are held out", where="metrics: espro", fix=fix)
    check_modes(rows(networks.params, networks.functional.shapes), networks.seeds)
    record = Record("espro", mode=settings.mode)
    shifts = Shifts(networks.data, settings.severities, settings.corruptions)
    methods, lost = _methods(networks, held_out, shifts, settings, state)
    good = [seed for seed in networks.seeds if seed not in lost]
    for seed in lost:
        record.scalars.append(Scalar(DISAGREEMENT, math.nan, seed, status="diverged"))
    if not good:
        record.status = "diverged"
        return record
    labels = {
        "test": networks.data.test.labels.cpu().numpy(),
        "held_out": held_out.labels.cpu().numpy(),
    }
    _diversity(record, good, methods)
    most = min(settings.components, len(good))
    record.tables += espro_tables.ensembles_table(methods, labels, most).tables("ensembles")
    record.tables += espro_tables.reliability_table(methods, labels, most).tables("reliability")
    by_mass = espro_tables.equal_mass_table(methods, labels, most)
    record.tables += by_mass.tables("reliability_by_mass")
    for kind, severities in shifts.severities.items():
        shifted = espro_tables.corruption_table(methods, labels, kind, severities, most)
        record.tables += shifted.tables("corruption", kind=kind)
    _keep(record, methods, labels)
    return record


def _methods(
    networks: Networks, held_out: Split, shifts: Shifts, settings: Espro, state: State | None
) -> tuple[list[Method], list[int]]:
    """Train what each method needs, and predict; return the replicas that diverged as well."""
    train = shuffled(networks.data.train, "simplex", settings.seed)
    per_vertex = settings.epochs * settings.samples
    codes = [0, *range(1, settings.vertices + 1), *([FGE] if settings.cycles else [])]
    codes += [SWA, SWAG] if settings.swag_epochs else []
    cost: dict[int, float] = {d: networks.epochs + d * per_vertex for d in codes}
    cost[SWA] = cost[SWAG] = networks.epochs + settings.swag_epochs
    cost[FGE] = networks.epochs + settings.fge_epochs
    found: list[dict[int, Predicted]] = []
    lost: list[int] = []
    for index, seed in enumerate(networks.seeds):
        one = _component(networks, index, train, held_out, shifts, codes, settings, state)
        if one is None:
            lost.append(seed)
        else:
            found.append(one)
    if not found:
        return [], lost
    return [_stacked([one[code] for one in found], code, cost[code]) for code in codes], lost


def _component(
    networks: Networks,
    index: int,
    train: Split,
    held_out: Split,
    shifts: Shifts,
    codes: list[int],
    settings: Espro,
    state: State | None,
) -> dict[int, Predicted] | None:
    """Return the predictions of one replica's networks by method; None if it diverged.

    The networks, by far the most that this metric holds, are gone before the next one's are made.
    A job that is stopped later finds what is returned in the state.
    """
    functional, seed = networks.functional, networks.seeds[index]
    part = (state or State(None, "")).part(seed)
    mode, buffers = rows(networks.params, functional.shapes)[index], networks.one(index)[1]
    plan, words = grown_from(seed, settings.vertices), ("espro", seed)
    grown = grow(functional, buffers, mode[None], train, plan, settings, part, words)
    if grown.diverged:
        return None
    kept = part.part("predictions")
    done = kept.load(torch.device("cpu"))
    if done is not None:
        return _unpacked(done[0])
    points = _points(networks, index, grown.vertices, train, codes, settings)
    if not all(bool(torch.isfinite(some).all()) for some in points.values()):
        return None
    found = {
        code: _predict(networks, index, some, train if code else None, held_out, shifts)
        for code, some in points.items()
    }
    kept.save(_packed(found), {})
    return found


def _packed(found: dict[int, Predicted]) -> dict[str, Tensor]:
    """Name each array by its method, its attribute of `Predicted`, and its split or kind."""
    return {
        f"{code} {attribute} {name}": torch.from_numpy(array)
        for code, one in found.items()
        for attribute in ("logs", "shifted")
        for name, array in getattr(one, attribute).items()
    }


def _unpacked(tensors: dict[str, Tensor]) -> dict[int, Predicted]:
    found: dict[int, Predicted] = {}
    for key, tensor in tensors.items():
        code, attribute, name = key.split(" ", 2)
        one = found.setdefault(int(code), Predicted({}, {}))
        getattr(one, attribute)[name] = tensor.numpy()
    return found


def _stacked(parts: list[Predicted], code: int, passes: float) -> Method:
    """Put the predictions of all components together."""
    logs = {name: np.stack([one.logs[name] for one in parts]) for name in parts[0].logs}
    shifted = {name: np.stack([one.shifted[name] for one in parts]) for name in parts[0].shifted}
    return Method(logs, shifted, code, passes)


def _points(
    networks: Networks,
    index: int,
    vertices: Tensor,
    train: Split,
    codes: list[int],
    settings: Espro,
) -> dict[int, Tensor]:
    """Return the networks (G, P) of each method; the simplexes are those of `vertices` (V, P)."""
    seed, mode, buffers = networks.seeds[index], vertices[0], networks.one(index)[1]
    points = {code: sample(vertices[: code + 1], settings, seed) for code in codes if code >= 0}
    at = (networks.functional, buffers, mode, train)
    words = (settings.seed, seed)
    how: Any = {"batch_size": settings.batch_size, "settings": settings, "words": words}
    if FGE in codes:
        largest, smallest = settings.cycle_rates
        points[FGE] = fge.members(
            *at,
            count=settings.cycles,
            cycle_epochs=settings.cycle_epochs,
            rates=(largest, smallest),
            **how,
        )
    if SWA in codes:
        epochs, rate, rank = settings.swag_epochs, settings.swag_rate, settings.swag_rank
        around = swag.collect(*at, epochs=epochs, rate=rate, rank=rank, **how)
        draw = generator("swag draws", settings.seed, seed)
        points |= {SWA: around.mean[None], SWAG: around.draw(settings.draws, draw)}
    return points


def sample(vertices: Tensor, settings: Espro | EsproStrength, seed: int) -> Tensor:
    """Draw H points of a simplex; a single vertex is drawn once."""
    if len(vertices) == 1:
        return vertices
    draw = generator("espro draws", settings.seed, seed, len(vertices))
    weights = sampling.uniform(settings.draws, len(vertices), draw)
    return weights.to(vertices.device, vertices.dtype) @ vertices


def _predict(
    networks: Networks,
    index: int,
    points: Tensor,
    train: Split | None,
    held_out: Split,
    shifts: Shifts,
) -> Predicted:
    """Return log-probabilities of points (G, P) on both splits, and their mixture on shifts.

    BatchNorm statistics are estimated anew on `train`; None keeps those of the replica.
    """
    functional, buffers = networks.functional, networks.one(index)[1]
    own = buffers_at(functional, points, buffers, None if train is None else train.images)

    def predict(images: Tensor) -> np.ndarray:
        return log_probs(functional, points, own, images).cpu().numpy()

    return Predicted(
        {"test": predict(networks.data.test.tensor), "held_out": predict(held_out.tensor)},
        {
            kind: np.stack(
                [ensembles.mixture(predict(x)).astype(np.float32) for x in shifts.images(kind)]
            )
            for kind in shifts.severities
        },
    )


def _diversity(record: Record, seeds: list[int], methods: list[Method]) -> None:
    largest = max(methods, key=lambda method: method.code)
    for seed, logs in zip(seeds, largest.logs["test"], strict=True):
        apart = ensembles.diversity(logs)
        record.scalars.append(scalar(DISAGREEMENT, apart, replica=seed, unit="percent"))
    modes = next(method for method in methods if method.code == 0).logs["test"][:, 0]
    for (first, one), (second, other) in combinations(enumerate(seeds), 2):
        between = ensembles.diversity(modes[[first, second]])
        record.scalars.append(
            scalar("mode_disagreement", between, replica=one, partner=other, unit="percent")
        )


def _keep(record: Record, methods: list[Method], labels: dict[str, np.ndarray]) -> None:
    axes = ("component", "sample", "image", "class")
    mixed = ("component", "severity", "image", "class")
    for method in methods:
        name = _NAMES.get(method.code, f"simplex{method.code}")
        for split, logs in method.logs.items():
            record.arrays[f"{name}_{split}_log_probs"] = Array(logs, axes, "nats")
        for kind, logs in method.shifted.items():
            record.arrays[f"{name}_{kind}_log_probs"] = Array(logs, mixed, "nats")
    for split, values in labels.items():
        record.arrays[f"{split}_labels"] = Array(values, ("image",))
