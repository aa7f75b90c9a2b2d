"""How curves and tables of a record lie in its HDF5 file.

    /series/curves     compound table, a row per curve: name, replica, partner, status, points,
                       x_name, x_unit, y_unit
    /series/index      a dataset per index key, with a value per curve
    /series/x, y       the points of all curves, one curve after the other
    /series/stderr, df likewise; absent if no curve has standard errors, or degrees of freedom
    /tables/parts      compound table, a row per table: name, replica, partner, status, points (its
                       number of rows)
    /tables/index      as for curves
    /tables/rows/<name>
                       compound table: the rows of all tables of that name, one table after the
                       other; its attribute `units` is JSON, column -> unit

What a curve or table lacks of the index is stored as NaN, as an empty text, or as `series.ABSENT`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

import h5py
import numpy as np

from lossatlas.store.series import ABSENT, POINT, Series, Table, is_absent

NOBODY = -1  # how "no replica" is stored in the integer columns
TEXT = h5py.string_dtype()

_PART = [
    ("name", TEXT),
    ("replica", "i8"),
    ("partner", "i8"),
    ("status", TEXT),
    ("points", "i8"),
]
_PARTS = np.dtype(_PART)
_CURVES = np.dtype([*_PART, ("x_name", TEXT), ("x_unit", TEXT), ("y_unit", TEXT)])


def write_series(group: h5py.Group, series: Sequence[Series]) -> None:
    """Write curves, which `check` has passed, into a group."""
    rows = [(*_part(c, len(c.x)), c.x_name, c.x_unit, c.y_unit) for c in series]
    group.create_dataset("curves", data=np.array(rows, dtype=_CURVES), track_times=False)
    _write_index(group, series)
    for axis in POINT:
        if all(getattr(curve, axis) is None for curve in series) and axis not in POINT[:2]:
            continue
        points = [np.zeros(0)]
        for curve in series:
            values = getattr(curve, axis)
            values = np.full(len(curve.x), np.nan) if values is None else values
            points.append(np.asarray(values, dtype=np.float64))
        dataset(group, axis, np.concatenate(points))


def write_tables(group: h5py.Group, tables: Sequence[Table]) -> None:
    """Write tables, which `check` has passed, into a group."""
    parts = [_part(table, len(table)) for table in tables]
    group.create_dataset("parts", data=np.array(parts, dtype=_PARTS), track_times=False)
    _write_index(group, tables)
    rows = group.create_group("rows", track_order=True)
    for name in dict.fromkeys(table.name for table in tables):
        some = [table for table in tables if table.name == name]
        columns = {
            key: np.concatenate([table.column(key) for table in some]) for key in some[0].columns
        }
        kinds = [(key, column.dtype) for key, column in columns.items()]
        values = np.empty(sum(map(len, some)), dtype=kinds)
        for key, column in columns.items():
            values[key] = column
        dataset(rows, name, values).attrs["units"] = json.dumps(dict(some[0].units))


def _part(part: Series | Table, points: int) -> tuple[Any, ...]:
    return (part.name, stored_seed(part.replica), stored_seed(part.partner), part.status, points)


def _write_index(group: h5py.Group, parts: Sequence[Series | Table]) -> None:
    index = group.create_group("index", track_order=True)
    for key in dict.fromkeys(key for part in parts for key in part.index):
        values = [part.index.get(key) for part in parts]
        given = [value for value in values if value is not None]
        if all(isinstance(value, str) for value in given):
            data = np.array([value or "" for value in values], dtype=TEXT)
        elif any(isinstance(value, str) for value in given):
            raise ValueError(f"index {key!r} is a number here and a text there")
        elif all(isinstance(value, Integral) for value in given):
            data = np.array([ABSENT if v is None else v for v in values], dtype=np.int64)
        else:
            data = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        index.create_dataset(key, data=data, track_times=False)


def dataset(group: h5py.Group, name: str, values: np.ndarray) -> h5py.Dataset:
    """Write an array, compressed unless it is small."""
    # Measured on recorded paths: half the time of gzip's default level, and an eighth smaller.
    packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    kept = packed if values.nbytes > 4096 else {}
    return group.create_dataset(name, data=values, track_times=False, **kept)


def stored_seed(seed: int | None) -> int:
    """Return how a seed is stored."""
    return NOBODY if seed is None else seed


def seed_of(stored: int) -> int | None:
    """Return the seed that is stored so."""
    return None if stored == NOBODY else int(stored)


def read_series(group: h5py.Group) -> list[Series]:
    """Read what `write_series` wrote.

    Raises:
        KeyError: If a column or points are missing, or there are others.
    """
    parts, sizes = _read_parts(group, "curves", _CURVES)
    points = {axis: group[axis][()] for axis in POINT if axis in group or axis in POINT[:2]}
    found = []
    for part, (a, b) in zip(parts, _ends(sizes, points.values()), strict=True):
        found.append(Series(**part, **{axis: values[a:b] for axis, values in points.items()}))
    return found


def read_tables(group: h5py.Group) -> list[Table]:
    """Read what `write_tables` wrote.

    Raises:
        KeyError: If a column or rows are missing, or there are others.
    """
    parts, sizes = _read_parts(group, "parts", _PARTS)
    rows, units, places = {}, {}, {}
    for name, one in group["rows"].items():
        rows[name], units[name] = one[()], json.loads(one.attrs["units"])
        some = [size for part, size in zip(parts, sizes, strict=True) if part["name"] == name]
        places[name] = iter(_ends(some, [rows[name]]))
    found = []
    for part in parts:
        a, b = next(places[part["name"]])
        values = rows[part["name"]][a:b]
        columns = {key: values[key] for key in values.dtype.names}
        found.append(Table(**part, columns=columns, units=units[part["name"]]))
    return found


def _ends(sizes: Sequence[int], columns: Iterable[np.ndarray]) -> list[tuple[int, int]]:
    """Return the first point of each part and that after its last."""
    ends = [0, *np.cumsum(sizes, dtype=np.int64).tolist()]
    if any(len(column) != ends[-1] for column in columns):
        raise KeyError("points")
    return list(pairwise(ends))


def rows_of(group: h5py.Group, name: str, kind: np.dtype[Any]) -> np.ndarray:
    """Read a compound table.

    Raises:
        KeyError: If its columns are not those of `kind`.
    """
    rows = group[name][()]
    if rows.dtype.names != kind.names:
        raise KeyError(f"columns of {name}")
    return np.asarray(rows)


def _read_parts(
    group: h5py.Group, name: str, kind: np.dtype[Any]
) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the fields of each part, and how many points each has."""
    rows = rows_of(group, name, kind)
    columns: dict[str, list[Any]] = {}
    for key in kind.names or ():
        if key in ("replica", "partner"):
            columns[key] = [seed_of(seed) for seed in rows[key].tolist()]
        elif key != "points":
            columns[key] = [text.decode() for text in rows[key]]
    columns["index"] = [{} for _ in rows]
    for key, one in group["index"].items():
        values = one.asstr()[()] if one.dtype.kind == "O" else one[()]
        if len(values) != len(rows):
            raise KeyError(f"index {key}")
        for index, value in zip(columns["index"], values.tolist(), strict=True):
            if not is_absent(value):
                index[key] = value
    parts = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return parts, rows["points"].tolist()
