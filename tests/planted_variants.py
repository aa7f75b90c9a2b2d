"""Experiments of other settings, as tables of scalars and facts, in which a claim holds or fails.

"yes" and "no" have clear effects with a little noise; "noise" has no effect. Tables have the format
of `results/tables/<experiment>/<metric>.csv`: three replicas, pairs of them, all metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from lossatlas.tables.collect import PANELS

Values = dict[str, float]
Place = dict[str, float]
PAIRED = ("mode_connectivity", "cka", "l2_distance")
WIDTHS = [2, 4, 8, 16, 23, 32, 45, 64, 91, 128]
BATCHES = [16, 32, 64, 128, 256, 512, 724, 1024]
SIGN = {"yes": 1.0, "no": -1.0}
SPREAD = {"train_loss": 1e-5, "cka": 1e-3}  # between replicas


def table(
    axes: Mapping[str, Sequence[float]],
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
                number = drawn[panel] + SPREAD.get(panel, 0.01) * random.normal()
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
    "T17": PLANE,
    "T18": {"data_fraction": [0.2, 0.4, 0.6, 0.8, 1.0], **SMALL},
    "T19": {"label_noise": NOISES, **SMALL},
    "T20": {"width": WIDTHS, "weight_decay": DECAYS},
    "T21": {"pixel_noise": [0.0, *NOISES], **SMALL},
    "T22": {"width": [8, 16, 32, 64], "batch_size": [256, 512, 1024, 2048, 4096]},
    "T23": PLANE,
    "T24": {"model.embedding": [64, 128, 256, 512], "learning_rate": [0.1, 0.3, 1.0]},
    "T25": {"width": WIDTHS, "learning_rate": [0.4, 0.2, 0.1, 0.05, 0.025, 0.0125, 0.00625]},
}
CHANGES: dict[str, dict[str, Any]] = {
    "T16": {"rate": "decay", "recipe": {**RECIPE, **DECAYED}},
    "T17": {"label_noise": [0.1]},
    "T19": {"label_noise": NOISES},
    "T21": {"pixel_noise": [0.0, *NOISES]},
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
    claim: str,
    kind: str,
    seed: int = 0,
    replicas: int = 3,
    axes: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, pd.DataFrame]:
    """Return experiment -> scalars of a claim's experiments."""
    random = np.random.default_rng([seed, 1])
    found = {}
    for name in facts(claim):
        first = name == "e"

        def value(place: Place, first: bool = first) -> Values:
            if kind == "noise":
                return _noise(random)
            return {**_noise(random), **_plant(claim, SIGN[kind], place, first, random)}

        given = axes or AXES[claim]
        found[name] = table(given, value, replicas, name, seed + (not first))
    return found


def _noise(random: np.random.Generator) -> Values:
    return {
        "test_accuracy": 80 + random.normal(),
        "train_loss": 1e-3 * random.uniform(),
        "log_hessian_trace": 5.25 + random.normal(),
        "log_hessian_eigenvalue": 2 + random.normal(),
        "mode_connectivity": -2 + 2 * random.normal(),
        "cka": 0.6 + 0.1 * random.normal(),
        "l2_distance": 40 + random.normal(),
    }


def _phases(x: float, y: float) -> Values:
    """Return numbers of rule R1 for a plane of four regions: flat if x is large, connected by y."""
    return {"log_hessian_trace": 7 - 3.5 * (x > 0), "mode_connectivity": -8 if y < 0 else -0.5}


def _middle(place: Place) -> tuple[float, float]:
    """Return the two coordinates of a place, 0 in the middle."""
    load = math.log(place["width"] / 17)
    hot = (
        place.get("batch_size", 0) < 90 if "batch_size" in place else place["learning_rate"] > 0.06
    )
    return load, 1.0 if hot else -1.0


def _plant(claim: str, s: float, place: Place, first: bool, random: np.random.Generator) -> Values:
    """Return what a claim says (s = 1), or the opposite (s = -1), of one place."""
    little = 0.02 * random.normal()
    return globals()[f"_{claim.lower()}"](s, place, first, little)


def _t16(s: float, place: Place, first: bool, little: float) -> Values:
    x, y = _middle(place)
    near = place["batch_size"] in (64, 128)  # the border lies between 64 and 128
    return {**_phases(x, y), "test_accuracy": 80 + first * s * (3 * near - 1) + little}


def _t17(s: float, place: Place, first: bool, little: float) -> Values:
    i, j = WIDTHS.index(place["width"]), BATCHES.index(place["batch_size"])
    past = i + j - 8  # from sharp to flat between -1 and 0
    flat, poor = past >= 0, j >= 4
    dip = -4.0 * (past in (-1, 0)) - 1.0 * flat
    return {
        "log_hessian_trace": 7.5 - 4 * flat - 0.05 * past,
        "log_hessian_eigenvalue": 5 - 3 * flat,
        "mode_connectivity": -8.0 if poor else -0.5,
        "test_accuracy": 80 + s * dip + little,
    }


def _t18(s: float, place: Place, first: bool, little: float) -> Values:
    x = s * place["data_fraction"]
    names = ("test_accuracy", "cka", "log_hessian_trace", "log_hessian_eigenvalue")
    return {**{name: 0.1 * x + little / 10 for name in names}, "mode_connectivity": -9 * x + little}


def _t19(s: float, place: Place, first: bool, little: float) -> Values:
    x = place["label_noise"]
    return {
        "log_hessian_trace": 5 + (0.2 if s > 0 else 4) * x + little,
        "mode_connectivity": -10 * s * x + little,
        "cka": 0.6 - s * x + little / 10,
    }


def _t20(s: float, place: Place, first: bool, little: float) -> Values:
    x = math.log(place["weight_decay"])
    gain = 0 if s > 0 else -x
    return {"log_hessian_trace": 5 + s * x + little, "test_accuracy": 80 + gain + little}


def _t21(s: float, place: Place, first: bool, little: float) -> Values:
    x = place["pixel_noise"]
    barrier = 0.0 if s > 0 else -20 * x
    return {"mode_connectivity": barrier + little, "cka": 0.6 - s * x + little / 10}


def _t22(s: float, place: Place, first: bool, little: float) -> Values:
    x = s * math.log(place["batch_size"])
    return {"log_hessian_trace": x + little, "log_hessian_eigenvalue": x + little}


def _t23(s: float, place: Place, first: bool, little: float) -> Values:
    x = math.log(place["batch_size"]) * (0.2 if first == (s > 0) else 1.0)
    names = [name for name in PANELS if name != "chance_loss"]
    return {name: 5 + x + little for name in names}


def _t24(s: float, place: Place, first: bool, little: float) -> Values:
    return {
        "train_loss": 0.001 if first else 1.0,
        "mode_connectivity": -5 * s + little,
        "test_accuracy": 40 + s * (0 if first else 5) + little,
    }


def _t25(s: float, place: Place, first: bool, little: float) -> Values:
    x, y = _middle(place)
    found = _phases(x, y)
    nice = s * (x > 0 and y > 0) * (1 + x)
    accuracy = {"test_accuracy": 80 + 5 * nice + little, "cka": 0.5 + 0.1 * abs(nice) + little / 9}
    found["log_hessian_trace"] -= 0.1 * x
    return {**found, **accuracy}
