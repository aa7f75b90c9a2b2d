"""The fields of a CSV file, and what they say: numbers where all of a column are numbers."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def fields(path: Path) -> pd.DataFrame:
    """Return the fields of a CSV file as they are.

    Raises:
        ValueError: If it is cut off, or a row has more or fewer fields than there are columns.
    """
    content = path.read_bytes()
    if zero := content.find(b"\0") + 1:
        line = content.count(b"\n", 0, zero) + 1
        raise ValueError(f"line {line} holds NUL bytes")
    if not content.endswith(b"\n"):
        raise ValueError("its last line is cut off")
    table = pd.read_csv(
        io.BytesIO(content), dtype="str", keep_default_na=False, skip_blank_lines=False
    )
    if type(table.index) is not pd.RangeIndex:  # what pandas makes of longer rows
        raise ValueError("its rows have more fields than there are columns")
    last = table.iloc[:, -1]  # a status, which is never empty
    short = np.flatnonzero(last.isna() | (last == ""))
    if len(short):
        raise ValueError(f"row {short[0] + 1} has too few fields")
    return table


def floats(texts: pd.Series) -> np.ndarray:
    """Return a column of numbers; NaN where it is empty."""
    # Python's own parser is exact, which that of pandas is not in every version.
    return texts.where(texts != "", "nan").to_numpy(dtype=object).astype(np.float64)


def each(texts: pd.Series, parse: Callable[[Sequence[str]], list[Any]]) -> list[Any]:
    """Parse each text once, however many rows have it."""
    places, different = pd.factorize(texts)
    values = parse(list(different))
    return [values[place] for place in places.tolist()]


def seeds(texts: Sequence[str]) -> list[int | None]:
    """Return whole numbers; None where there is none."""
    return [int(text) if text else None for text in texts]


def axis_values(texts: Sequence[str]) -> list[Any]:
    """Return an axis' values as whole numbers, else as numbers, else as they are."""
    for kind in (int, float):
        try:
            return [kind(text) for text in texts]
        except ValueError:
            continue
    return list(texts)


def index_values(texts: pd.Series) -> Any:
    """Return a column of an index or of tables likewise; what is empty is absent."""
    values = axis_values([text for text in pd.unique(texts) if text])
    if not values or isinstance(values[0], float):
        return floats(texts)
    if isinstance(values[0], int):
        return pd.array(each(texts, seeds), dtype="Int64")
    return texts.where(texts != "", np.nan)
