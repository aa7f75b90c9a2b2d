"""Fast ensembles: simplexes grown from every replica, against deep and geometric ensembles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lossatlas.connectivity.evaluate import shuffled
from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.similarity import predictions
from lossatlas.similarity.rows import scalar
from lossatlas.simplex import ensembles, fge, sampling
from lossatlas.simplex.columns import Rows
from lossatlas.simplex.complexes import grown as grown_from
from lossatlas.simplex.ensembles import Floats
from lossatlas.simplex.points import buffers_at, log_probs, rows
from lossatlas.simplex.spro import grow
from lossatlas.store import Array, Record
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator

if TYPE_CHECKING:
    from lossatlas.spec.metrics import Espro
    from lossatlas.training.state import State

FGE = -1  # in the column `method`; 0 is the replica itself, d the simplex of d dimensions
CORRUPTED = 2  # components of the ensembles that see corrupted images


@dataclass
class Method:
    """Predictions of one method, for all components.

    Attributes:
        code: As `FGE` says.
        passes: Passes over the training data that one component takes.
        logs: "test" or "held_out" -> log-probabilities (component, sample, image, class), float32.
        corrupted: Log-probabilities (component, severity, image, class) of each component's
            mixture on corrupted test images.
    """

    code: int
    passes: float
    logs: dict[str, np.ndarray]
    corrupted: np.ndarray


def measure(networks: Networks, settings: Espro, state: State | None = None) -> Record:
    """Grow a simplex from each replica and compare ensembles of equal numbers of components.

    An ensemble is the uniform mixture of the predicted probabilities over J components and over the
    H networks sampled in the simplex of each. Temperatures are fitted on training images that
    training has not seen.

    Args:
        networks: The replicas; their data must have held-out images.
        settings: Of the metric.
        state: Where unfinished work is kept and found.

    Returns:
        A record with, per replica, `simplex_disagreement` (percent of test images on which two
        networks of its largest simplex disagree) and, of the cell, `mode_disagreement`. Tables as
        series: `ensembles`, `reliability`, `corruption`. Arrays: log-probabilities of every network
        (`<method>_<split>`), labels.

    Raises:
        UserError: If no training images are held out.
        Preempted: If a signal asked the job to leave; the state has been saved.
    """
    held_out = networks.data.held_out
    if held_out is None or not len(held_out):
        fix = "set the data set's fraction below 1"
        raise UserError("no training images are held out", where="metrics: espro", fix=fix)
    record = Record("espro", mode=settings.mode)
    methods = _methods(networks, held_out, settings, state)
    labels = {
        "test": networks.data.test.labels.cpu().numpy(),
        "held_out": held_out.labels.cpu().numpy(),
    }
    _diversity(record, networks, methods)
    most = min(settings.components, len(networks.seeds))
    record.series += _ensembles(methods, labels, most).series("ensembles")
    record.series += _reliability(methods, labels, most).series("reliability")
    record.series += _corruption(methods, labels, settings.severities, most).series("corruption")
    _keep(record, methods, labels)
    return record


def _methods(
    networks: Networks, held_out: Split, settings: Espro, state: State | None
) -> list[Method]:
    """Train what each method needs, and predict."""
    functional, train = networks.functional, shuffled(networks.data.train, "simplex", settings.seed)
    modes = rows(networks.params, functional.shapes)
    per_vertex = settings.epochs * settings.samples
    codes = [0, *range(1, settings.vertices + 1), *([FGE] if settings.cycles else [])]
    cost = {d: networks.epochs + d * per_vertex for d in codes}
    cost[FGE] = networks.epochs + settings.cycles * settings.cycle_epochs
    found: dict[int, list[dict[str, np.ndarray]]] = {code: [] for code in codes}
    for index, seed in enumerate(networks.seeds):
        buffers, words = networks.one(index)[1], ("espro", seed)
        part = None if state is None else state.part(seed)
        plan = grown_from(seed, settings.vertices)
        grown = grow(functional, buffers, modes[index][None], train, plan, settings, part, words)
        if grown.diverged:
            what = f"the simplex of w{seed} diverged"
            raise UserError(what, where="metrics: espro", fix="lower its learning_rate")
        for code in codes:
            if code == FGE:
                points = _geometric(networks, train, modes[index], buffers, settings, seed)
            else:
                points = _sample(grown.vertices[: code + 1], settings, seed)
            found[code].append(_predict(networks, held_out, points, buffers, train, settings, code))
    return [
        Method(
            code,
            cost[code],
            {
                split: np.stack([one[split] for one in found[code]])
                for split in ("test", "held_out")
            },
            np.stack([one["corrupted"] for one in found[code]]),
        )
        for code in codes
    ]


def _geometric(
    networks: Networks,
    train: Split,
    start: Tensor,
    buffers: dict[str, Tensor],
    settings: Espro,
    seed: int,
) -> Tensor:
    largest, smallest = settings.cycle_rates
    return fge.members(
        networks.functional,
        buffers,
        start,
        train,
        count=settings.cycles,
        cycle_epochs=settings.cycle_epochs,
        rates=(largest, smallest),
        batch_size=settings.batch_size,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        words=(settings.seed, seed),
    )


def _sample(vertices: Tensor, settings: Espro, seed: int) -> Tensor:
    """Draw H points of a simplex; a single vertex is drawn once."""
    if len(vertices) == 1:
        return vertices
    draw = generator("espro draws", settings.seed, seed, len(vertices))
    weights = sampling.uniform(settings.draws, len(vertices), draw)
    return weights.to(vertices.device, vertices.dtype) @ vertices


def _predict(
    networks: Networks,
    held_out: Split,
    points: Tensor,
    buffers: dict[str, Tensor],
    train: Split,
    settings: Espro,
    code: int,
) -> dict[str, np.ndarray]:
    """Return log-probabilities of points (G, P) on both splits, and their mixture on corruptions.

    The replica itself keeps the BatchNorm statistics of its training.
    """
    functional, images = networks.functional, networks.data.test.images
    own = buffers_at(functional, points, buffers, train.images if code else None)
    found = {
        "test": log_probs(functional, points, own, images).cpu().numpy(),
        "held_out": log_probs(functional, points, own, held_out.images).cpu().numpy(),
    }
    mixed = [
        ensembles.mixture(log_probs(functional, points, own, x).cpu().numpy())
        for x in corrupted(images, settings.severities)
    ]
    shape = (0, len(images), networks.data.classes)
    found["corrupted"] = (
        np.stack(mixed).astype(np.float32) if mixed else np.zeros(shape, np.float32)
    )
    return found


def corrupted(images: Tensor, severities: list[float]) -> Iterator[Tensor]:
    """Yield the images with Gaussian noise of each severity, the same noise for every network."""
    for index, severity in enumerate(severities):
        noise = torch.randn(images.shape, generator=generator("gaussian noise", index))
        yield images + severity * noise.to(images.device)


def _diversity(record: Record, networks: Networks, methods: list[Method]) -> None:
    largest = max(methods, key=lambda method: method.code)
    for seed, logs in zip(networks.seeds, largest.logs["test"], strict=True):
        apart = ensembles.diversity(logs)
        record.scalars.append(scalar("simplex_disagreement", apart, replica=seed, unit="percent"))
    modes = next(method for method in methods if method.code == 0).logs["test"][:, 0]
    between = ensembles.diversity(modes)
    record.scalars.append(scalar("mode_disagreement", between, unit="percent"))


def groups(count: int, size: int) -> list[tuple[list[int], bool]]:
    """Return groups of neighbouring components in a circle, and whether each is of a partition.

    Every component is in `size` of the `count` groups. Groups of the partition share no component,
    so that statistics may take them as independent.
    """
    if size == count:
        return [(list(range(count)), True)]
    return [
        ([(first + i) % count for i in range(size)], first % size == 0 and first + size <= count)
        for first in range(count)
    ]


def _ensembles(methods: list[Method], labels: dict[str, np.ndarray], most: int) -> Rows:
    found = Rows()
    for method in methods:
        mixed = {
            split: np.stack([ensembles.mixture(logs) for logs in method.logs[split]])
            for split in labels
        }
        singles = np.array([_single(logs, labels["test"]) for logs in method.logs["test"]])
        for size in range(1, most + 1):
            for group, (chosen, apart) in enumerate(groups(len(mixed["test"]), size)):
                test, held_out = (ensembles.mixture(mixed[s][chosen]) for s in ("test", "held_out"))
                t = ensembles.temperature(held_out, labels["held_out"])
                raw = ensembles.assess(test, labels["test"])
                calm = ensembles.assess(ensembles.scaled(test, t), labels["test"])
                found.add(
                    method=method.code,
                    components=size,
                    group=group,
                    disjoint=float(apart),
                    passes=size * method.passes,
                    temperature=t,
                    member_nll=float(singles[chosen].mean()),
                    **raw,
                    **{f"{name}_scaled": value for name, value in calm.items()},
                )
    return found


def _single(logs: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean NLL of the networks of one component (H, N, classes)."""
    return float(np.mean([predictions.nll(one, labels) for one in logs]))


def _together(logs: np.ndarray) -> Floats:
    return ensembles.mixture(np.stack([ensembles.mixture(one) for one in logs]))


def _reliability(methods: list[Method], labels: dict[str, np.ndarray], most: int) -> Rows:
    """Collect confidence and accuracy in bins, of the first `most` components."""
    found = Rows()
    for method in methods:
        test, held_out = (_together(method.logs[split][:most]) for split in ("test", "held_out"))
        t = ensembles.temperature(held_out, labels["held_out"])
        for calm, logs in ((0.0, test), (1.0, ensembles.scaled(test, t))):
            confidence = np.exp(logs.max(axis=1))
            right = logs.argmax(axis=1) == labels["test"]
            places = np.minimum((confidence * ensembles.BINS).astype(int), ensembles.BINS - 1)
            for place in np.unique(places):
                here = places == place
                found.add(
                    method=method.code,
                    scaled=calm,
                    bin=float(place),
                    share=float(here.mean()),
                    confidence=float(confidence[here].mean()),
                    accuracy=float(right[here].mean()),
                )
    return found


def _corruption(
    methods: list[Method], labels: dict[str, np.ndarray], severities: list[float], most: int
) -> Rows:
    found, size = Rows(), min(CORRUPTED, most)
    for method in methods:
        for group, (chosen, apart) in enumerate(groups(len(method.corrupted), size)):
            t = ensembles.temperature(
                _together(method.logs["held_out"][chosen]), labels["held_out"]
            )
            clean = _together(method.logs["test"][chosen])
            noisy = [
                ensembles.mixture(method.corrupted[chosen, index])
                for index in range(len(severities))
            ]
            for severity, logs in zip([0.0, *severities], [clean, *noisy], strict=True):
                raw = ensembles.assess(logs, labels["test"])
                calm = ensembles.assess(ensembles.scaled(logs, t), labels["test"])
                found.add(
                    method=method.code,
                    components=size,
                    group=group,
                    disjoint=float(apart),
                    severity=severity,
                    **raw,
                    nll_scaled=calm["nll"],
                    ece_scaled=calm["ece"],
                )
    return found


def _keep(record: Record, methods: list[Method], labels: dict[str, np.ndarray]) -> None:
    axes = ("component", "sample", "image", "class")
    for method in methods:
        name = "fge" if method.code == FGE else f"simplex{method.code}"
        for split, logs in method.logs.items():
            record.arrays[f"{name}_{split}_log_probs"] = Array(logs, axes, "nats")
        noisy: Any = ("component", "severity", "image", "class")
        record.arrays[f"{name}_corrupted_log_probs"] = Array(method.corrupted, noisy, "nats")
    for split, values in labels.items():
        record.arrays[f"{split}_labels"] = Array(values, ("image",))
