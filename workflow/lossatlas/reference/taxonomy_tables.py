"""The authors' numbers as tables with the columns of our own experiments."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lossatlas.connectivity.summary import extremes
from lossatlas.reference.taxonomy_published import POINTS, QUANTITIES, column
from lossatlas.store import Scalar, Series
from lossatlas.tables.collect import scalar_frame, series_frame

EXPERIMENT = "taxonomy_reference"

Row = Mapping[Hashable, Any]  # column -> number, of one cell

# Kind of metric -> scalar -> quantity of the published table; connectivity follows from the curve.
_SCALARS = {
    "performance": {
        name: name for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    },
    "hessian": {name: name for name in ("hessian_eigenvalue", "hessian_trace")},
    "cka": {
        "cka": "cka_biased_softmax",
        "cka_biased": "cka_biased_softmax",
        "cka_biased.output": "cka_biased_output",
    },
    "distance": {"l2_distance": "l2_distance"},
}
_CURVES = ("train_error", "train_loss", "test_error", "test_loss")
KINDS = ("performance", "hessian", "connectivity", "cka", "distance")


def tables(numbers: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Return kind of metric -> (table of scalars, table of series) of the authors' results.

    Names are those of our own metrics in mode 'paper'. `cka` and `cka_biased` are of the softmax
    outputs, `cka_biased.output` of the logits; each ordered pair has a row, since the authors drew
    new images for each. Mode connectivity and curves are of runs 0 and 1. A number that the
    authors' results lack has a row, NaN and `undefined`.

    Args:
        numbers: From `taxonomy_published.read` or `taxonomy_archive.convert`.
    """
    axes: dict[str, dict[str, int]] = {}
    scalars: dict[str, dict[str, list[Scalar]]] = {kind: {} for kind in KINDS}
    curves: dict[str, list[Series]] = {}
    for row in numbers.to_dict("records"):
        size, width = int(row["batch_size"]), int(row["width"])
        cell = f"bs_{size}/ResNet18_w{width}"
        axes[cell] = {"width": width, "batch_size": size}
        for kind in KINDS:
            scalars[kind][cell] = list(_scalars(kind, row))
        curves[cell] = [_curve(name, row) for name in _CURVES]
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


def _scalars(kind: str, row: Row) -> Iterator[Scalar]:
    """Yield the rows of one kind of metric in one cell."""
    if kind == "connectivity":
        names = ("mode_connectivity", "path_dip", "path_bump")
        errors = _along(row, "curve_train_error")
        for name, value in zip(names, extremes(np.array(POINTS), errors, "mean"), strict=True):
            yield _scalar(name, value, 0, 1)
        return
    for name, source in _SCALARS[kind].items():
        for index in QUANTITIES[source]:
            yield _scalar(name, row[column(source, *index)], *index)


def _scalar(name: str, value: float, replica: int, partner: int | None = None) -> Scalar:
    status = "ok" if math.isfinite(value) else "undefined"
    number = float(value) if status == "ok" else math.nan
    return Scalar(name, number, replica, partner, status=status)


def _along(row: Row, quantity: str) -> np.ndarray:
    return np.array([row[column(quantity, *index)] for index in QUANTITIES[quantity]])


def _curve(name: str, row: Row) -> Series:
    values = _along(row, f"curve_{name}")
    status = "ok" if np.isfinite(values).all() else "undefined"
    return Series(f"bezier_{name}", np.array(POINTS), values, "t", 0, 1, status=status)
