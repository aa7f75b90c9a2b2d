"""A complex between the replicas of a cell: how low the loss is inside, on edges and on planes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lossatlas.connectivity.evaluate import shuffled
from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.similarity.rows import scalar
from lossatlas.simplex import complexes, planes, sampling
from lossatlas.simplex.complexes import Complex
from lossatlas.simplex.geometry import shape_of
from lossatlas.simplex.points import rows
from lossatlas.simplex.spro import Grown, grow
from lossatlas.store import Array, Record, Rows, Table
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator

if TYPE_CHECKING:
    from lossatlas.metrics.simplex import Simplex
    from lossatlas.training.state import State


def measure(networks: Networks, settings: Simplex, state: State | None = None) -> Record:
    """Train the connectors of a complex, then look at its loss.

    BatchNorm statistics are estimated anew, on the training images, at every point.

    Args:
        networks: The replicas.
        settings: Of the metric.
        state: Where unfinished work is kept and found.

    Returns:
        A record with the scalars of `metrics.simplex`: loss (nats) of each mode; and of each
        complex, under the seed of its first mode, mean and largest loss and least accuracy
        (percent) at random points inside; largest loss on the straight segments between modes, and
        on the least bad path over connectors. All on the training images. Of the first complex,
        the tables `inside`, `edges`, `segments`, `volumes`; `vertices`, `vertex_pairs` (of edges)
        and `points` in three principal directions; and by `plane` its raster, `plane`, and its
        `corners`. Array `weights`: barycentric weights of the random points. If a connector
        diverges the tables show the complex without it and those after it, and what depends on them
        is NaN with the status "diverged". If fewer replicas ended well than `repeats` asks for,
        there are fewer complexes.

    Raises:
        UserError: If the complex does not fit the replicas or the network.
        Preempted: If a signal asked the job to leave; the state has been saved.
    """
    plans = plans_of(networks.seeds, settings)
    asked = dict.fromkeys(plans[0].indices(v, "metrics: simplex: planes") for v in settings.planes)
    record = Record("simplex", mode=settings.mode)
    for plan in plans:
        part = None if state is None else state.part("complex", *plan.modes)
        made, grown = train(networks, plan, settings, part)
        first = plan is plans[0]
        one = evaluate(networks, made, grown, settings, list(asked) if first else None)
        record.scalars += one.scalars
        if first:
            record.status, record.tables, record.arrays = one.status, one.tables, one.arrays
    return record


def evaluate(
    networks: Networks,
    plan: Complex,
    grown: Grown,
    settings: Simplex,
    asked: Sequence[tuple[int, ...]] | None = (),
) -> Record:
    """Look at the loss of a trained complex.

    Args:
        networks: The replicas.
        plan: What there is of the complex; see `train`.
        grown: Its vertices.
        settings: Of the metric.
        asked: Vertices of each plane; default: `triangles`. None: no planes and no volumes.

    Returns:
        The record of one complex, as `measure`.
    """
    ruler = Ruler(networks, shuffled(networks.data.train, "simplex", settings.seed))
    record = Record("simplex", mode=settings.mode, status="diverged" if grown.diverged else "ok")
    _modes(record, plan, grown, ruler)
    _inside(record, plan, grown, ruler, settings)
    _edges(record, plan, grown, ruler, settings)
    if grown.diverged:
        _mark(record)
    if asked is not None:
        _volumes(record, plan, grown)
        there = [corners for corners in asked if max(corners) < len(grown.vertices)]
        _planes(record, plan, grown, ruler, settings, there if asked else triangles(plan))
    return record


def plans_of(seeds: Sequence[int], settings: Simplex) -> list[Complex]:
    """Return the complexes: as many as asked for, if so many replicas ended well."""
    where, shape, connectors = "metrics: simplex", settings.complex, settings.connectors
    first = complexes.chosen(shape, settings.modes, connectors, seeds, where)
    size = len(first.modes)
    count = min(settings.repeats, len(seeds) // size)
    later = [seeds[size * i : size * (i + 1)] for i in range(1, count)]
    return [first, *(complexes.chosen(shape, size, connectors, some, where) for some in later)]


def train(
    networks: Networks, plan: Complex, settings: Simplex, state: State | None = None
) -> tuple[Complex, Grown]:
    """Train the connectors; return what there is of the complex, and its vertices."""
    images = shuffled(networks.data.train, "simplex", settings.seed)
    points = rows(networks.params, networks.functional.shapes)
    modes = points[[networks.seeds.index(seed) for seed in plan.modes]]
    buffers, words = networks.one(0)[1], ("complex", *plan.modes)
    grown = grow(networks.functional, buffers, modes, images, plan, settings, state, words)
    if grown.diverged:
        count = len(grown.losses)
        plan = Complex(plan.modes, count, tuple(plan.until(count)))
    return plan, grown


def _mark(record: Record) -> None:
    """Say that the complex was not finished: what it has of vertices is no answer."""
    for place, one in enumerate(record.scalars):
        if one.name.startswith(("inside_", "path_")):
            record.scalars[place] = replace(one, value=math.nan, status="diverged")


class Ruler:
    """Evaluates mixtures of vertices on both splits, BatchNorm statistics estimated anew."""

    def __init__(self, networks: Networks, train: Split) -> None:
        self.functional, self.buffers = networks.functional, networks.one(0)[1]
        self.train, self.test = train, networks.data.test

    def values(self, vertices: Tensor, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return train and test loss (nats) and error (percent) at barycentric weights (..., V)."""
        train, test = self.at(vertices, weights, self.train, self.test)
        names = ("train_loss", "train_error", "test_loss", "test_error")
        return dict(zip(names, (*train, *test), strict=True))

    def at(
        self, vertices: Tensor, weights: np.ndarray, *splits: Split
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return loss and error on each split."""
        images = self.train.images
        return planes.evaluate_each(
            self.functional, vertices, weights, self.buffers, splits, images
        )


def _modes(record: Record, plan: Complex, grown: Grown, ruler: Ruler) -> None:
    count = len(plan.modes)
    ((loss, _),) = ruler.at(grown.vertices[:count], np.eye(count), ruler.train)
    for seed, value in zip(plan.modes, loss, strict=True):
        record.scalars.append(scalar("mode_loss", float(value), replica=seed, unit="nats"))


def _inside(record: Record, plan: Complex, grown: Grown, ruler: Ruler, settings: Simplex) -> None:
    """Evaluate random points of each simplex."""
    count, found = len(grown.vertices), Rows()
    table = np.zeros((len(plan.simplexes), settings.points, count))
    for index, simplex in enumerate(plan.simplexes):
        draw = generator("inside", settings.seed, index)
        weights = sampling.uniform(settings.points, len(simplex), draw).numpy()
        table[index][:, list(simplex)] = weights
        values = ruler.values(grown.vertices, table[index])
        for row in range(settings.points):
            found.add(simplex=index, **{name: v[row] for name, v in values.items()})
    losses = np.array([row["train_loss"] for row in found.rows])
    errors = np.array([row["train_error"] for row in found.rows])
    seed = plan.modes[0]
    record.scalars += [
        scalar("inside_loss", float(losses.mean()), replica=seed, unit="nats"),
        scalar("inside_loss_max", float(losses.max()), replica=seed, unit="nats"),
    ]
    if ruler.train.task.scored:
        least = 100.0 - float(errors.max())
        record.scalars.append(scalar("inside_accuracy_min", least, replica=seed, unit="percent"))
    record.tables += found.tables("inside")
    axes = ("simplex", "point", "vertex")
    record.arrays["weights"] = Array(table, axes, "", "barycentric, of the random points")
    _projection(record, plan, grown, table.reshape(-1, count), losses)


def _projection(
    record: Record, plan: Complex, grown: Grown, weights: np.ndarray, losses: np.ndarray
) -> None:
    """Add vertices and random points in the three principal directions of the vertices."""
    centred = grown.vertices.double() - grown.vertices.double().mean(0)
    gram = (centred @ centred.T).cpu().numpy()
    values, vectors = np.linalg.eigh(gram)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    flat = np.zeros((len(gram), 3))
    kept = min(3, len(gram))
    flat[:, :kept] = vectors[:, :kept] * np.sqrt(values[:kept])
    modes, numbers = zip(*plan.vertices, strict=True)
    place = dict(zip("xyz", flat.T, strict=True))
    edges = np.array(plan.edges(), dtype=np.int64).reshape(-1, 2)
    inside = dict(zip("xyz", (weights @ flat).T, strict=True))
    record.tables += [
        Table("vertices", {"mode": modes, "number": numbers, **place}),
        Table("vertex_pairs", {"from": edges[:, 0], "to": edges[:, 1]}),
        Table("points", {**inside, "train_loss": losses}),
    ]
    total = float(values.sum())
    share = float(values[:kept].sum()) / total if total else math.nan
    record.arrays["projection_share"] = Array(np.array(share), (), "", "variance that is shown")


def _edges(record: Record, plan: Complex, grown: Grown, ruler: Ruler, settings: Simplex) -> None:
    """Evaluate edges of simplexes, and the straight segments between modes."""
    modes = range(len(plan.modes))
    t = np.linspace(0.0, 1.0, settings.places)
    highest: dict[tuple[int, int], float] = {}
    for name, pairs in (("edges", plan.edges()), ("segments", list(combinations(modes, 2)))):
        found = Rows()
        for first, last in pairs:
            weights = np.zeros((len(t), len(grown.vertices)))
            weights[:, first], weights[:, last] = 1.0 - t, t
            values = ruler.values(grown.vertices, weights)
            highest[first, last] = float(values["train_loss"].max())
            for row, place in enumerate(t):
                here = {key: v[row] for key, v in values.items()}
                found.add(**{"from": first, "to": last, "t": place}, **here)
        record.tables += found.tables(name)
    pairs = list(combinations(modes, 2))
    straight = max((highest[pair] for pair in pairs), default=math.nan)
    ways = lowest_ways(len(grown.vertices), {edge: highest[edge] for edge in plan.edges()})
    worst = max((float(ways[pair]) for pair in pairs), default=math.nan)
    bent = worst if math.isfinite(worst) else math.nan
    for name, value in (("segment_loss_max", straight), ("path_loss_max", bent)):
        record.scalars.append(scalar(name, value, replica=plan.modes[0], unit="nats"))


def lowest_ways(count: int, edges: Mapping[tuple[int, int], float]) -> np.ndarray:
    """Return how high one must go between vertices: over ways along edges, the least maximum.

    Args:
        count: Number of vertices.
        edges: Vertices of an edge -> the largest loss on it; NaN is no way.

    Returns:
        (count, count); infinite between vertices that no way joins.
    """
    ways = np.full((count, count), np.inf)
    for (first, last), height in edges.items():
        ways[first, last] = ways[last, first] = np.inf if math.isnan(height) else height
    for stop in range(count):  # as the algorithm of Floyd and Warshall, with max in place of sums
        ways = np.minimum(ways, np.maximum(ways[:, stop, None], ways[None, stop]))
    return ways


def _volumes(record: Record, plan: Complex, grown: Grown) -> None:
    found = Rows()
    for index, simplex in enumerate(plan.simplexes):
        shape = shape_of(grown.vertices[list(simplex)])
        finite = shape.log_volume if shape.status == "ok" else math.nan
        height = float(shape.heights[-1]) if len(shape.heights) else math.nan
        found.add(simplex=index, dimension=len(simplex) - 1, log_volume=finite, height=height)
    record.tables += found.tables("volumes")


def triangles(plan: Complex) -> list[tuple[int, int, int]]:
    """Return up to four triangles worth a picture.

    Two modes and a connector that both share, for the first two connectors; and each of the two
    modes with both connectors (Benton et al., 2021, figure 3). Of one simplex, its faces.
    """
    edges, count = set(plan.edges()), len(plan.modes)
    connectors = range(count, count + plan.connectors)
    for first, second in combinations(range(count), 2):
        common = [c for c in connectors if {(first, c), (second, c)} <= edges][:2]
        if common:
            found = [(first, second, c) for c in common]
            both = [(mode, common[0], common[1]) for mode in (first, second) if len(common) == 2]
            return found + both
    faces = {(a, b, c) for simplex in plan.simplexes for a, b, c in combinations(simplex, 3)}
    return sorted(faces)[:4]


def _planes(
    record: Record,
    plan: Complex,
    grown: Grown,
    ruler: Ruler,
    settings: Simplex,
    asked: Sequence[tuple[int, ...]],
) -> None:
    some = ruler.train.take(slice(0, settings.images))
    for corners in asked:
        chosen = grown.vertices[list(corners)]
        vertices = [plan.vertices[v] for v in corners]
        try:
            plane = planes.raster(chosen, settings.raster)
        except UserError as error:  # known only after training, and all else was measured
            words = " ".join(vertex.name for vertex in vertices)
            warnings.warn(f"plane {words} is left out: {error.what}", stacklevel=2)
            continue
        record.tables += planes.tables(vertices, plane, *ruler.at(chosen, plane.weights, some)[0])
