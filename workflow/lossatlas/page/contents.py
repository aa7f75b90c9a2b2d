"""What the page shows of an experiment: cells, their numbers with errors, phases, curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lossatlas import paths, store
from lossatlas.page import lines, matrices, spectra
from lossatlas.spec.figures import PUBLISHED, Thresholds
from lossatlas.tables import collect
from lossatlas.tables.phases import INPUTS, PHASES, PROBABILITIES, flat_limit, phases

Json = dict[str, Any]
_DIGITS = 6
_SPREAD = np.sinh(np.linspace(0, 6, 61))  # standard errors at which Student's t is tabulated


@dataclass(frozen=True)
class Asked:
    """An experiment of the page.

    Attributes:
        name: In the config, or that of the published results.
        scalars: Its tables of scalars, one metric per kind.
        series: Its tables of series.
        thresholds: Of its phases.
        command: What makes a file of a cell, before the file's name; "" if nothing does.
        about: Its data, network and seeds, in words.
        metrics: Names of the metrics of `scalars`, whose records tell what curves are over.
    """

    name: str
    scalars: Sequence[str]
    series: Sequence[str]
    thresholds: Thresholds = field(default_factory=Thresholds)
    command: str = ""
    about: str = ""
    metrics: Sequence[str] = ()


def asked(given: Mapping[str, Any], command: str) -> Asked:
    """Return an experiment of the page from plain values (`spec.atlas.experiments`)."""
    return Asked(
        name=given["name"],
        scalars=given["scalars"],
        series=given["series"],
        thresholds=Thresholds(**given["thresholds"]),
        command=command if given["made"] else "",
        about=given.get("about", ""),
        metrics=given.get("metrics", ()),
    )


def of_experiment(asked: Asked, units: Mapping[str, tuple[str, str]]) -> Json:
    """Return an experiment as the page reads it.

    Args:
        asked: Which, and its tables.
        units: Scalar -> its unit and what it is.

    Raises:
        UserError: If a table is damaged.
    """
    tables = [collect.read(path) for path in asked.scalars]
    table = pd.concat([one for one in tables if not one.empty] or tables[:1], ignore_index=True)
    axes = collect.axes_of(table)
    measured = {name: (name, False) for name in dict.fromkeys(table["metric"])}
    summary = _with_own_errors(collect.cell_summary(table, {**measured, **collect.PANELS}), table)
    places = summary[["cell", *axes]].drop_duplicates().reset_index(drop=True)
    order = {cell: number for number, cell in enumerate(places["cell"])}
    found: Json = {
        "name": asked.name,
        "axes": axes,
        "cells": [_cell(row, axes, asked) for _, row in places.iterrows()],
        "numbers": {
            str(name): _numbers(rows, order) for name, rows in summary.groupby("metric", sort=False)
        },
        "units": {name: _unit(name, units) for name in summary["metric"].unique()},
        "curves": _curves(asked.series, order),
        "over": _over(asked.metrics, list(order)),
        "phases": None,
    }
    if {*INPUTS} - {"cka"} <= set(summary["metric"]):
        found["phases"] = _phases(summary, asked.thresholds, order)
    return found


def _with_own_errors(summary: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the summary with the error that a number has itself, where it is a cell's only one."""
    keys = ["cell", "metric"]
    only = table.drop_duplicates(keys, keep=False).set_index(keys)[["stderr", "df"]]
    found = summary.copy()
    at = pd.MultiIndex.from_frame(found[keys])
    for name in only:
        own = only[name].reindex(at).to_numpy(np.float64)
        found[name] = np.where(found["count"] == 1, own, found[name].astype(float))
    return found


def _cell(row: pd.Series, axes: Sequence[str], asked: Asked) -> Json:
    cell, spec = str(row["cell"]), Path(paths.cell_spec(str(row["cell"])))
    blocks = sorted(paths.blocks_on_disk(cell))
    commands = [f"{asked.command} {paths.weights(cell, block)}" for block in blocks]
    return {
        "id": cell,
        "at": {axis: _plain(row[axis]) for axis in axes},
        "spec": spec.read_text(encoding="utf-8") if asked.command and spec.is_file() else "",
        "commands": commands if asked.command else [],
    }


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (int, float, str)) else str(value)


def _numbers(rows: pd.DataFrame, order: Mapping[str, int]) -> Json:
    """Return columns of one number per cell, None where there is none."""
    at = rows.set_index("cell").reindex(list(order))
    found: Json = {
        name: lines.rounded(at[name].astype(float), _DIGITS) for name in ("value", "stderr", "df")
    }
    found["n"] = [0 if math.isnan(count) else int(count) for count in at["count"].astype(float)]
    found["status"] = at["status"].fillna("undefined").to_list()
    return found


def _unit(name: str, units: Mapping[str, tuple[str, str]]) -> list[str]:
    scalar, logarithm = collect.PANELS.get(name, (name, False))
    base = scalar.partition(".")[0]
    names = (scalar, base, base.removesuffix("_mean"))
    unit, what = next((units[one] for one in names if one in units), ("", ""))
    what = what.replace("`", "")
    return ["log", f"natural logarithm of: {what}"] if logarithm else [unit, what]


def _curves(paths_: Sequence[str], order: Mapping[str, int]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for path in paths_:
        table = collect.read(path)
        curves, layers = lines.of_series(spectra.with_shares(table)), matrices.of_layers(table)
        for cell, items in [*curves.items(), *layers.items()]:
            if cell in order:
                found.setdefault(cell, []).extend(items)
    return found


def _over(metrics: Sequence[str], cells: Sequence[str]) -> dict[str, list[str]]:
    """Return, by series, what its axes are: as the first record of each metric says."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        files = (Path(paths.metric(cell, metric)) for cell in cells)
        if file := next((one for one in files if one.is_file()), None):
            found |= {one.name: lines.axes_of(one) for one in store.read(file).series}
    shares = filter(None, map(spectra.shares_of, found))
    return found | dict.fromkeys(shares, spectra.AXES)


def _phases(summary: pd.DataFrame, thresholds: Thresholds, order: Mapping[str, int]) -> Json:
    """Return labels and probabilities by the rule, and what moved thresholds need."""
    table = phases(summary, thresholds).set_index("cell").reindex(list(order))
    rule = thresholds.rule or "published"
    limits = thresholds.model_copy(update={"rule": rule})
    starts = {
        "log_hessian_trace": flat_limit(summary, limits),
        "mode_connectivity": limits.number("mode_connectivity") or 0.0,
        "cka": limits.number("cka") or PUBLISHED["cka"],
    }
    freedom = summary[summary["metric"].isin(INPUTS)]["df"].astype(float)
    return {
        "rule": rule,
        "names": list(PHASES),
        "label": table["phase"].to_list(),
        "status": table["status"].to_list(),
        "learned": table["learned"].to_list(),
        "probability": {
            name.removeprefix("p_"): lines.rounded(table[name].astype(float), 3)
            for name in PROBABILITIES
        },
        "thresholds": {name: lines.rounded([value], _DIGITS)[0] for name, value in starts.items()},
        "by_error": limits.number("mode_connectivity") is None,  # of each cell
        "errors": lines.rounded(_SPREAD),
        "student": {
            key: lines.rounded(stats.t.cdf(_SPREAD, float(key)))
            for key in sorted({f"{df:.2g}" for df in freedom if df > 0})
        },
    }
