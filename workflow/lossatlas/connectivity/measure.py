"""Error along trained curves between replicas and along the straight line (Yang et al., 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.connectivity.curves import Curve, straight
from lossatlas.connectivity.evaluate import (
    NORM_BATCH,
    VALUES,
    Path,
    Point,
    evaluate_path,
    evaluate_point,
    shuffled,
)
from lossatlas.connectivity.pairs import Pair, pairs_of
from lossatlas.connectivity.summary import Reference, extremes, linear_barrier
from lossatlas.connectivity.together import fit_curves
from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.store import Array, Record, Scalar, Series
from lossatlas.training.networks import Networks

if TYPE_CHECKING:
    from lossatlas.metrics.connectivity import Connectivity
    from lossatlas.training.state import State

PAPER_POINTS = 5


def measure(
    networks: Networks,
    settings: Connectivity,
    state: State | None = None,
    pairs: Sequence[Pair] | None = None,
) -> Record:
    """Train a curve for each pair of replicas, and evaluate it and the straight line.

    Mode "fixed" sums a path up against the straight line between the errors of its ends, at
    `points` places. Mode "paper" does what the authors' code did: the first two seeds, a bend that
    starts at random, 5 places, the mean error of the ends as reference, BatchNorm statistics from
    batches of `batch_size`.

    Args:
        networks: The replicas.
        settings: Of the metric.
        state: Where unfinished work is kept and found.
        pairs: Seeds of replicas that ended well; default: the pairs that the settings choose
            without those that hold a diverged replica.

    Returns:
        A record with, per pair (all in percentage points of training error or, of tasks that count
        no errors, in the unit of the loss):
        `mode_connectivity`, `path_dip`, `path_bump` (see `summary.extremes`) and `linear_barrier`
        (see `summary.linear_barrier`). Status "diverged" where the curve's training diverged,
        "undefined" where a loss along a path is not finite. Series over t, per pair and `path`
        (the kind of curve, and "linear"): `train_loss`, `train_error`, `test_loss`, `test_error`;
        losses are cross entropies without the L2 term. Arrays, over pairs:
        `pairs` (seeds), `curve_length`, `straight_distance`, `steps`, and `stored_values` of both
        ends, with the BatchNorm statistics that training left.

    Raises:
        UserError: If `pairs` names a seed that the cell does not have, or data are too few.
        Preempted: If a signal asked the job to leave; the state has been saved.
    """
    if pairs is None:
        chosen = pairs_of(settings, [*networks.seeds, *networks.diverged])
        pairs = [pair for pair in chosen if set(pair) <= set(networks.seeds)]
    if not pairs:
        return Record("connectivity", mode=settings.mode)
    return evaluate(networks, settings, pairs, fit(networks, settings, pairs, state))


def fit(
    networks: Networks, settings: Connectivity, pairs: Sequence[Pair], state: State | None = None
) -> list[Curve]:
    """Train a curve for each pair; arguments and errors as in `measure`."""
    index = {seed: place for place, seed in enumerate(networks.seeds)}
    ends = [(networks.one(index[a]), networks.one(index[b])) for a, b in pairs]
    words = [("curve", settings.seed, *pair) for pair in pairs]
    try:
        train = _train(networks, settings)
        return fit_curves(networks.functional, ends, train, settings, words, state)
    except ValueError as error:
        fix = "use more training images"
        raise UserError(str(error), where="connectivity", fix=fix) from None


def evaluate(
    networks: Networks, settings: Connectivity, pairs: Sequence[Pair], curves: Sequence[Curve]
) -> Record:
    """Measure trained curves, and the straight lines between their ends; see `measure`."""
    record = Record("connectivity", mode=settings.mode)
    ruler = _Ruler(networks, _train(networks, settings), settings)
    for pair, curve in zip(pairs, curves, strict=True):
        _add(record, pair, curve, ruler, settings)
    record.arrays |= _arrays(pairs, curves, ruler)
    return record


def _train(networks: Networks, settings: Connectivity) -> Split:
    return shuffled(networks.data.train, "connectivity", settings.seed)


class _Ruler:
    """Evaluates paths; each replica once, however many paths end there."""

    def __init__(self, networks: Networks, train: Split, settings: Connectivity) -> None:
        paper = settings.mode == "paper"
        self.networks, self.train = networks, train
        self.t = np.linspace(0.0, 1.0, PAPER_POINTS if paper else settings.points)
        self.batch = settings.batch_size if paper else NORM_BATCH
        self._ends: dict[tuple[int, bool], Point] = {}

    def end(self, seed: int, *, stored: bool = False) -> Point:
        """Return the values of a replica.

        Args:
            seed: Of the replica.
            stored: With the BatchNorm statistics that training left, instead of new ones.
        """
        if (seed, stored) not in self._ends:
            self._ends[seed, stored] = self._point(seed, stored=stored)
        return self._ends[seed, stored]

    def stored(self, pair: Pair) -> list[list[float]]:
        """Return the values (2, 4) of both ends with the statistics that training left."""
        points = [self.end(seed, stored=True) for seed in pair]
        return [[getattr(point, name) for name in VALUES] for point in points]

    def path(self, curve: Curve, pair: Pair) -> Path:
        """Return the values along a path between two replicas."""
        ends = (self.end(pair[0]), self.end(pair[1]))
        functional, test = self.networks.functional, self.networks.data.test
        return evaluate_path(
            functional, curve, self.train, test, self.t, batch=self.batch, ends=ends
        )

    def _point(self, seed: int, *, stored: bool) -> Point:
        network = self.networks.one(self.networks.seeds.index(seed))
        functional, test = self.networks.functional, self.networks.data.test
        return evaluate_point(
            functional, network, self.train, test, batch=self.batch, stored=stored
        )


def _add(record: Record, pair: Pair, curve: Curve, ruler: _Ruler, settings: Connectivity) -> None:
    """Add the scalars and series of one pair."""
    line = ruler.path(straight(curve), pair)
    task = ruler.train.task
    measured = f"train_{task.ruler}"
    units = {name: "percent" if name.endswith("error") else task.unit for name in VALUES}
    if not task.scored:
        units = {name: unit for name, unit in units.items() if name.endswith("loss")}
    barrier = linear_barrier(ruler.t, line.values(measured))
    values = {"linear_barrier": barrier}
    paths = {"linear": line}
    status = "diverged"
    values |= dict.fromkeys(("mode_connectivity", "path_dip", "path_bump"), math.nan)
    if curve.finite:
        status = "undefined"
        paths[settings.curve] = path = ruler.path(curve, pair)
        reference: Reference = "mean" if settings.mode == "paper" else "line"
        found = extremes(ruler.t, path.values(measured), reference)
        values["mode_connectivity"], values["path_dip"], values["path_bump"] = found
    for name, value in sorted(values.items()):
        bad = "undefined" if name == "linear_barrier" else status
        state = "ok" if math.isfinite(value) else bad
        row = Scalar(name, value, *pair, status=state, unit=units.get(measured, ""))
        record.scalars.append(row)
    for kind, walked in paths.items():
        for name, unit in units.items():
            y = walked.values(name)
            state = "ok" if np.isfinite(y).all() else "undefined"
            about: Any = {"y_unit": unit, "status": state, "index": {"path": kind}}
            record.series.append(Series(name, ruler.t, y, "t", *pair, **about))


def _arrays(pairs: Sequence[Pair], curves: Sequence[Curve], ruler: _Ruler) -> dict[str, Array]:
    lengths = np.array([curve.length() for curve in curves])
    distances = np.array([curve.distance() for curve in curves])
    steps = np.array([curve.step_lengths(ruler.t) for curve in curves])
    return {
        "pairs": Array(np.array(pairs), ("pair", "end"), description="seeds"),
        "curve_length": Array(lengths, ("pair",), description="length of the curve"),
        "straight_distance": Array(distances, ("pair",), description="distance of the ends"),
        "steps": Array(steps, ("pair", "step"), description="distances of neighbouring points"),
        "stored_values": Array(
            np.array([ruler.stored(pair) for pair in pairs]),
            ("pair", "end", "value"),
            description=f"{', '.join(VALUES)} with the BatchNorm statistics that training left",
        ),
    }
