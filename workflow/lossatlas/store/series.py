"""What a record holds besides single numbers: curves, and tables of several columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# Columns that tables of all metrics have: no index key and no column of a table has their names.
RESERVED = ("experiment", "cell", "metric", "series", "replica", "partner", "value", "df", "status")
POINT = ("x", "y", "stderr", "df")
ABSENT = int(np.iinfo(np.int64).min)  # how "no such index" is stored among whole numbers

Index = Mapping[str, int | float | str]


@dataclass(frozen=True)
class Series:
    """One curve y(x), such as the error along a path or a spectral density.

    Attributes:
        name: What y is; curves of one quantity have the same name.
        x: (n,).
        y: (n,).
        x_name: What x is.
        replica: Seed; None for the whole cell.
        partner: Seed of the second replica of a pair.
        x_unit: Unit of x.
        y_unit: Unit of y.
        status: One of `STATUSES`.
        index: What tells the curve from others of its name, such as {"window": 480}: whole numbers,
            numbers, or text.
        stderr: (n,) standard errors of y, NaN where there is none; None if there are none at all.
        df: (n,) their degrees of freedom, likewise.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    x_name: str
    replica: int | None = None
    partner: int | None = None
    x_unit: str = ""
    y_unit: str = ""
    status: str = "ok"
    index: Index = field(default_factory=dict)
    stderr: np.ndarray | None = None
    df: np.ndarray | None = None


@dataclass(frozen=True)
class Table:
    """Rows of several numbers: a loss over a plane, scores of ensembles, vertices of a complex.

    Tables of one name have the same columns; `index` tells them apart.

    Attributes:
        name: What its rows are.
        columns: Column -> its numbers (n,); whole numbers and truth values are kept as int64, all
            others as float64. Text belongs into the index.
        replica: Seed; None for the whole cell.
        partner: Seed of the second replica of a pair.
        status: One of `STATUSES`.
        index: As in `Series`.
        units: Column -> unit, where it has one.

    Raises:
        ValueError: If columns differ in length, or one is not a row of numbers.
    """

    name: str
    columns: Mapping[str, ArrayLike]
    replica: int | None = None
    partner: int | None = None
    status: str = "ok"
    index: Index = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arrays = {key: _numbers(f"{self.name}: {key}", v) for key, v in self.columns.items()}
        lengths = {key: len(column) for key, column in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns of {self.name!r} have lengths {lengths}")
        object.__setattr__(self, "columns", arrays)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.column(next(iter(self.columns))))

    def column(self, name: str) -> np.ndarray:
        """Return a column (n,)."""
        return np.asarray(self.columns[name])


class Rows:
    """Collects the rows of a table one by one."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, float]] = []

    def add(self, **values: float) -> None:
        """Add a row."""
        self.rows.append(values)

    def tables(self, name: str, **index: int | float | str) -> list[Table]:
        """Return the table; nothing without a row."""
        if not self.rows:
            return []
        columns = {key: [row[key] for row in self.rows] for key in self.rows[0]}
        return [Table(name, columns, index=index)]


def _numbers(where: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise ValueError(f"{where}: a {array.dtype} of shape {array.shape} is no row of numbers")
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def check(parts: Iterable[Series | Table]) -> None:
    """Refuse curves and tables that could not be read back.

    Raises:
        ValueError: If a curve has not as many y as x, an index value is neither number nor text, a
            name is taken or holds a slash, or tables of one name have different columns.
    """
    tables: dict[str, Table] = {}
    for part in parts:
        for key, value in part.index.items():
            _check_index(f"{part.name}: index {key!r}", value)
        if isinstance(part, Series):
            _check_curve(part)
            names, taken = list(part.index), {*RESERVED, *POINT}
        else:
            names, taken = [*part.index, *part.columns], set(RESERVED)
            first = tables.setdefault(part.name, part)
            if (list(first.columns), first.units) != (list(part.columns), part.units):
                raise ValueError(f"tables named {part.name!r} have different columns or units")
        bad = [n for n in names if n in taken or "/" in n or not n]
        bad += [name for name in names if names.count(name) > 1]
        if bad or "/" in part.name or not part.name:
            raise ValueError(f"{part.name!r} cannot have this name, or a column {bad}")


def is_absent(value: Any) -> bool:
    """Say whether a value stands for none in a stored column of the index."""
    return value in ("", ABSENT) or value != value


def _check_curve(curve: Series) -> None:
    given = [axis for axis in POINT if getattr(curve, axis) is not None]
    shapes = [np.shape(getattr(curve, axis)) for axis in given]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1:
        what = zip(given, shapes, strict=True)
        raise ValueError(f"{curve.name}: " + ", ".join(f"{axis} {shape}" for axis, shape in what))
    for axis in given:
        _numbers(f"{curve.name}: {axis}", getattr(curve, axis))


def _check_index(where: str, value: Any) -> None:
    """Refuse what a column could not hold: text that reads as a number comes back as one."""
    if isinstance(value, str):
        try:
            float(value or "nan")
        except ValueError:
            return
    elif type(value) is not bool and isinstance(value, Real) and not is_absent(value):
        return
    raise ValueError(f"{where} is {value!r}: give a number, or text that is none")
