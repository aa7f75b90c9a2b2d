"""Records -> tidy tables, tables <-> CSV, and the number that figures draw for each cell.

In CSV an absent number is empty, others have the fewest digits that read back as the same float64,
and lines end in LF, so that equal tables are equal files. No torch here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lossatlas import made, store, uncertainty
from lossatlas.errors import UserError
from lossatlas.files import atomic
from lossatlas.paths import rehearsing
from lossatlas.tables.parse import axis_values, fields, floats, index_values, whole_numbers

Axes = Mapping[str, Mapping[str, Any]]  # cell -> axis -> value; its order is that of the rows

FIRST = ["experiment", "cell"]
SEEDS = ["replica", "partner"]
POINT = ["x", "y", "stderr", "df"]
SCALAR = ["metric", *SEEDS, "value", "stderr", "df", "status"]
SERIES = ["series", *SEEDS, *POINT, "status"]  # those of indices and tables stand before x
NUMBERS = ["value", *POINT]
MARK = "rehearsal"  # last column of the tables of a rehearsal

# Quantity that figures draw -> the scalar behind it, and whether it is its natural logarithm.
PANELS: dict[str, tuple[str, bool]] = {
    "test_accuracy": ("test_accuracy", False),
    "train_loss": ("train_loss", False),
    "log_hessian_eigenvalue": ("hessian_eigenvalue", True),
    "log_hessian_trace": ("hessian_trace", True),
    "mode_connectivity": ("mode_connectivity", False),
    "cka": ("cka", False),
    "l2_distance": ("l2_distance", False),
    "chance_loss": ("chance_loss", False),
}
SUMMARY = ["metric", "value", "stderr", "df", "stderr_status", "count", "status", "diverged"]


def tables(
    experiment: str, axes: Axes, records: Mapping[str, Path]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of one metric over an experiment: scalars, and curves and tables.

    Args:
        experiment: Its name.
        axes: Of each cell, in the order of the rows, its values on the axes.
        records: The metric's record of each cell.

    Raises:
        ValueError: If the records are not those of the cells.
        UserError: If a record cannot be read.
    """
    if set(axes) != set(records):
        odd = sorted(set(axes) ^ set(records))
        raise ValueError(f"cells and records differ: {', '.join(odd)}")
    read = {cell: store.read(records[cell], arrays=False) for cell in axes}
    return (
        scalar_frame(experiment, axes, {cell: record.scalars for cell, record in read.items()}),
        series_frame(experiment, axes, {c: [*r.series, *r.tables] for c, r in read.items()}),
    )


def scalar_frame(
    experiment: str, axes: Axes, found: Mapping[str, Iterable[store.Scalar]]
) -> pd.DataFrame:
    """Return the table of scalars of each cell, in the order of `axes`."""
    rows = [
        (*place, s.name, s.replica, s.partner, s.value, s.stderr, s.df, s.status)
        for cell in axes
        for place in [_place(experiment, axes, cell)]
        for s in found[cell]
    ]
    return _frame(rows, axes, SCALAR)


def series_frame(
    experiment: str, axes: Axes, found: Mapping[str, Sequence[store.Series | store.Table]]
) -> pd.DataFrame:
    """Return the points of curves and the rows of tables of each cell, in the order of `axes`.

    Keys of indices and columns of tables become columns, empty where a row has none.

    Raises:
        UserError: If one of them has the name of an axis.
    """
    parts = [(cell, part) for cell in axes for part in found[cell]]
    heads = [
        (*_place(experiment, axes, cell), part.name, part.replica, part.partner, part.status)
        for cell, part in parts
    ]
    frame = _frame(heads, axes, ["series", *SEEDS, "status"])
    columns = [_columns_of(part) for _, part in parts]
    names = dict.fromkeys(name for some in columns for name in some if name not in POINT)
    if taken := names.keys() & set(frame):
        what, fix = f"measures a column named '{min(taken)}', as an axis is", "rename one of them"
        raise UserError(what, where=experiment, fix=fix)
    sizes = [len(next(reversed(some.values()))) for some in columns]
    frame = frame.loc[np.repeat(frame.index, sizes)].reset_index(drop=True)
    status = frame.pop("status")
    points = {name: _column([some.get(name) for some in columns], sizes) for name in names}
    points |= {name: _column([some.get(name) for some in columns], sizes, float) for name in POINT}
    return pd.concat([frame, pd.DataFrame(points), status], axis=1)


def _columns_of(part: store.Series | store.Table) -> dict[str, Any]:
    """Return column -> its values, or the one value of all rows; the last one has all."""
    if isinstance(part, store.Table):
        return {**part.index, **part.columns}
    errors = {"stderr": part.stderr, "df": part.df}
    points = {name: values for name, values in errors.items() if values is not None}
    return {**part.index, **points, "x": part.x, "y": part.y}


def _column(
    pieces: Sequence[Any], sizes: Sequence[int], kind: type[float] | None = None
) -> pd.Series:
    """Return a column of all parts: whole numbers, numbers or text, empty where a part has none."""
    given = [np.asarray(piece) for piece in pieces if piece is not None]
    kinds = {array.dtype.kind for array in given}
    if kinds & set("UO"):
        return pd.Series(np.repeat(np.array(pieces, dtype=object), sizes), dtype="str")
    whole = kind is None and kinds == {"i"}
    empty = [(0 if whole else math.nan) if piece is None else piece for piece in pieces]
    each = [np.broadcast_to(piece, size) for piece, size in zip(empty, sizes, strict=True)]
    values = np.concatenate([np.zeros(0, dtype=np.int64 if whole else np.float64), *each])
    if not whole:
        return pd.Series(values)
    absent = np.repeat([piece is None for piece in pieces], sizes)
    return pd.Series(pd.arrays.IntegerArray(values, absent))


def _place(experiment: str, axes: Axes, cell: str) -> tuple[Any, ...]:
    """Return what identifies a cell in a row."""
    return (experiment, cell, *axes[cell].values())


def _frame(rows: list[tuple[Any, ...]], axes: Axes, columns: list[str]) -> pd.DataFrame:
    names = list(next(iter(axes.values()), {}))
    if any(list(place) != names for place in axes.values()):
        raise ValueError("cells have different axes")
    frame = pd.DataFrame(rows, columns=[*FIRST, *names, *columns])
    types = {name: "float64" for name in NUMBERS if name in frame}
    return frame.astype({**dict.fromkeys(SEEDS, "Int64"), **types})


def axes_of(table: pd.DataFrame) -> list[str]:
    """Return the names of the axes: the columns between the cell and what was measured.

    Raises:
        ValueError: If the table has no such columns.
    """
    names = list(table.columns)
    ends = [i for i, name in enumerate(names) if name in ("metric", "series", "phase")]
    if names[: len(FIRST)] != FIRST or not ends:
        raise ValueError(f"its columns are {', '.join(map(str, names))}")
    return names[len(FIRST) : ends[0]]


def write(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table as CSV, atomically; one of a rehearsal says so in a last column.

    Raises:
        UserError: If it cannot be written.
    """
    if rehearsing():
        table = table.assign(**{MARK: "not a result"})
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, na_rep="", lineterminator="\n", encoding="utf-8")


def read(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table of scalars or of series that `write` wrote, number for number.

    Raises:
        UserError: If it is missing, empty, cut off, damaged or foreign.
    """
    made.check_whole(path)
    try:
        table = fields(Path(path)).drop(columns=MARK, errors="ignore")
        axes, known = axes_of(table), _known_columns(table)
        for name in table:
            if name in axes:
                table[name] = axis_values(table[name])
            elif name in SEEDS:
                table[name] = whole_numbers(table[name])
            elif name not in known:
                table[name] = index_values(table[name])
            elif name in NUMBERS:
                table[name] = floats(table[name])
        if unknown := set(table["status"]) - set(store.STATUSES):
            raise ValueError(f"unknown status {min(unknown)!r}")
        return table
    except FileNotFoundError:
        fix = "run the command that makes it, or correct the path"
        raise UserError("no such file", where=str(path), fix=fix) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (ValueError, OverflowError) as error:  # among them those of the parser
        fix = "delete it and run the same command again: it will be made anew"
        words = " ".join(str(error).split())
        raise UserError(f"not a table: {words}", where=str(path), fix=fix) from None


def read_phases(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table of phases of a refinement, number for number.

    Raises:
        UserError: If it is missing, cut off or damaged.
    """
    made.check_whole(path)
    try:
        table = fields(Path(path)).drop(columns=MARK, errors="ignore")
        first = [*FIRST, *axes_of(table), "phase"]
        for name in table:
            if name not in first:
                table[name] = floats(table[name])
            elif name not in (*FIRST, "phase"):
                table[name] = axis_values(table[name])
        return table
    except (OSError, ValueError, OverflowError) as error:
        fix = "delete it and run the same command again: it will be made anew"
        raise UserError(f"not a table: {error}", where=str(path), fix=fix) from None


def _known_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that have the same meaning in all tables of its sort.

    Raises:
        ValueError: If they are not those of a table.
    """
    first = [*FIRST, *axes_of(table)]
    rest = list(table.columns)[len(first) :]
    if rest[0] == "metric" and rest == SCALAR:
        return [*FIRST, *SCALAR]
    head, tail = SERIES[: -len(POINT) - 1], SERIES[-len(POINT) - 1 :]
    if rest[: len(head)] == head and rest[-len(tail) :] == tail:
        return [*FIRST, *SERIES]
    raise ValueError(f"its columns are {', '.join(table.columns)}")


def join(paths: Mapping[str, str | os.PathLike[str]]) -> pd.DataFrame:
    """Return the scalars of an experiment's metrics as one table, as `concatenate` does.

    Where several metrics write the same scalar, such as `hessian` and `hessian_paper`, those of
    the first keep its name and the others' are named "hessian_paper.hessian_trace".

    Args:
        paths: Metric -> its table.

    Raises:
        UserError: As `concatenate`.
        ValueError: As `concatenate`.
    """
    table = concatenate(list(paths.values()))
    counts = [len(read(path)) for path in paths.values()]
    writer = pd.Series(np.repeat(list(paths), counts), index=table.index, dtype=object)
    first = writer.groupby(table["metric"]).transform("first")
    named = writer + "." + table["metric"]
    return table.assign(metric=table["metric"].where(writer == first, named))


def concatenate(paths: Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Return tables of one sort and with the same axes as one, in the order given.

    Tables of series need not have the same indices.

    Raises:
        UserError: If one cannot be read, or has other columns than the first.
        ValueError: If there are none.
    """
    tables = [read(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        if _known_columns(table) != _known_columns(tables[0]) or axes_of(table) != axes_of(
            tables[0]
        ):
            fix = "join tables of one experiment and of one sort"
            raise UserError(f"has other columns than {paths[0]}", where=str(path), fix=fix)
    # An empty column has no type, and would take the type from the others.
    filled = [table for table in tables if len(table)]
    return pd.concat(filled or tables, ignore_index=True)


def cell_summary(
    table: pd.DataFrame, panels: Mapping[str, tuple[str, bool]] | None = None
) -> pd.DataFrame:
    """Return, for each cell and each quantity that was measured, what figures draw.

    The value is the mean over replicas or over unordered pairs (both orders of a pair are averaged
    first), or the natural logarithm of that mean, as in the authors' notebook, which needs numbers
    that are all positive: with one that is not it is `undefined`. Numbers of status
    `ok` and `unconverged` enter; `diverged` and `undefined` ones do not. Standard errors are those
    of `uncertainty.mean` or, over pairs, which share replicas, of `uncertainty.mean_of_groups`,
    divided by the mean under a logarithm (delta method).

    Returns:
        Columns experiment, cell, <axes>, metric, value, stderr, df (its degrees of freedom),
        stderr_status (`undefined` where the error cannot be had: one replica or pair, or equal
        numbers), count (numbers that entered), status, and diverged (how many replicas of the cell
        have no other rows). The status is `ok`; `unconverged` when a number that entered is; with a
        NaN value `diverged` when divergence is all that happened, else `undefined`.

    Args:
        table: Rows of scalars of one or more experiments with the same axes, one metric per kind.
        panels: Quantity -> its scalar, and whether it is the logarithm; default: `PANELS`.
    """
    keys = [*FIRST, *axes_of(table)]
    measured = set(table["metric"])
    asked = PANELS if panels is None else panels
    panels = {name: panel for name, panel in asked.items() if panel[0] in measured}
    places = list(table[keys].drop_duplicates().itertuples(index=False, name=None))
    cells: list[dict[str, list[_Entry]]] = [{} for _ in places]
    # A frame for each cell and quantity would take ten times as long as the numbers themselves.
    numbers = [table[name].to_list() for name in (*SEEDS, "value", "status")]
    of = table.groupby(keys, sort=False, dropna=False).ngroup().to_list()
    for cell, metric, entry in zip(of, table["metric"], map(_Entry, *numbers), strict=True):
        cells[cell].setdefault(metric, []).append(entry)
    rows = []
    for place, found in zip(places, cells, strict=True):
        lost = _diverged([entry for entries in found.values() for entry in entries])
        for name, (scalar, logarithm) in panels.items():
            rows.append((*place, name, *_summary(found.get(scalar, []), logarithm), lost))
    return pd.DataFrame(rows, columns=[*keys, *SUMMARY])


class _Entry(NamedTuple):
    """One scalar of a cell; a seed that does not apply is pandas.NA."""

    replica: Any
    partner: Any
    value: float
    status: str


def _diverged(entries: list[_Entry]) -> int:
    """Return how many replicas have rows of status `diverged` only, pairs counting for both."""
    alive = [entry for entry in entries if entry.status != "diverged"]
    return len(_named(entries) - _named(alive))


def _named(entries: list[_Entry]) -> set[Any]:
    return {seed for entry in entries for seed in entry[:2] if seed is not pd.NA}


def _summary(entries: list[_Entry], logarithm: bool) -> tuple[float, float, float, str, int, str]:
    """Return value, stderr, df, stderr_status, count and status of one scalar of one cell."""
    entered = [e for e in entries if e.status in ("ok", "unconverged") and math.isfinite(e.value)]
    numbers = _per_pair(entered)
    found = _estimate(numbers)
    if logarithm:
        positive = all(number > 0 for number in numbers.values())
        found = uncertainty.logarithm(found if positive else replace(found, value=math.nan))
    status = "unconverged" if any(e.status == "unconverged" for e in entered) else "ok"
    if math.isnan(found.value):
        lost = entries and all(entry.status == "diverged" for entry in entries)
        status = "diverged" if lost else "undefined"
    return found.value, found.stderr, found.df, found.status, found.count, status


def _per_pair(entries: list[_Entry]) -> dict[frozenset[Any], float]:
    """Return one number per replica, or per unordered pair."""
    found: dict[frozenset[Any], list[float]] = {}
    for entry in entries:
        who = frozenset(seed for seed in entry[:2] if seed is not pd.NA)
        found.setdefault(who, []).append(entry.value)
    return {who: float(np.mean(values)) for who, values in found.items()}


def _estimate(numbers: dict[frozenset[Any], float]) -> uncertainty.Estimate:
    """Return the mean over replicas, or over unordered pairs."""
    if any(len(who) > 1 for who in numbers):
        return uncertainty.mean_of_groups([*numbers.values()], [tuple(who) for who in numbers])
    return uncertainty.mean([*numbers.values()])
