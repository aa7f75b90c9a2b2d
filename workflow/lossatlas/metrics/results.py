"""What the function of a metric returned, as rows of a record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lossatlas.errors import UserError, nearest, told
from lossatlas.metrics.base import Given, Metric, Unit, Value
from lossatlas.store import STATUSES, Record, Scalar, Series


def collect(metric: Metric, given: Given, units: Sequence[Unit]) -> Record:
    """Call `measure` for each unit and put what it returns into a record.

    Raises:
        UserError: If it fails, or returns anything but what it declares.
    """
    from lossatlas.metrics.network import arguments

    record = Record(metric.kind)
    for unit in units:
        try:
            found = metric.measure(*arguments(given.networks, metric.per, unit))
        except UserError:
            raise
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # the user's function may fail in any way
            if type(error).__name__ in ("OutOfMemoryError", "Preempted"):
                raise
            raise UserError(f"measure fails: {told(error)}", where=metric.kind) from error
        values, series = _divided(metric, found)
        replica, partner = _who(metric, unit)
        for name, value in values.items():
            record.scalars.append(_scalar(metric, name, value, replica, partner))
        record.series += [replace(one, replica=replica, partner=partner) for one in series]
    return record


def _who(metric: Metric, unit: Unit) -> tuple[int | None, int | None]:
    if metric.per == "cell":
        return None, None
    return unit[0], unit[1] if metric.per == "pair" else None


def _divided(metric: Metric, found: Any) -> tuple[dict[str, Any], list[Series]]:
    """Return the numbers by name, and the curves."""
    series: list[Series] = []
    if isinstance(found, tuple):
        if len(found) != 2 or not _are_series(found[1]):
            raise _wrong(metric, "a tuple that is not (values, list of Series)")
        found, series = found[0], list(found[1])
    names = [one.name for one in metric.outputs if metric.per_of(one) == metric.per]
    if not isinstance(found, Mapping):
        if len(names) > 1:
            what = f"one {type(found).__name__} for {len(names)} outputs"
            raise _wrong(metric, what)
        found = {names[0]: found}
    for name in found:
        if metric.output(str(name)) is None:
            what = f"returns '{name}', which it does not declare"
            raise UserError(what, where=metric.kind, fix=nearest(name, names))
    if missing := [name for name in names if name not in found]:
        what, fix = f"returns no '{missing[0]}', which it declares", "status='undefined' marks none"
        raise UserError(what, where=metric.kind, fix=fix)
    return dict(found), series


def _are_series(found: Any) -> bool:
    return isinstance(found, list | tuple) and all(isinstance(one, Series) for one in found)


def _wrong(metric: Metric, what: str) -> UserError:
    fix = "return la.Value(number), or {name: la.Value(number), ...}"
    return UserError(f"measure returns {what}", where=metric.kind, fix=fix)


def _scalar(
    metric: Metric, name: str, found: Any, replica: int | None, partner: int | None
) -> Scalar:
    given = found if isinstance(found, Value) else Value(found)
    value, stderr = _number(metric, name, given.value), _number(metric, name, given.stderr)
    if given.status not in STATUSES:
        what = f"gives '{name}' the status '{given.status}'"
        raise UserError(what, where=metric.kind, fix=nearest(given.status, STATUSES))
    status = given.status
    if not math.isfinite(value):
        value, status = math.nan, "undefined" if status == "ok" else status
    return Scalar(name, value, replica, partner, stderr=stderr, status=status, df=float(given.df))


def _number(metric: Metric, name: str, given: Any) -> float:
    """Return a number, or the only element of a tensor or an array, as a float."""
    size = getattr(given, "numel", None) or getattr(given, "size", 1)
    count = size() if callable(size) else size
    text = isinstance(given, str | bytes | bool | type(None))
    if not text and count == 1:
        try:
            return float(given)
        except (TypeError, ValueError):
            pass
    shape = f" of shape {tuple(given.shape)}" if hasattr(given, "shape") else ""
    raise _wrong(metric, f"a {type(given).__name__}{shape} for '{name}', which is no number")


def check(metric: Metric, record: Any) -> Record:
    """Refuse numbers that a metric does not declare; give those without a unit the declared one.

    Raises:
        UserError: With the number.
    """
    if not isinstance(record, Record):
        what = f"measure_units returns a {type(record).__name__}, not a store.Record"
        raise UserError(what, where=metric.kind)
    for place, row in enumerate(record.scalars):
        declared = metric.output(row.name)
        if declared is None:
            names = [one.name for one in metric.outputs]
            what = f"writes '{row.name}', which it does not declare"
            raise UserError(what, where=metric.kind, fix=nearest(row.name, names))
        if not row.unit:
            record.scalars[place] = replace(row, unit=declared.unit)
    return record


def in_unit(record: Record, unit: str) -> Record:
    """Put the unit of a task's loss in the place of nats, in which formulas name losses."""
    if unit == "nats":
        return record

    def renamed(old: str) -> str:
        return unit if old == "nats" else old

    record.scalars = [replace(row, unit=renamed(row.unit)) for row in record.scalars]
    record.series = [
        replace(one, x_unit=renamed(one.x_unit), y_unit=renamed(one.y_unit))
        for one in record.series
    ]
    record.tables = [
        replace(table, units={key: renamed(old) for key, old in table.units.items()})
        for table in record.tables
    ]
    return record
