"""The fields of a CSV file, and what they say: numbers where all of a column are numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
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
    given = (texts != "").to_numpy()
    values = np.full(len(texts), np.nan)
    # Python's own parser is exact, which that of pandas is not in every version.
    values[given] = texts[given].to_numpy(dtype=object).astype(np.float64)
    return values


def axis_values(texts: pd.Series) -> Any:
    """Return an axis' values as whole numbers, else as numbers, else as they are."""
    places, different = _different(texts)
    values = _parsed(different)
    return [values[place] for place in places.tolist()]


def whole_numbers(texts: pd.Series) -> Any:
    """Return a column of whole numbers; absent where it is empty."""
    return _whole(*_different(texts))


def index_values(texts: pd.Series) -> Any:
    """Return a column of an index or of a table, parsed as an axis is; absent where it is empty."""
    places, different = _different(texts)
    given = _parsed([text for text in different if text])
    if not given or isinstance(given[0], float):
        return floats(texts)
    return _whole(places, different) if isinstance(given[0], int) else texts.where(texts != "")


def _different(texts: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return each text once, and which of them stands in each row: most rows repeat a few."""
    places, different = pd.factorize(texts)
    return places, different.to_numpy(dtype=object).tolist()


def _parsed(texts: Sequence[str]) -> Sequence[Any]:
    for kind in (int, float):
        try:
            return [kind(text) for text in texts]
        except ValueError:
            continue
    return texts


def _whole(places: np.ndarray, different: Sequence[str]) -> Any:
    values = np.array([int(text) if text else 0 for text in different], dtype=np.int64)
    absent = np.array([not text for text in different], dtype=bool)
    return pd.arrays.IntegerArray(values[places], absent[places])
