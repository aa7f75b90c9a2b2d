"""Volume of the complex between two replicas as connectors are added, for several strengths.

The paper reads a collapse of the volume as the dimension of a manifold of low loss, but its code
adds 1e-4 to the squared volume inside the logarithm, and below that the regulariser stops pushing.
So the complex is grown three ways: "fixed", the same with that 1e-4 alone, and "paper".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lossatlas.connectivity.evaluate import shuffled
from lossatlas.data.tensors import Split
from lossatlas.similarity import predictions
from lossatlas.simplex import complexes, ensembles, sampling
from lossatlas.simplex.complexes import Complex
from lossatlas.simplex.geometry import Shape, effective_edge, shape_of
from lossatlas.simplex.points import buffers_at, log_probs, loss_and_error, rows
from lossatlas.simplex.spro import Grown, grow
from lossatlas.simplex.volume_term import PAPER_EPSILON
from lossatlas.store import Array, Record, Rows, Scalar
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator

if TYPE_CHECKING:
    from lossatlas.metrics.simplex_volume import SimplexVolume
    from lossatlas.training.state import State

# The number of a way is its place.
WAYS: dict[str, dict[str, Any]] = {
    "fixed": {"mode": "fixed", "epsilon": None},
    "epsilon": {"mode": "fixed", "epsilon": PAPER_EPSILON},
    "paper": {"mode": "paper", "epsilon": None},
}


def measure(networks: Networks, settings: SimplexVolume, state: State | None = None) -> Record:
    """Grow the complex between two replicas, and again between the next two, in all ways.

    Args:
        networks: The replicas.
        settings: Of the metric; its `mode` and `epsilon` are not looked at.
        state: Where unfinished work is kept and found.

    Returns:
        A record with the final log-volume of each way (at the largest strength) and pair as
        scalars, and the table `volume` (what diverged is missing, and pairs for which
        too few replicas ended well): pair, way (see `WAYS`), regularisation, strength, connectors,
        simplex, log_volume, height (of the newest vertex), least_singular_value (of the edges),
        edge (of the regular simplex of that volume), train_loss (mean) and train_accuracy (least)
        at random points, test_nll and test_error (of their mixture). Array
        `singular_values` (pair, run, connectors, value), of the first simplex.

    Raises:
        UserError: If there are fewer than two replicas, or they are the same.
        Preempted: If a signal asked the job to leave; the state has been saved.
    """
    where, seeds = "metrics: simplex_volume", networks.seeds
    count = max(1, min(settings.repeats, len(seeds) // 2))
    plans = [
        complexes.chosen("shared", 2, settings.connectors, seeds[2 * pair :], where)
        for pair in range(count)
    ]
    record, found = Record("simplex_volume"), Rows()
    train = shuffled(networks.data.train, "simplex", settings.seed)
    spectra = []
    for pair, plan in enumerate(plans):
        spectra.append(_pair(record, found, pair, networks, train, plan, settings, state))
    record.tables += found.tables("volume")
    axes = ("pair", "run", "connectors", "value")
    what = "of the first simplex's edges"
    record.arrays["singular_values"] = Array(np.stack(spectra), axes, "", what)
    return record


def _pair(
    record: Record,
    found: Rows,
    pair: int,
    networks: Networks,
    train: Split,
    plan: Complex,
    settings: SimplexVolume,
    state: State | None,
) -> np.ndarray:
    """Grow the complex of one pair in all ways; return singular values (run, connectors, value)."""
    functional, buffers = networks.functional, networks.one(0)[1]
    points = rows(networks.params, functional.shapes)
    modes = points[[networks.seeds.index(seed) for seed in plan.modes]]
    strengths = sorted(set(settings.regularisations))
    (first, second), count = plan.modes, settings.connectors
    words = ("volume", first, second)
    spectra = np.full((len(WAYS) * len(strengths), count, count), math.nan)
    run = 0
    for number, (way, changes) in enumerate(WAYS.items()):
        last, status = math.nan, "undefined"
        for regularisation in strengths:
            same = way == "epsilon" and not regularisation  # as "fixed": its vertices are taken
            how = {**(WAYS["fixed"] if same else changes), "regularisation": regularisation}
            asked = settings.model_copy(update=how)
            part = None if state is None else state.part(first, second, way, regularisation)
            grown = grow(functional, buffers, modes, train, plan, asked, part, words)
            head = {"pair": float(pair), "way": float(number), "regularisation": regularisation}
            shapes = _add(found, head, networks, train, plan, grown, settings)
            for row, shape in enumerate(shapes):
                spectra[run, row, : row + 1] = shape.singular_values.numpy()
            status = "diverged" if grown.diverged else "undefined"
            last = math.nan if grown.diverged else shapes[-1].log_volume
            run += 1
        value, status = (last, "ok") if math.isfinite(last) else (math.nan, status)
        record.scalars.append(Scalar(f"log_volume_{way}", value, first, second, status=status))
    return spectra


def _add(
    found: Rows,
    head: dict[str, float],
    networks: Networks,
    train: Split,
    plan: Complex,
    grown: Grown,
    settings: SimplexVolume,
) -> list[Shape]:
    """Add the rows of one run; return the shape of the first simplex for each size."""
    firsts = []
    for connectors, strength in enumerate(grown.strengths, 1):
        simplexes = plan.until(connectors)
        inside = _inside(networks, train, simplexes, grown.vertices, settings)
        for index, simplex in enumerate(simplexes):
            shape = shape_of(grown.vertices[list(simplex)])
            if not index:
                firsts.append(shape)
            known = shape.status == "ok"
            found.add(
                **head,
                strength=strength,
                connectors=connectors,
                simplex=index,
                log_volume=shape.log_volume if known else math.nan,
                height=float(shape.heights[-1]),
                least_singular_value=float(shape.singular_values[-1]),
                edge=effective_edge(shape.log_volume, connectors),
                **inside,
            )
    return firsts


def _inside(
    networks: Networks,
    train: Split,
    simplexes: list[tuple[int, ...]],
    vertices: Tensor,
    settings: SimplexVolume,
) -> dict[str, float]:
    """Evaluate random points of a complex, the same for every run."""
    equal = sampling.shares([0.0] * len(simplexes))
    draw = generator("volume", settings.seed, len(simplexes[0]))
    weights = sampling.in_complex(simplexes, equal, settings.points, len(vertices), draw)
    points = weights.to(vertices.device, vertices.dtype) @ vertices
    functional, buffers = networks.functional, networks.one(0)[1]
    own = buffers_at(functional, points, buffers, train.images)
    losses, errors = loss_and_error(functional, points, own, train)
    test = networks.data.test
    mixed = ensembles.mixture(log_probs(functional, points, own, test.images).cpu().numpy())
    labels = test.labels.cpu().numpy()
    return {
        "train_loss": float(losses.mean()),
        "train_accuracy": 100.0 - float(errors.max()),
        "test_nll": predictions.nll(mixed, labels),
        "test_error": 100.0 - predictions.accuracy(mixed, labels),
    }
