"""Curves and planes of cells, as few points as a screen shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lossatlas.store import Series
from lossatlas.tables import collect
from lossatlas.tables.collect import FIRST, SERIES

POINTS = 120  # of a curve
LINES = 30  # of a series of a cell
SIDE = 41  # of a plane
DIGITS = 4
_NAMES = {"t": "place on the path, from 0 to 1"}
_PLANE = ("u", "v")
_SHOWN = ("loss", "error")  # what a plane shows: the first of these

Json = dict[str, Any]
Floats = NDArray[np.float64]


def of_series(table: pd.DataFrame) -> dict[str, list[Json]]:
    """Return, by cell, the curves and planes of one table of series.

    A curve has one point per x; what tells the curves of a series apart, as a pair of replicas or
    the window of a path, stands in its name. Long curves keep, in each of equal stretches, their
    least and their greatest y, so that no peak is lost; of many curves the first `LINES` are kept,
    and their number is told.

    Returns:
        Cell -> items of `series`, `name`, `of` (how many such curves there are), and either `x`,
        `y`, `low`, `high` (y minus and plus one standard error, or None), or, for a plane, `u`,
        `v` (axes) and `z` (rows by v).
    """
    if table.empty:
        return {}
    known = {*FIRST, *collect.axes_of(table), *SERIES, "rehearsal"}
    found: dict[str, list[Json]] = {}
    for series, rows in table.groupby("series", sort=False):
        some = rows.dropna(axis=1, how="all")
        extra = [name for name in some.columns if name not in known]
        if {*_PLANE} <= {*extra}:
            made = _planes(some, extra)
        elif {"x", "y"} <= {*some.columns}:
            made = _curves(some, extra)
        else:
            continue
        for cell, items in made.items():
            shown = [{"series": str(series), "of": len(items), **one} for one in items[:LINES]]
            found.setdefault(cell, []).extend(shown)
    return found


def _who(rows: pd.DataFrame) -> list[str]:
    return ["cell", *(name for name in ("replica", "partner") if name in rows.columns)]


def _curves(rows: pd.DataFrame, extra: list[str]) -> dict[str, list[Json]]:
    """Return curves by cell."""
    rows = rows[np.isfinite(rows["x"]) & np.isfinite(rows["y"])]
    # A column that differs from point to point is a value, and not the name of a curve.
    counts = {name: len(rows[[*_who(rows), name]].drop_duplicates()) for name in extra}
    keys = [*_who(rows), *(name for name, count in counts.items() if 2 * count <= len(rows))]
    # A frame for each of thousands of curves would take minutes.
    of = rows.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    order = np.lexsort((rows["x"].to_numpy(np.float64), of))
    x, y = (rows[name].to_numpy(np.float64)[order] for name in ("x", "y"))
    stderr = rows["stderr"].to_numpy(np.float64)[order] if "stderr" in rows else x * math.nan
    names = {name: rows[name].to_numpy(object)[order] for name in keys}
    found: dict[str, list[Json]] = {}
    for part in np.split(np.arange(len(of)), np.flatnonzero(np.diff(of[order])) + 1):
        if len(part) > 1:
            told = {name: values[part[0]] for name, values in names.items()}
            items = found.setdefault(str(told.pop("cell")), [])
            items.append({"name": _named(told), **_curve(x[part], y[part], stderr[part])})
    return found


def axes_of(curve: Series) -> list[str]:
    """Return the titles of the axes of a curve: x with its unit, and the unit of y."""
    name = _NAMES.get(curve.x_name, curve.x_name)
    return [f"{name} ({curve.x_unit})" if curve.x_unit else name, curve.y_unit]


def _named(told: dict[str, Any]) -> str:
    """Return the name of a curve: "replicas 0 and 1", "replica 2, window 3"."""
    known = {key: value for key, value in told.items() if not pd.isna(value)}
    parts = []
    if "partner" in known:
        parts.append(f"replicas {known.pop('replica')} and {known.pop('partner')}")
    for key, value in known.items():
        parts.append(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}")
    return ", ".join(parts)


def _curve(x: Floats, y: Floats, stderr: Floats) -> Json:
    keep = thinned(y, POINTS)
    x, y, stderr = x[keep], y[keep], stderr[keep]
    found: Json = {"x": rounded(x), "y": rounded(y), "low": None, "high": None}
    if np.isfinite(stderr).any():
        found |= {"low": rounded(y - stderr), "high": rounded(y + stderr)}
    return found


def thinned(values: Floats, most: int) -> NDArray[np.int64]:
    """Return places of at most that many values, the extremes of each of equal stretches."""
    if len(values) <= most:
        return np.arange(len(values))
    places = {0, len(values) - 1}
    for part in np.array_split(np.arange(len(values)), (most - 2) // 2):
        places |= {int(part[values[part].argmin()]), int(part[values[part].argmax()])}
    return np.array(sorted(places))


def _planes(rows: pd.DataFrame, extra: list[str]) -> dict[str, list[Json]]:
    """Return planes by cell."""
    value = next((name for name in _SHOWN if name in rows.columns), "y" if "y" in rows else "")
    others = [name for name in extra if name not in (*_PLANE, value)]
    # What tells planes apart has as many points of each; what a point has besides has not.
    few = [name for name in others if rows[name].nunique() * 50 <= len(rows)]
    kept = [name for name in few if rows.groupby(name).size().nunique() == 1]
    keys, found = [*_who(rows), *kept], dict[str, list[Json]]()
    for group, some in rows.groupby(keys, sort=False, dropna=False) if value else ():
        told = dict(zip(keys, group, strict=True))
        grid = some.pivot_table(index="v", columns="u", values=value, aggfunc="mean")
        if min(grid.shape) < 3 or grid.isna().mean().mean() > 0.5:  # a path, and no plane
            continue
        steps = [math.ceil(side / SIDE) for side in grid.shape]
        grid = grid.iloc[:: steps[0], :: steps[1]]
        z = [rounded(row) for row in grid.to_numpy(np.float64)]
        sides = (grid.columns, grid.index)
        axes = dict(zip(_PLANE, (rounded(side.to_numpy(float)) for side in sides), strict=True))
        items = found.setdefault(str(told.pop("cell")), [])
        items.append({"name": _named(told), "value": value, **axes, "z": z})
    return found


def rounded(values: Iterable[float], digits: int = DIGITS) -> list[float | None]:
    """Return numbers with so many significant digits; None for what is not finite."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values]
