"""Tables with several columns as series, so that they travel through the tables of series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lossatlas.store import Series


def columns(name: str, table: Mapping[str, Any]) -> list[Series]:
    """Return one series "name:column" per column; x is the number of the row.

    Raises:
        ValueError: If columns differ in length.
    """
    values = {key: np.asarray(column, dtype=np.float64) for key, column in table.items()}
    lengths = {len(column) for column in values.values()}
    if len(lengths) != 1:
        raise ValueError(f"columns of {name!r} have lengths {sorted(lengths)}")
    rows = np.arange(lengths.pop())
    return [Series(f"{name}:{key}", rows, column, "row") for key, column in values.items()]


class Rows:
    """Collects the rows of a table, for `columns`."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, float]] = []

    def add(self, **values: float) -> None:
        """Add a row."""
        self.rows.append(values)

    def series(self, name: str) -> list[Series]:
        """Return the table as series; nothing without a row."""
        if not self.rows:
            return []
        return columns(name, {key: [row[key] for row in self.rows] for key in self.rows[0]})
