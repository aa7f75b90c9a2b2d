"""Tables of recorded paths with plausible numbers, of any experiment that a config has."""

from typing import Any

import numpy as np
import pandas as pd

from lossatlas.figures import Tables
from lossatlas.metrics.diffusion import Diffusion
from lossatlas.spec.config import Config
from lossatlas.tables.collect import SCALAR, SERIES

POINTS = 40  # of a curve
IMAGES = {"mnist": 60_000}
WINDOWED = {  # quantity -> first and last x; the lags of a window end at a quarter of it
    "msd": (1, 0.25),
    "still_msd": (1, 0.25),
    "surrogate_msd": (1, 0.25),
    "local_exponent": (1, 0.25),
    "msd_from_start": (1, 1.0),
    "velocity_correlation": (1, 0.1),
}


def tables(config: Config, name: str) -> Tables:
    """Return the tables of `diffusion` of all cells, replicas and windows of an experiment."""
    experiment = config.experiments[name]
    scalars: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for cell in config.cells(name):
        place = {axis: float(cell.axis(axis)) for axis in experiment.axes}
        data = IMAGES.get(cell.data.source, 50_000)
        steps, record = cell.recipe.steps(data), cell.recipe.record
        firsts = [first for first, _ in record.windows(steps)]
        for replica in experiment.seed_list:
            who = {"experiment": name, "cell": cell.id, **place, "replica": replica}
            rng = np.random.default_rng(replica)
            numbers = _numbers(cell.recipe.learning_rate, rng)
            scalars += [
                {**who, "metric": metric, "value": value, "status": status}
                for metric, (value, status) in numbers.items()
            ]
            for first in firsts:
                parts += _window(who, first, first / steps, record.length, cell.recipe, rng)
            parts += _whole(who, steps, firsts, rng)
    axes = ["experiment", "cell", *experiment.axes]
    series = _joined(parts)
    own = [key for key in series if key not in (*axes, *SERIES)]
    series = series.reindex(columns=[*axes, *SERIES[:3], *own, *SERIES[3:]])
    whole = {"replica": "Int64", "window": "Int64"}
    table = pd.DataFrame(scalars).reindex(columns=[*axes, *SCALAR])
    return Tables(table, series.astype(whole))


def _numbers(rate: float, rng: np.random.Generator) -> dict[str, tuple[float, str]]:
    """Return values and statuses of the scalars of a run."""
    found: dict[str, tuple[float, str]] = {}
    for number in Diffusion.numbers():
        for when, level in (("first", 1.3), ("last", 0.7)):
            found[f"{number}_{when}"] = (level + 0.05 * rng.standard_normal(), "ok")
    found["exponent_first"] = (2 - 0.3 * np.log10(1 + 100 * rate), "ok")
    found["crossover_first"] = (90 + 30 * rng.random(), "ok")
    return found


def _joined(parts: list[dict[str, Any]]) -> pd.DataFrame:
    """Return parts, numbers and columns of equal length by name, below each other."""
    lengths = [max(np.size(value) for value in part.values()) for part in parts]
    keys = dict.fromkeys(key for part in parts for key in part)
    columns = {
        key: np.concatenate([
            np.broadcast_to(np.asarray(part.get(key, np.nan)), n).astype(object)
            for part, n in zip(parts, lengths, strict=True)
        ])
        for key in keys
    }  # fmt: skip
    return pd.DataFrame(columns).infer_objects()


def _curve(who: dict, name: str, x: Any, y: Any, **index: Any) -> dict[str, Any]:
    return {**who, "series": name, **index, "x": x, "y": y, "status": "ok"}


def _window(
    who: dict, first: int, when: float, length: int, recipe: Any, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return the curves and tables of a window; `when` is its place in the run, from 0 to 1."""
    slope = 2 - 1.3 * when if recipe.learning_rate > 0.01 else 2.0
    size = recipe.learning_rate**2 * 10 ** (1 - 2 * when)
    found = []
    for name, (low, share) in WINDOWED.items():
        x = np.unique(np.rint(np.geomspace(low, max(share * length, 4), POINTS)))
        y = size * x**slope * np.exp(0.02 * rng.standard_normal(len(x)))
        if name == "local_exponent":
            y = slope + 0.05 * rng.standard_normal(len(x))
        if name == "velocity_correlation":
            y = -0.3 / x
        found.append(_curve(who, name, x, y, window=first))
    x = np.geomspace(0.1, 10, POINTS)
    y = 0.01 * x**slope * (1 + rng.random())
    names = ("msl", "msl_contour", "msd_contour", "excursion")
    found += [_curve(who, name, x, y, window=first) for name in names]
    x = np.linspace(-0.05, 0.05, 121)
    laws = {"gradient_density": 0.01, "gradient_stable": 0.01, "gradient_normal": 0.013}
    for name, scale in laws.items():
        y = np.exp(-np.abs(x) / scale * (1 + when)) / scale
        found.append(_curve(who, name, x, y, window=first))
    x = np.arange(401.0)
    found.append(_curve(who, "loss_change", x, np.exp(rng.standard_normal(401) - 3), window=first))
    q = np.array([0.5, 1, 2, 3, 4])
    found.append(_curve(who, "moment_exponent", q, slope * q / 2, window=first))
    runs = rng.zipf(2.5 + when, 150)
    runs = runs[runs < 40]
    x = np.arange(1, runs.max() + 1)
    counts = [(runs == one).sum() for one in x]
    found.append(_curve(who, "avalanche_length", x, counts, window=first))
    step = np.arange(51)
    after = {
        "change": np.exp(-step / 9) * (1 + rng.random()),
        "contour": 0.1 * step * (1 - when / 2),
    }
    head = {**who, "window": first, "status": "ok"}
    found.append({**head, "series": "after_avalanche", "step": step, **after})
    walk = rng.standard_normal((300, 2)).cumsum(0)
    path = {"step": np.arange(300), "u": walk[:, 0], "v": walk[:, 1]}
    found.append({**head, "series": "principal_path", **path})
    return found


def _whole(
    who: dict, steps: int, firsts: list[int], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return the curves of the whole run, and the numbers of its windows."""
    time = np.linspace(0, steps, 300)
    lags = np.geomspace(1, steps / 4, POINTS)
    found = [
        _curve(who, "loss", time, 2.3 * np.exp(-3 * time / steps) * (1 + 0.2 * rng.random(300))),
        _curve(who, "moving_variance", time, 0.01 * np.exp(-3 * time / steps)),
        _curve(who, "msd_run", lags, 0.01 * lags**1.3),
        _curve(who, "still_msd_run", lags, 0.01 * lags**1.1),
    ]
    late = np.array(firsts) / steps
    numbers = {"exponent": 1.4, "still_exponent": 1.2, "surrogate_exponent": 1.0}
    numbers |= {"stable_alpha": 1.7, "mixture_alpha": 1.6, "layer_alpha": 1.8}
    numbers |= {"standardised_alpha": 1.9}
    for name, level in numbers.items():
        y = level - 0.6 * late + 0.02 * rng.random(len(firsts))
        found.append(_curve(who, name, firsts, y))
    return found
