"""Ensembles in simplexes grown with volume terms of several strengths.

The paper says that results hardly depend on the strength (Benton et al., 2021, appendix A). Its
code floors strengths at 1e-8 and adds 1e-4 to V^2, so both modes are swept: "paper" tells whether
that is so of the code, "fixed" whether it is so of the method.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.connectivity.evaluate import shuffled
from lossatlas.data.tensors import Split
from lossatlas.metrics.espro_strength import MODES
from lossatlas.similarity import predictions
from lossatlas.similarity.rows import scalar
from lossatlas.simplex import ensembles
from lossatlas.simplex.complexes import grown as grown_from
from lossatlas.simplex.geometry import shape_of
from lossatlas.simplex.measure_espro import sample
from lossatlas.simplex.points import buffers_at, log_probs, rows
from lossatlas.simplex.spro import Grown, check_modes, grow
from lossatlas.store import Record, Rows, Scalar
from lossatlas.training.networks import Networks

if TYPE_CHECKING:
    from lossatlas.metrics.espro_strength import EsproStrength
    from lossatlas.training.state import State


def measure(networks: Networks, settings: EsproStrength, state: State | None = None) -> Record:
    """Grow a simplex from each replica with each strength, in both modes.

    Args:
        networks: The replicas; the first ones are taken.
        settings: Of the metric; its `mode` and `regularisation` are not looked at.
        state: Where unfinished work is kept and found.

    Returns:
        A record with, per replica, the test NLL (nats) of its simplex at the largest strength
        (`nll_fixed`, `nll_paper`), and two tables. `strengths`, a row per replica, mode and
        strength: component (seed), way (the place in `MODES`), regularisation, strength (as the
        mode's rule makes it of that, of the last vertex), log_volume, nll (nats) and error
        (percent) of the mixture of the networks sampled in the simplex, disagreement (percent) of
        these. `mixtures`, a row per mode and strength: nll and error of the mixture over all
        components. A simplex that diverged has no row, and a mixture is of those that did not.

    Raises:
        UserError: If two replicas are the same point.
        Preempted: If a signal asked the job to leave; the state has been saved.
    """
    seeds = networks.seeds[: settings.repeats]
    check_modes(rows(networks.params, networks.functional.shapes)[: len(seeds)], seeds)
    record, found, mixed = Record("espro_strength"), Rows(), Rows()
    train = shuffled(networks.data.train, "simplex", settings.seed)
    strengths = sorted(set(settings.regularisations))
    for way, mode in enumerate(MODES):
        for regularisation in strengths:
            head = {"way": float(way), "regularisation": regularisation}
            asked = settings.model_copy(update={"mode": mode, "regularisation": regularisation})
            logs = []
            for index, seed in enumerate(seeds):
                part = None if state is None else state.part(seed, mode, regularisation)
                grown = _grow(networks, index, train, asked, part)
                nll = math.nan
                if not grown.diverged:
                    members = _members(networks, index, grown, train, asked)
                    logs.append(ensembles.mixture(members))
                    says = _assess(networks, logs[-1])
                    nll = says["nll"]
                    about = {**_shape(grown), **says, "disagreement": ensembles.diversity(members)}
                    found.add(component=float(seed), **head, **about)
                if regularisation == strengths[-1]:
                    record.scalars.append(_last(f"nll_{mode}", nll, seed, grown))
            if logs:
                says = _assess(networks, ensembles.mixture(np.stack(logs)))
                mixed.add(**head, components=float(len(logs)), **says)
    record.tables += [*found.tables("strengths"), *mixed.tables("mixtures")]
    return record


def _grow(
    networks: Networks, index: int, train: Split, settings: EsproStrength, state: State | None
) -> Grown:
    """Grow the simplex of one replica, named as the metric `espro` names it."""
    functional, seed = networks.functional, networks.seeds[index]
    mode, buffers = rows(networks.params, functional.shapes)[index], networks.one(index)[1]
    plan, words = grown_from(seed, settings.vertices), ("espro", seed)
    return grow(functional, buffers, mode[None], train, plan, settings, state, words)


def _members(
    networks: Networks, index: int, grown: Grown, train: Split, settings: EsproStrength
) -> np.ndarray:
    """Return log-probabilities (H, N, classes) of networks of a simplex on the test images."""
    points = sample(grown.vertices, settings, networks.seeds[index])
    functional, buffers = networks.functional, networks.one(index)[1]
    own = buffers_at(functional, points, buffers, train.images)
    return log_probs(functional, points, own, networks.data.test.images).cpu().numpy()


def _assess(networks: Networks, logs: np.ndarray) -> dict[str, float]:
    """Return NLL (nats) and error (percent) of log-probabilities (N, classes) of test images."""
    labels = networks.data.test.labels.cpu().numpy()
    error = 100.0 - predictions.accuracy(logs, labels)
    return {"nll": predictions.nll(logs, labels), "error": error}


def _shape(grown: Grown) -> dict[str, float]:
    shape = shape_of(grown.vertices)
    volume = shape.log_volume if shape.status == "ok" else math.nan
    return {"strength": grown.strengths[-1], "log_volume": volume}


def _last(name: str, nll: float, seed: int, grown: Grown) -> Scalar:
    if grown.diverged:
        return Scalar(name, math.nan, seed, status="diverged", unit="nats")
    return scalar(name, nll, replica=seed, unit="nats")
