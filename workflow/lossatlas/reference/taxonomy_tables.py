"""The authors' numbers as tables with the columns of our own experiments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, permutations, product

import numpy as np
import pandas as pd

from lossatlas.connectivity.summary import extremes
from lossatlas.reference.taxonomy_archive import QUANTITIES, RUNS
from lossatlas.store import Record, Scalar, Series
from lossatlas.tables.collect import scalar_frame, series_frame

EXPERIMENT = "taxonomy_reference"

Numbers = dict[str, np.ndarray]  # quantity -> its array in one cell

# Kind of metric -> scalar -> quantity; connectivity is derived from the curve.
_OF_RUNS = {
    "performance": ("train_loss", "train_accuracy", "test_loss", "test_accuracy"),
    "hessian": ("hessian_eigenvalue", "hessian_trace"),
}
_OF_ORDERED_PAIRS = {
    "cka": "cka_biased_softmax",
    "cka_biased": "cka_biased_softmax",
    "cka_biased.output": "cka_biased_output",
}
_CURVES = ("train_error", "train_loss", "test_error", "test_loss")
KINDS = ("performance", "hessian", "connectivity", "cka", "distance")


def tables(record: Record) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Return kind of metric -> (table of scalars, table of series) of the authors' results.

    Names are those of our own metrics in mode 'paper'. `cka` and `cka_biased` are of the softmax
    outputs, `cka_biased.output` of the logits; each ordered pair has a row, since the authors drew
    new images for each. Mode connectivity and curves are of runs 0 and 1. A number that the
    archive lacks has a row, NaN and `undefined`.

    Args:
        record: From `taxonomy_archive.convert`.
    """
    widths, sizes, points = (record.arrays[name].values for name in ("width", "batch_size", "t"))
    axes: dict[str, dict[str, int]] = {}
    scalars: dict[str, dict[str, list[Scalar]]] = {kind: {} for kind in KINDS}
    curves: dict[str, list[Series]] = {}
    for (j, width), (i, size) in product(enumerate(widths), enumerate(sizes)):
        cell = f"bs_{size}/ResNet18_w{width}"
        axes[cell] = {"width": int(width), "batch_size": int(size)}
        numbers = {name: record.arrays[name].values[i, j] for name in QUANTITIES}
        for kind in KINDS:
            scalars[kind][cell] = list(_scalars(kind, points, numbers))
        curves[cell] = [_curve(name, points, numbers) for name in _CURVES]
    none: dict[str, list[Series]] = {cell: [] for cell in axes}
    return {
        kind: (
            scalar_frame(EXPERIMENT, axes, scalars[kind]),
            series_frame(EXPERIMENT, axes, curves if kind == "connectivity" else none),
        )
        for kind in KINDS
    }


def plotted(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the 13 x 13 cells that the authors' notebook plots.

    It leaves out width 1, where runs collapse, and batch sizes 19 and 27, which have no test
    accuracy.
    """
    kept = (table["width"] >= 2) & ~table["batch_size"].isin((19, 27))
    return table[kept].reset_index(drop=True)


def _scalars(kind: str, points: np.ndarray, numbers: Numbers) -> Iterator[Scalar]:
    """Yield the rows of one kind of metric in one cell."""
    if kind == "connectivity":
        names = ("mode_connectivity", "path_dip", "path_bump")
        values = extremes(points, numbers["curve_train_error"], "mean")
        for name, value in zip(names, values, strict=True):
            yield _scalar(name, value, 0, 1, "percent")
    elif kind == "cka":
        for name, source in _OF_ORDERED_PAIRS.items():
            for a, b in permutations(range(RUNS), 2):
                yield _scalar(name, numbers[source][a, b], a, b)
    elif kind == "distance":
        for a, b in combinations(range(RUNS), 2):
            yield _scalar("l2_distance", numbers["l2_distance"][a, b], a, b)
    else:
        for name in _OF_RUNS[kind]:
            for run, value in enumerate(numbers[name]):
                yield _scalar(name, value, run, unit=QUANTITIES[name].unit)


def _scalar(
    name: str, value: float, replica: int, partner: int | None = None, unit: str = ""
) -> Scalar:
    status = "ok" if math.isfinite(value) else "undefined"
    number = float(value) if status == "ok" else math.nan
    return Scalar(name, number, replica, partner, status=status, unit=unit)


def _curve(name: str, points: np.ndarray, numbers: Numbers) -> Series:
    values = numbers[f"curve_{name}"]
    status = "ok" if np.isfinite(values).all() else "undefined"
    unit = "percent" if name.endswith("error") else "nats"
    path = {"path": "bezier"}
    return Series(name, points, values, "t", 0, 1, y_unit=unit, status=status, index=path)
