"""What the functions of the notebook return: numbers with their errors and status, and pictures."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from lossatlas import store
from lossatlas.errors import UserValueError, nearest
from lossatlas.tables import collect

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor, nn

_SHOWN = 12  # numbers in a short text
_WHO = ("replica", "partner")


class Number(NamedTuple):
    """A number, its standard error (NaN: none), its status and its unit."""

    value: float
    stderr: float
    status: str
    unit: str

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        error = "" if math.isnan(self.stderr) else f" ± {self.stderr:.2g}"
        state = "" if self.status == "ok" else f" ({self.status})"
        return f"{self.value:.6g}{error}{' ' * bool(self.unit)}{self.unit}{state}"


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What one call measured.

    Attributes:
        record: Everything: numbers, curves, tables, arrays, settings; as `lossatlas metric` writes
            it. Models are numbered from 0.
    """

    record: store.Record
    _picture: str  # a function of `pictures`

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per number: metric, replica, partner, value, stderr, df, unit, status.

        `replica` and `partner` are places in the list of models.
        """
        rows = self.record.scalars
        columns = ["name", *_WHO, "value", "stderr", "df", "unit", "status"]
        frame = pd.DataFrame({c: [getattr(row, c) for row in rows] for c in columns})
        numbers = frame.astype({"value": "float64", "stderr": "float64", "df": "float64"})
        return numbers.astype(dict.fromkeys(_WHO, "Int64")).rename(columns={"name": "metric"})

    @property
    def curves(self) -> pd.DataFrame:
        """A row per point of each curve and per row of each table, named by `series`."""
        parts: list[store.Series | store.Table] = [*self.record.series, *self.record.tables]
        frame = collect.series_frame("", {"": {}}, {"": parts})
        return frame.drop(columns=collect.FIRST)

    def __getitem__(self, metric: str) -> Number:
        """Return a number by its name: the first, where there are several of it.

        Raises:
            UserError: If there is none of that name.
        """
        for row in self.record.scalars:
            if row.name == metric:
                return Number(row.value, row.stderr, row.status, row.unit)
        fix = nearest(metric, {row.name for row in self.record.scalars})
        raise UserValueError(f"has no number '{metric}'", where=self.record.kind, fix=fix)

    def plot(self, axes: Axes | None = None) -> Axes | Figure:
        """Draw it, and return what it was drawn on.

        Args:
            axes: Where; default: a new figure.
        """
        from lossatlas.notebook import pictures  # matplotlib, when it is needed

        drawn: Axes | Figure = getattr(pictures, self._picture)(self, axes)
        return drawn

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write the record, for `lossatlas show` and `lossatlas diff`.

        Raises:
            UserError: If it is no .h5, or cannot be written.
        """
        if not os.fspath(file).endswith(".h5"):
            raise UserValueError(f"'{file}' is no .h5", where="save", fix="end it in .h5")
        store.write(os.fspath(file), self.record)

    def __repr__(self) -> str:
        rows = self.record.scalars
        lines = [self.record.kind]
        for row in rows[:_SHOWN]:
            who = "-".join(str(s) for s in (row.replica, row.partner) if s is not None)
            number = Number(row.value, row.stderr, row.status, row.unit)
            lines.append(f"  {row.name}{f' [{who}]' if who else ''}: {number!r}")
        if len(rows) > _SHOWN:
            lines.append(f"  and {len(rows) - _SHOWN} more: to_pandas()")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False)
class Connection(Result):
    """A trained curve between two models.

    `module(t)` is the network at a place on it, 0 and 1 being the two models.
    """

    _module: Callable[[float], nn.Module] = field(kw_only=True)

    def module(self, t: float) -> nn.Module:
        """Return the network at t, from 0 to 1, in evaluation mode.

        Statistics of BatchNorm are those of the training data there.

        Raises:
            UserError: If t lies outside, or training the curve diverged.
        """
        if not isinstance(t, int | float) or not 0 <= t <= 1:
            raise UserValueError(f"{t!r} lies outside of the curve", where="t", fix="from 0 to 1")
        if not math.isfinite(self["mode_connectivity"].value):
            fix = "a smaller learning_rate"
            raise UserValueError("training the curve diverged", where="connect", fix=fix)
        return self._module(t)


@dataclass(frozen=True, eq=False, repr=False)
class Aligned(Result):
    """Two models, the second with its units brought to those of the first.

    Attributes:
        model: A copy of the second model, in evaluation mode: the same function, other weights.
        permutations: Of each set of units that can be exchanged: the second model's unit (units,)
            that comes to each place.
        places: Of each set, the tensors and axes that it moves.
    """

    model: nn.Module = field(kw_only=True)
    permutations: tuple[np.ndarray, ...] = field(kw_only=True)
    places: tuple[tuple[tuple[str, int], ...], ...] = field(kw_only=True)


@dataclass(frozen=True, eq=False, repr=False)
class Simplexes(Result):
    """A complex of simplexes of low loss.

    Attributes:
        vertices: (V, P), on the device of the models: the models, then the trained connectors.
        names: Of the vertices: w0, w1, ... and c0, c1, ...
    """

    vertices: Tensor = field(kw_only=True)
    names: tuple[str, ...] = field(kw_only=True)
    _module: Callable[[Mapping[str, float]], nn.Module] = field(kw_only=True)

    def module(self, **weights: float) -> nn.Module:
        """Return the network at a mixture of vertices, in evaluation mode.

        Statistics of BatchNorm are those of the training data there.

        Args:
            weights: Of vertices by name, as `module(w0=0.5, c0=0.5)`; their sum is 1.

        Raises:
            UserError: If there is no such vertex, a weight is negative, or they have another sum.
        """
        for name in weights:
            if name not in self.names:
                fix = nearest(name, self.names)
                raise UserValueError(f"no vertex '{name}'", where="module", fix=fix)
        if any(not isinstance(one, int | float) or one < 0 for one in weights.values()):
            what = "a weight is below 0, or no number"
            raise UserValueError(what, where="module", fix="mixtures lie inside of the simplexes")
        total = sum(weights.values())
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            what = f"the weights have the sum {total:g}"
            raise UserValueError(what, where="module", fix="let it be 1")
        return self._module(weights)


def about(record: store.Record, settings: Mapping[str, Any]) -> store.Record:
    """Return a record that says what it was made with."""
    from lossatlas import device

    record.settings, record.provenance = dict(settings), device.provenance()
    record.mode = str(settings.get("mode", record.mode))
    return record
