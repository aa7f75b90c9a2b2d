"""Standard errors of recorded paths: blocks of one run, replicas, walkers, tails."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from scipy.signal import lfilter

from intervals.coverage import Case
from lossatlas import uncertainty
from lossatlas.diffusion import contour, roughness, stable, surfaces, tails
from lossatlas.diffusion.arrays import log_lags
from lossatlas.diffusion.ensembles import walker_msd
from lossatlas.diffusion.exponents import fit_exponent
from lossatlas.diffusion.gram import path_of_points, squared_distances, without_drift
from lossatlas.diffusion.measure import Sheet
from lossatlas.diffusion.msd import time_averaged_msd
from lossatlas.diffusion.replicas import with_means
from lossatlas.diffusion.surrogates import of_mean, surrogate_msd
from lossatlas.diffusion.window import slope, slope_of_reliable, two_slopes
from lossatlas.metrics.diffusion import Diffusion
from lossatlas.store import Record, Scalar

POINTS, LAGS, REPLICATES = 481, log_lags(1, 120), 50
FIT = (10.0, 100.0)


def steps_of(kind, random, dimension):
    """Points (POINTS, dimension) of a random process."""
    shape = (POINTS + 200, dimension)
    noise = random.standard_t(3, size=shape) if kind == "heavy" else random.normal(size=shape)
    if kind == "trapped":
        return lfilter([1], [1, -0.97], noise, axis=0)[-POINTS:]
    if kind == "persistent":
        noise = lfilter([1], [1, -0.9], noise, axis=0)
    noise = noise[-POINTS:]
    if kind == "transient":  # as in the first steps of SGD: large steps, then small ones
        noise = noise * np.exp(-np.arange(POINTS) / 40)[:, None] + 0.05 * random.normal(
            size=noise.shape
        )
    return np.cumsum(noise, axis=0)


def curve_of(points, random, *, still=False):
    """The curve of displacement that records have, of a window."""
    path = path_of_points(points)
    distances = squared_distances(without_drift(path) if still else path)
    return time_averaged_msd(distances, LAGS, rng=random, replicates=REPLICATES)


def columns(found):
    """Estimates, standard errors and degrees of freedom of numbers."""
    return tuple(np.array(column, dtype=float) for column in zip(*found, strict=True))


def repeated(once):
    """Return a case's function that makes one estimate after another."""

    def run(random, repeats):
        found = (once(random) for _ in range(repeats))
        return columns([(one.value, one.stderr, one.df) for one in found])

    return run


def of_window(kind, dimension, number, *, still=False):
    """A case's function: a number of one window of one run, its error from blocks."""

    def once(random):
        curve = curve_of(steps_of(kind, random, dimension), random, still=still)
        one = number(curve)
        return one

    return repeated(once)


exponent = partial(slope, fit=FIT)


def level(curve, *, lag):
    """Mean squared displacement at a lag."""
    at = int(np.argmin(np.abs(curve.x - lag)))
    return uncertainty.Estimate(float(curve.y[at]), float(curve.stderr[at]), curve.df)


def bent(curve, *, name):
    """One of the numbers of the line with a bend."""
    sheet = Sheet(0, Diffusion())
    two_slopes(sheet, curve, 0)
    return sheet.numbers[name][0]


def of_contour(kind, dimension):
    """A case's function: the exponent against path length."""

    def once(random):
        path = path_of_points(steps_of(kind, random, dimension)[:241])
        curve = contour.msd_against_contour(path, rng=random, replicates=REPLICATES)
        one = slope_of_reliable(curve)
        return one

    return repeated(once)


def of_loss(kind, dimension):
    """A case's function: the exponent of loss differences against distance, loss = |x|^2."""

    def once(random):
        points = steps_of(kind, random, dimension)[:241]
        loss = np.square(points).sum(axis=1)
        path = path_of_points(points)
        curve = contour.msl_against_distance(path, loss, rng=random, replicates=REPLICATES)
        one = slope_of_reliable(curve)
        return one

    return repeated(once)


def over_replicas(kind, dimension, count):
    """A case's function: the mean exponent over the replicas of a cell."""

    def once(random):
        rows = []
        for seed in range(count):
            points = steps_of(kind, random, dimension)
            path = squared_distances(path_of_points(points))
            one = slope(time_averaged_msd(path, LAGS), FIT)
            rows.append(Scalar("exponent_first", one.value, seed, status=one.status))
        mean = with_means(Record("diffusion", rows), "").scalar("exponent_first_mean")
        return mean

    return repeated(once)


def of_surrogates(members):
    """A case's function: the exponent of reordered steps of one path."""

    def run(random, repeats):
        path = path_of_points(steps_of("persistent", random, 10)[:241])
        found = []
        for _ in range(repeats):
            curve = of_mean(surrogate_msd(path, random, members=members, lags=log_lags(1, 60)))
            one = slope(curve, (5.0, 50.0))
            found.append((one.value, one.stderr, one.df))
        return columns(found)

    return run


def of_walkers(surfaces_, walkers):
    """A case's function: the exponent of walkers that share surfaces."""

    def once(random):
        labels = np.repeat(np.arange(surfaces_), walkers)
        pull = np.exp(0.5 * random.normal(size=surfaces_))[labels]
        noise = random.normal(size=(101, surfaces_ * walkers, 2))
        points = np.cumsum(noise, axis=0)
        points /= np.sqrt(1 + pull[:, None] * np.arange(101)[:, None, None] / 100)
        groups = labels if surfaces_ >= 5 else None
        curve = walker_msd(points, groups=groups, rng=random, replicates=REPLICATES)
        one = fit_exponent(curve, 1, 10)
        return one

    return repeated(once)


def of_surfaces(count, side=65):
    """A case's function: the box dimension, a mean over surfaces."""

    def once(random):
        some = [surfaces.diamond_square(side, random) for _ in range(count)]
        one = uncertainty.mean([roughness.box_counting(z).dimension for z in some])
        return one

    return repeated(once)


def of_stable(alpha, size=1000):
    """A case's function: the stable index of independent entries."""

    def run(random, repeats):
        found = []
        for _ in range(repeats):
            data = stable.sample(alpha, size, rng=random)
            fit = stable.fit_by_characteristic(data, random, REPLICATES)
            found.append((fit.law.alpha, fit.stderr.alpha or np.nan, size - 1.0))
        return *columns(found), alpha

    return run


def of_power_law(*, whole):
    """A case's function: the exponent of Pareto numbers, or of the tail of Student's t."""

    def run(random, repeats):
        found = []
        for _ in range(repeats):
            data = random.pareto(2.0, 400) + 1
            if not whole:
                data = np.abs(random.standard_t(2.0, 400))
            fit = tails.fit_power_law(data)
            found.append((fit.exponent, fit.stderr, fit.tail - 1.0))
        return *columns(found), 3.0

    return run


def of_mixture(members=10):
    """A case's function: the mean stable index of normal numbers of given scales."""

    def run(random, repeats):
        data = random.normal(size=(50, 8)) * np.exp(random.normal(size=8))
        found = []
        for _ in range(repeats):
            null = tails.scale_mixture_null(data, random, surrogates=members, entries=200)
            one = uncertainty.mean(null.null_alpha)
            found.append((one.value, one.stderr, one.df))
        return columns(found)

    return run


def cases() -> list[Case]:
    """Return all cases."""
    torch.set_num_threads(1)
    one, many = "one run, blocks", "replicas"
    moving = "the window is not stationary, which blocks take it for: replicas tell"
    bend = "where the line bends is not a smooth function of the curve"
    found = []
    kinds = [(kind, 10) for kind in ("random walk", "persistent", "trapped", "heavy")]
    for kind, dimension in [*kinds, ("random walk", 100)]:
        data = f"{kind} in {dimension} dimensions"
        quick = (kind, dimension) == ("random walk", 10)
        run = of_window(kind, dimension, exponent)
        found.append(Case(f"exponent ({one})", data, run, quick=quick))
        run = of_window(kind, dimension, exponent, still=True)
        found.append(Case(f"exponent without drift ({one})", data, run))
    walk = ("random walk", 10)
    data = "random walk in 10 dimensions"
    found += [
        Case(f"msd at lag 10 ({one})", data, of_window(*walk, partial(level, lag=10))),
        Case(f"msd at lag 100 ({one})", data, of_window(*walk, partial(level, lag=100))),
        Case(f"path_exponent ({one})", data, of_contour(*walk)),
        Case(f"msl_exponent ({one})", data, of_loss(*walk)),
        Case(f"exponent ({one})", "first window of SGD", of_window("transient", 10, exponent),
             why=moving),
    ]  # fmt: skip
    for name in ("early_exponent", "late_exponent", "crossover"):
        run = of_window("trapped", 10, partial(bent, name=name))
        found.append(Case(f"{name} ({one})", "trapped in 10 dimensions", run, why=bend))
    for count in (3, 5):
        for kind, words in (("random walk", "random walk"), ("transient", "first window of SGD")):
            run = over_replicas(kind, 10, count)
            data = f"{count} replicas, {words}"
            found.append(Case(f"exponent_mean ({many})", data, run))
    tail = "where the tail begins is chosen on the same numbers"
    found += [
        Case("surrogate_exponent", "3 reordered paths", of_surrogates(3)),
        Case("toy exponents", "5 surfaces, 20 walkers on each", of_walkers(5, 20)),
        Case("toy exponents", "1 surface, 60 walkers", of_walkers(1, 60)),
        Case("toy box_dimension", "5 surfaces", of_surfaces(5), quick=True),
        Case("stable_alpha (one run)", "1000 independent entries, alpha 1.5", of_stable(1.5)),
        Case("stable_alpha (one run)", "1000 independent entries, alpha 1", of_stable(1.0)),
        Case("noise_exponent (one run)", "400 Pareto numbers", of_power_law(whole=True), why=tail),
        Case("noise_exponent (one run)", "400 numbers of Student's t, 2 df",
             of_power_law(whole=False), why=tail),
        Case("mixture_alpha", "10 surrogates", of_mixture(),
             why="surrogates share the drawn entries, whose choice the error does not know"),
    ]  # fmt: skip
    return found
