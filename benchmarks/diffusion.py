"""Displacement analyses against the authors' loops over pairs of steps, and the toy walkers.

    OMP_NUM_THREADS=1 python benchmarks/diffusion.py

The loops are the definition in plain NumPy: for each pair of points one squared norm over all
parameters and one sum of step lengths. They run on a subset of pairs at the full number of
parameters, in float32 as the authors' data or in float64 as the definition, and are scaled to all
T (T - 1) / 2 pairs. Processor times on one thread, in turns; a ratio above 1 means that ours is
faster. The window is a late one: |w|^2 about 2500, MSD(1) about 3e-5; MSD is checked on it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from lossatlas.diffusion.contour import (
    mean_contour_length,
    msd_against_contour,
    msl_against_contour,
    msl_against_distance,
)
from lossatlas.diffusion.gram import (
    Path as Trajectory,
)
from lossatlas.diffusion.gram import path_of_chunks, squared_distances, without_drift
from lossatlas.diffusion.msd import lag_averages, msd_from_start, time_averaged_msd
from lossatlas.diffusion.surfaces import diamond_square
from lossatlas.diffusion.walker import Rules, walk

Row = tuple[str, float, float, float]

POINTS, PARAMETERS, CHUNK, ROUNDS = 1000, 175258, 8192, 3
LAGS = (1, 2, 10, 100, 900)
SECONDS = 2.0  # allowed for 1,000 walkers x 1,000 steps


def run(_peer: Path | None = None) -> list[Row]:
    """Return (name, median ratio, lowest, highest).

    Raises:
        AssertionError: If an MSD differs from the definition by more than 1e-9.
    """
    return _displacement() + _walkers()


def _displacement() -> list[Row]:
    weights = _late_window()
    loss = np.random.default_rng(1).standard_normal(POINTS)
    ratios: dict[str, list[float]] = {}
    for turn in range(ROUNDS):
        path, gram = _timed(lambda: path_of_chunks(_chunks(weights)))
        curve, analysis = _timed(lambda path=path: _everything(path, loss))
        averages, transform = _timed(lambda: lag_averages(_chunks(weights)))
        times = {
            "all MSD and MSL curves from a Gram matrix": analysis,
            "all MSD and MSL curves from the weights": gram + analysis,
            "lag averages from the weights": transform,
        }
        for kind in (np.float32, np.float64):
            loops = _pair(weights, turn, kind) * POINTS * (POINTS - 1) / 2
            for name, seconds in times.items():
                key = f"{name} (loops in {kind.__name__})"
                ratios.setdefault(key, []).append(loops / seconds)
    worst = max(_error(curve, weights), _error(averages.msd, weights))
    assert worst < 1e-9, f"MSD differs by {worst:.1e}"
    return [(name, statistics.median(some), min(some), max(some)) for name, some in ratios.items()]


def _walkers() -> list[Row]:
    surface = diamond_square(1025, np.random.default_rng(0))
    rows = []
    for rules in (Rules(), Rules(wall="redraw"), Rules(mode="paper")):
        ratios = []
        for turn in range(ROUNDS):
            random = np.random.default_rng(turn)
            _, seconds = _timed(
                lambda rules=rules, random=random: walk(
                    surface, rules, walkers=1000, steps=1000, rng=random
                )
            )
            ratios.append(SECONDS / seconds)
        name = f"1,000 walkers x 1,000 steps, {rules.mode}, wall {rules.wall} (2 s / ours)"
        rows.append((name, statistics.median(ratios), min(ratios), max(ratios)))
    return rows


def _late_window() -> np.ndarray:
    """Return float32 weights (T, P)."""
    random = np.random.default_rng(0)
    weights = np.empty((POINTS, PARAMETERS), np.float32)
    for first in range(0, PARAMETERS, CHUNK):
        width = min(CHUNK, PARAMETERS - first)
        centre = random.standard_normal(width) * np.sqrt(2500 / PARAMETERS)
        moves = random.standard_normal((POINTS, width)) * np.sqrt(3e-5 / PARAMETERS)
        weights[:, first : first + width] = centre + np.cumsum(moves, axis=0)
    return weights


def _chunks(weights: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, PARAMETERS, CHUNK):
        yield weights[:, first : first + CHUNK]


def _everything(path: Trajectory, loss: np.ndarray) -> np.ndarray:
    distances = squared_distances(path)
    curve = time_averaged_msd(distances)
    time_averaged_msd(squared_distances(without_drift(path)))
    msd_from_start(distances)
    mean_contour_length(path)
    msd_against_contour(path)
    msl_against_contour(path, loss)
    msl_against_distance(path, loss)
    return curve.y


def _pair(weights: np.ndarray, turn: int, kind: type) -> float:
    """Return the seconds of one pair in the loops."""
    lengths = np.ones(POINTS)
    first = weights[turn].astype(kind)
    others = range(turn + 1, POINTS, 3)
    rows = [weights[j].astype(kind) for j in others]  # the authors hold one precision throughout
    start = time.process_time()
    for j, row in zip(others, rows, strict=True):
        difference = first - row
        np.sum(difference * difference)
        np.sum(lengths[turn:j])
    return (time.process_time() - start) / len(others)


def _error(curve: np.ndarray, weights: np.ndarray) -> float:
    """Return the largest relative error of an MSD against the definition in float64."""
    worst = 0.0
    for lag in LAGS:
        total = 0.0
        for i in range(POINTS - lag):
            total += np.square(weights[i + lag].astype(np.float64) - weights[i]).sum()
        worst = max(worst, abs(curve[lag - 1] * (POINTS - lag) / total - 1))
    return worst


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


if __name__ == "__main__":
    for name, middle, low, high in run():
        print(f"{name:66} {middle:8.1f}  ({low:.1f} to {high:.1f})")
