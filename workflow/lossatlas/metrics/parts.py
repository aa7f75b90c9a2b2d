"""Units of a metric that were measured, kept so that no job measures them again.

A part is a record of one unit (a replica, a pair, or the whole cell), named by a digest of the
metric's settings and one of all that it depends on. A job takes the parts that it finds, measures
the rest, and puts the cell's record together from them, so that the record is the same whichever of
them were there. Parts of other settings stay: another config that shares the cell asks for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas import store
from lossatlas.errors import UserError
from lossatlas.metrics.base import Unit
from lossatlas.store import Record

UNITS = ("replica", "pair")  # first axes of arrays that have a row per unit


class Parts:
    """The parts of one metric of one cell.

    Args:
        folder: Where they are kept; "" keeps none.
        kind: Of the metric.
        settings: Of the metric, as far as they decide numbers.
        words: Return what else a unit depends on, as JSON has it.
    """

    def __init__(
        self, folder: str, kind: str, settings: Mapping[str, Any], words: Callable[[Unit], Any]
    ) -> None:
        self.folder, self.kind, self.words = folder, kind, words
        self.asked = _digest([kind, settings])[:12]

    def path(self, unit: Unit) -> Path:
        """Return the file of a unit."""
        return Path(self.folder) / f"{self.asked}-{_digest([list(unit), self.words(unit)])[:24]}.h5"

    def read(self, unit: Unit) -> Record | None:
        """Return the part of a unit; None if there is none, or it is damaged."""
        if not self.folder or not (path := self.path(unit)).exists():
            return None
        try:
            return store.read(path, self.kind)
        except UserError:
            return None

    def write(self, unit: Unit, part: Record) -> None:
        """Keep the part of a unit.

        Raises:
            UserError: If it cannot be written.
        """
        if self.folder:
            path = self.path(unit)
            path.parent.mkdir(parents=True, exist_ok=True)
            store.write(path, part)

    def keep_only(self, units: Iterable[Unit]) -> None:
        """Remove the parts of all other units, weights and code, of these settings."""
        if not self.folder:
            return
        used = {self.path(unit) for unit in units}
        for path in Path(self.folder).glob(f"{self.asked}-*"):
            if path not in used:
                with contextlib.suppress(OSError):
                    path.unlink()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def divide(record: Record, units: Sequence[Unit]) -> dict[Unit, Record]:
    """Divide a record into units: rows, curves and tables by seeds, arrays by their first axis.

    Raises:
        ValueError: If a row belongs to none of the units, or an array has not one row for each.
    """
    found = {unit: Record(record.kind, status=record.status, mode=record.mode) for unit in units}
    for scalar in record.scalars:
        found[_unit_of(scalar.replica, scalar.partner)].scalars.append(scalar)
    for curve in record.series:
        found[_unit_of(curve.replica, curve.partner)].series.append(curve)
    for table in record.tables:
        found[_unit_of(table.replica, table.partner)].tables.append(table)
    for name, array in record.arrays.items():
        rows = array.axes[:1] and array.axes[0] in UNITS
        if rows and len(array.values) != len(units):
            raise ValueError(f"array {name!r} has {len(array.values)} rows for {len(units)} units")
        for place, part in enumerate(found.values()):
            one = array.values[place : place + 1] if rows else array.values
            part.arrays[name] = replace(array, values=one)
    return found


def _unit_of(replica: int | None, partner: int | None) -> Unit:
    return tuple(seed for seed in (replica, partner) if seed is not None)


def put_together(kind: str, parts: Sequence[Record]) -> Record:
    """Return the record of all units, in their order.

    Rows of different lengths, such as those of algorithms that end by themselves, are filled up
    with NaN.

    Raises:
        ValueError: If parts differ in an array that does not depend on the unit.
    """
    record = Record(kind)
    for part in parts:
        record.scalars += part.scalars
        record.series += part.series
        record.tables += part.tables
    for name, first in parts[0].arrays.items() if parts else ():
        arrays = [part.arrays[name] for part in parts]
        if first.axes[:1] and first.axes[0] in UNITS:
            record.arrays[name] = replace(first, values=_stacked([a.values for a in arrays]))
            continue
        if not all(np.array_equal(first.values, other.values) for other in arrays):
            raise ValueError(f"array {name!r} of a {kind} is not the same for all units")
        record.arrays[name] = first
    return record


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {row.shape[1:] for row in rows}
    if len(shapes) > 1:
        longest = np.max([row.shape for row in rows], axis=0)
        rows = [_padded(row, longest[1:]) for row in rows]
    return np.concatenate(rows)


def _padded(row: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    more = [(0, 0), *((0, wanted - has) for wanted, has in zip(shape, row.shape[1:], strict=True))]
    return np.pad(row, more, constant_values=np.nan)


def others(own: Mapping[str, Any], parts: Iterable[Record]) -> list[Mapping[str, Any]]:
    """Return what parts were made with, where that is not what this job has: each once."""
    found: list[Mapping[str, Any]] = []
    for part in parts:
        if part.provenance and part.provenance != own and part.provenance not in found:
            found.append(part.provenance)
    return found
