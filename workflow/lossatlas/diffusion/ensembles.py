"""Ensembles of toy walkers: displacement curves and how many get stuck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, Ints, finite
from lossatlas.diffusion.curves import REPLICATES, Curve, curve_of_blocks
from lossatlas.diffusion.msd import displacement_of_walkers
from lossatlas.diffusion.walker import Field, Rules, walk


@dataclass(frozen=True)
class Ensemble:
    """Walkers on several surfaces under one set of rules.

    Attributes:
        rules: The rules.
        walkers: Walkers in total.
        stuck: Share of them stuck at least once.
        discarded: Share discarded.
        wall_share: Share of all steps at which the wall acted.
        windows: (first, last) recorded point of each window, both included.
        msd: One curve per window, time-averaged and then averaged over all walkers (in mode `paper`
            over those not discarded; NaN if none is left); errors from resampling surfaces if there
            are at least 5, else walkers.
        msd_without_drift: The same after subtracting each walker's mean increment in the window.
    """

    rules: Rules
    walkers: int
    stuck: float
    discarded: float
    wall_share: float
    windows: tuple[tuple[int, int], ...]
    msd: tuple[Curve, ...]
    msd_without_drift: tuple[Curve, ...]


def walker_msd(
    positions: Array,
    *,
    without_drift: bool = False,
    groups: Ints | None = None,
    rng: np.random.Generator | None = None,
    replicates: int = REPLICATES,
) -> Curve:
    """Average the time-averaged MSD over walkers; errors from resampling them.

    Args:
        positions: (T, W, d) a window of their paths.
        without_drift: Subtract each walker's mean increment first.
        groups: (W,) labels 0, 1, ...; walkers with one label are resampled together. Default: each
            on its own.
        rng: For errors; None: no errors.
        replicates: Bootstrap replicates.

    Raises:
        ValueError: If positions are not finite or have fewer than 2 points.
    """
    points = finite(positions, "positions", dimensions=3, least=2)
    size, walkers = points.shape[:2]
    if without_drift:
        time = np.arange(size)[:, None, None] / (size - 1)
        points = points - time * (points[-1] - points[0])
    each = displacement_of_walkers(points).T
    pairs = np.broadcast_to(np.arange(size - 1, 0, -1.0), each.shape)
    labels = np.arange(walkers) if groups is None else groups
    sums = np.zeros((int(labels.max(initial=0)) + 1, size - 1))
    counts = np.zeros_like(sums)
    np.add.at(sums, labels, each * pairs)
    np.add.at(counts, labels, pairs)
    lag = np.arange(1, size)
    return curve_of_blocks(lag.astype(np.float64), sums, counts, lag <= size / 4, rng, replicates)


def ensemble(
    surfaces: Sequence[ArrayLike] | Field,
    rules: Rules,
    *,
    walkers: int,
    steps: int,
    rng: np.random.Generator,
    windows: Sequence[tuple[int, int]] = ((0, 200), (501, 1000)),
) -> Ensemble:
    """Walk on each of several surfaces and summarise all walkers, stuck ones included.

    Args:
        surfaces: Realisations of one kind of surface, of one size, or their `Field` to reuse.
        rules: How they move.
        walkers: Walkers on each surface.
        steps: Steps of each.
        rng: Draws starts and noise.
        windows: (first, last) points of the analysis, both included.

    Raises:
        ValueError: If there is no surface or a window does not fit into the walk.
    """
    if not isinstance(surfaces, Field) and not len(surfaces):
        raise ValueError("an ensemble needs at least one surface")
    for first, last in windows:
        if not 0 <= first < last <= steps:
            raise ValueError(f"window {first}..{last} does not fit into a walk of {steps} steps")
    field = surfaces if isinstance(surfaces, Field) else Field(np.stack(surfaces), rules.mode)
    count = field.count
    found = walk(field, rules, walkers=walkers * count, steps=steps, rng=rng)
    kept = ~found.discarded if rules.mode == "paper" else np.ones_like(found.discarded)
    labels = np.repeat(np.arange(count), walkers)[kept]
    groups = labels if count >= 5 else None
    positions = found.positions[:, kept]
    curves = {
        still: tuple(
            walker_msd(positions[a : b + 1], without_drift=still, groups=groups, rng=rng)
            for a, b in windows
        )
        for still in (False, True)
    }
    return Ensemble(
        rules,
        walkers * count,
        float(found.stuck.mean()),
        float(found.discarded.mean()),
        float(found.wall_share.mean()),
        tuple((int(a), int(b)) for a, b in windows),
        curves[False],
        curves[True],
    )
