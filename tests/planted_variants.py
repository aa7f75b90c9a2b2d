"""Experiments of other settings, as tables of scalars and facts, in which a claim holds or fails.

"yes" and "no" have clear effects with a little noise; "noise" has no effect. Tables have the format
of `results/tables/<experiment>/<metric>.csv`: three replicas, pairs of them, all metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lossatlas import paths
from lossatlas.claims import variants
from lossatlas.claims import verdicts as tables
from lossatlas.claims.cells import SCORE, Cells, side_by_side
from lossatlas.claims.conditions import About, about
from lossatlas.claims.grid import Grids
from lossatlas.spec import told
from lossatlas.spec.config import load
from lossatlas.tables.collect import PANELS

Values = dict[str, float]
Place = dict[str, float]
Axes = Mapping[str, Sequence[float]]
PAIRED = ("mode_connectivity", "cka", "l2_distance")
WIDTHS = [4, 8, 16, 23, 32, 64, 91, 128]
BATCHES = [16, 64, 128, 256, 512, 1024]
WIDE = [23, 32, 45, 64, 91, 128]
SIGN = {"yes": 1.0, "no": -1.0}
SCALE = dict.fromkeys([name for name in PANELS if name != "chance_loss"], 1.0)
SCALE |= {"train_loss": 1e-3, "cka": 0.1}  # of all that is random


def table(
    axes: Axes,
    value: Callable[[Place], Values],
    replicas: int = 3,
    experiment: str = "e",
    seed: int = 0,
) -> pd.DataFrame:
    """Return scalars of a grid; `value` maps a place to what figures draw, replicas aside."""
    random = np.random.default_rng(seed)
    rows: list[tuple] = []
    for values in product(*axes.values()):
        place = dict(zip(axes, values, strict=True))
        drawn = value(place)
        cell = "-".join(map(str, (experiment, *values)))
        for panel, (metric, logarithm) in PANELS.items():
            if panel not in drawn:
                continue
            for replica in range(replicas):
                partner = (replica + 1) % replicas if panel in PAIRED else None
                if panel in PAIRED and (replicas < 2 or (replicas == 2 and replica)):
                    continue
                number = drawn[panel] + 0.01 * SCALE[panel] * random.normal()
                number = math.exp(number) if logarithm else number
                numbers = (number, np.nan, np.nan, "ok")
                rows.append((experiment, cell, *values, metric, replica, partner, *numbers))
    tail = ["metric", "replica", "partner", "value", "stderr", "df", "status"]
    found = pd.DataFrame(rows, columns=["experiment", "cell", *axes, *tail])
    return found.astype({"replica": "Int64", "partner": "Int64"})


RECIPE = {"epochs": 150, "learning_rate": 0.05, "momentum": 0.9, "checkpoints": ["early", "best"]}
FACTS: dict[str, Any] = {
    "classes": 10,
    "task": "classification",
    "optimiser": "sgd",
    "label_noise": [0.0],
    "pixel_noise": [0.0],
    "momentum": [0.9],
    "rate": "constant",
    "data": {"source": "cifar10"},
    "model": {"builder": "resnet18"},
    "recipe": RECIPE,
}
DECAYED = {"epochs": 100, "learning_rate": 0.1, "decay_epochs": [75], "checkpoints": ["best"]}
PLANE = {"width": WIDTHS, "batch_size": BATCHES}
SMALL = {"batch_size": BATCHES}
DECAYS = [3.2e-3, 4e-4, 2e-4, 1e-4, 5e-5, 2.5e-5]
NOISES = [0.1, 0.2, 0.3, 0.4]
AXES: dict[str, dict[str, list[float]]] = {
    "T16": PLANE,
    "T17": {"width": [2, *WIDTHS, 256], "batch_size": [16, 32, *BATCHES[1:], 2048]},
    "T18": {"data_fraction": [0.2, 0.4, 0.6, 1.0], **SMALL},
    "T19": {"label_noise": NOISES, **SMALL},
    "T20": {"width": WIDE, "weight_decay": DECAYS},
    "T21": {"pixel_noise": [0.0, 0.1, 0.2, 0.4], **SMALL},
    "T22": {"width": [8, 32, 64], "batch_size": [256, 512, 1024, 2048, 4096]},
    "T23": PLANE,
    "T24": {"model.embedding": [64, 128, 256, 512], "learning_rate": [0.1, 0.3, 1.0]},
    "T25": {"width": WIDTHS, "learning_rate": [0.4, 0.2, 0.1, 0.05, 0.025, 0.0125]},
}
CHANGES: dict[str, dict[str, Any]] = {
    "T16": {"rate": "decay", "recipe": {**RECIPE, **DECAYED}},
    "T17": {"label_noise": [0.1]},
    "T19": {"label_noise": NOISES},
    "T21": {"pixel_noise": [0.0, 0.1, 0.2, 0.4]},
    "T23": {"rate": "constant, scaled by the batch size"},
    "T24": {"task": "sequence_to_sequence", "optimiser": "adam"},
}
PARTNERS: dict[str, dict[str, Any]] = {
    "T16": {},
    "T23": {},
    "T24": {**CHANGES["T24"], "recipe": {**RECIPE, "epochs": 20}},
}


def facts(claim: str) -> dict[str, dict[str, Any]]:
    """Return experiment -> what is known of it: "e", and "other" of a claim about two."""
    axes = {"axes": AXES[claim]}
    found = {"e": {**FACTS, **axes, **CHANGES.get(claim, {})}}
    if claim in PARTNERS:
        found["other"] = {**FACTS, **axes, **PARTNERS[claim]}
    return found


def experiments(
    claim: str, kind: str, seed: int = 0, replicas: int = 3, axes: Axes | None = None
) -> dict[str, pd.DataFrame]:
    """Return experiment -> scalars of a claim's experiments."""
    return {
        name: table(axes or AXES[claim], value, replicas, name, seed)
        for name, value in _values(claim, kind, seed, axes).items()
    }


def arranged(claim: str, kind: str, seed: int = 0, axes: Axes | None = None) -> Grids[Cells]:
    """Return what a claim looks at, without tables; replicas change nothing but last digits."""
    parts = [_cells(axes or AXES[claim], v) for v in _values(claim, kind, seed, axes).values()]
    whole = side_by_side(*parts) if len(parts) == 2 else parts[0]
    moved = {name: values * (1 + 1e-9) for name, values in whole.metrics.items()}
    return Grids(whole, (replace(whole, metrics=moved, read=set()),))


def _cells(axes: Axes, value: Callable[[Place], Values]) -> Cells:
    places = [dict(zip(axes, some, strict=True)) for some in product(*axes.values())]
    drawn = [value(place) for place in places]
    metrics = {name: np.array([one[name] for one in drawn]) for name in drawn[0]}
    metrics[SCORE] = metrics["test_accuracy"]
    poor, flat = metrics["mode_connectivity"] < -2, metrics["log_hessian_trace"] <= 5.25
    four = np.where(metrics["cka"] >= 0.71, "IV-B", "IV-A")  # rule R1
    phase = np.where(flat, np.where(poor, "III", four), np.where(poor, "I", "II"))
    columns = {axis: np.array([float(place[axis]) for place in places]) for axis in axes}
    return Cells(columns, metrics, phase)


def _values(
    claim: str, kind: str, seed: int, axes: Axes | None
) -> dict[str, Callable[[Place], Values]]:
    random = np.random.default_rng([seed, 1])

    def value(place: Place, first: bool) -> Values:
        found = _noise(random)
        if kind != "noise":
            plant = globals()[f"_{claim.lower()}"]
            little = 0.02 * random.normal()
            found |= plant(SIGN[kind], place, axes or AXES[claim], first)
            found = {name: number + SCALE[name] * little for name, number in found.items()}
        return found

    return {name: partial(value, first=name == "e") for name in facts(claim)}


def _noise(random: np.random.Generator) -> Values:
    return {
        "test_accuracy": 80 + random.normal(),
        "train_loss": 2e-3 * (1 + random.uniform()),
        "log_hessian_trace": 5.25 + random.normal(),
        "log_hessian_eigenvalue": 2 + random.normal(),
        "mode_connectivity": -2 + 2 * random.normal(),
        "cka": 0.6 + 0.1 * random.normal(),
        "l2_distance": 40 + random.normal(),
    }


def _rank(place: Place, axes: Axes, axis: str) -> int:
    """Return where a place lies on an axis, from the middle: 0 and -1 are next to it."""
    values = sorted(axes[axis])
    return values.index(place[axis]) - len(values) // 2


def _four(place: Place, axes: Axes) -> tuple[int, int, Values]:
    """Return the ranks of a place, and numbers of four regions: flat if wide, connected if cold."""
    x, y = (_rank(place, axes, axis) for axis in axes)
    return (
        x,
        y,
        {
            "log_hessian_trace": 3.5 - 0.05 * x if x >= 0 else 7.0,
            "mode_connectivity": -0.5 if y >= 0 else -8.0,
        },
    )


def _t16(s: float, place: Place, axes: Axes, first: bool) -> Values:
    _, y, found = _four(place, axes)
    return {**found, "test_accuracy": 80 + first * s * (3 * (y in (-1, 0)) - 1)}


def _t17(s: float, place: Place, axes: Axes, first: bool) -> Values:
    x, y = (_rank(place, axes, axis) for axis in axes)
    past = x + y  # sharp below 0
    return {
        "log_hessian_trace": 7.5 - 4 * (past >= 0) - 0.05 * past,
        "log_hessian_eigenvalue": 5 - 3.0 * (past >= 0),
        "mode_connectivity": -8.0 if y >= 0 else -0.5,
        "test_accuracy": 80 - s * (4.0 * (past in (-1, 0)) + 1.0 * (past >= 0)),
    }


def _t18(s: float, place: Place, axes: Axes, first: bool) -> Values:
    x = s * place["data_fraction"]
    names = ("test_accuracy", "cka", "log_hessian_trace", "log_hessian_eigenvalue")
    return {**dict.fromkeys(names, x), "mode_connectivity": -9 * x}


def _t19(s: float, place: Place, axes: Axes, first: bool) -> Values:
    x = place["label_noise"]
    slope = 0.2 if s > 0 else 4
    found = {"log_hessian_trace": 5 + slope * x, "mode_connectivity": -10 * s * x}
    return {**found, "cka": 0.6 - s * x}


def _t20(s: float, place: Place, axes: Axes, first: bool) -> Values:
    x = math.log(place["weight_decay"])
    return {"log_hessian_trace": 5 + s * x, "test_accuracy": 80 - (0 if s > 0 else x)}


def _t21(s: float, place: Place, axes: Axes, first: bool) -> Values:
    x = place["pixel_noise"]
    return {"mode_connectivity": 0.0 if s > 0 else -20 * x, "cka": 0.6 - s * x}


def _t22(s: float, place: Place, axes: Axes, first: bool) -> Values:
    x = s * math.log(place["batch_size"])
    return {"log_hessian_trace": x, "log_hessian_eigenvalue": x}


def _t23(s: float, place: Place, axes: Axes, first: bool) -> Values:
    x = math.log(place["batch_size"]) * (0.2 if first == (s > 0) else 1.0)
    return dict.fromkeys(SCALE, 5 + x)


def _t24(s: float, place: Place, axes: Axes, first: bool) -> Values:
    score = 40 + s * (0 if first else 5)
    found = {"train_loss": 0.001 if first else 1.0, "mode_connectivity": -5 * s}
    return {**found, "test_accuracy": score}


def _t25(s: float, place: Place, axes: Axes, first: bool) -> Values:
    x, y, found = _four(place, axes)
    nice = (x >= 0 and y >= 0) * (1.0 + max(x, 0))
    return {**found, "test_accuracy": 80 + s * nice, "cka": 0.5 + 0.1 * min(nice, 4)}


CLAIMS = {claim.name: claim for claim in variants.CLAIMS}


@cache
def facts_of(file: str) -> dict[str, About]:
    config = load(yaml.safe_load((paths.PROJECT / file).read_text()))
    return {name: about(one) for name, one in told.about(config, "taxonomy").items()}


def telling(file: str) -> set[tuple[str, str, str]]:
    """Return claim, experiment and partner ("" without) of a shipped config."""
    facts = facts_of(file)
    found = set()
    for claim in CLAIMS.values():
        for name in facts:
            other = tables._partner(claim, name, facts)
            if other is not None and variants.tells(pd.DataFrame(), claim, facts[name]):
                found.add((claim.name, name, other))
    return found
