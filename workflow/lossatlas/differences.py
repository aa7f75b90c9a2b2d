"""Where two records differ: `lossatlas diff`, and every test that two runs are the same."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from lossatlas import store


def differences(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> list[str]:
    """Say where two records differ, times and hosts left out; an empty list means equal contents.

    Numbers are compared bit for bit (NaN equals NaN).

    Raises:
        UserError: As `store.read`.
    """
    a, b = store.read(first), store.read(second)
    found = []
    for name in ("kind", "status", "mode", "spec", "settings", "provenance"):
        one, two = (_text(getattr(record, name)) for record in (a, b))
        if one != two:
            found.append(f"/@{name}: {_short(one)} against {_short(two)}")
    found += _scalars(a.scalars, b.scalars)
    found += _lists("/series", "curves", a.series, b.series)
    found += _lists("/tables", "tables", a.tables, b.tables)
    for name in sorted(set(a.arrays) | set(b.arrays)):
        if name in a.arrays and name in b.arrays:
            found += _parts(f"/arrays/{name}", a.arrays[name], b.arrays[name])
        else:
            found.append(f"/arrays/{name}: only in the {'first' if name in a.arrays else 'second'}")
    return found


def _scalars(a: Sequence[store.Scalar], b: Sequence[store.Scalar]) -> list[str]:
    if len(a) != len(b):
        return [f"/scalars: {len(a)} against {len(b)}"]
    found = []
    for name in (part.name for part in fields(store.Scalar)):
        difference = _differ(*([getattr(scalar, name) for scalar in part] for part in (a, b)))
        found += [f"/scalars {name}: {difference}"] if difference else []
    return found


def _lists(where: str, what: str, a: Sequence[Any], b: Sequence[Any]) -> list[str]:
    """Compare curves or tables, one by one."""
    if len(a) != len(b):
        return [f"{where}: {len(a)} {what} against {len(b)}"]
    pairs = enumerate(zip(a, b, strict=True))
    return [line for i, pair in pairs for line in _parts(f"{where}/{i} ({pair[0].name})", *pair)]


def _parts(where: str, a: Any, b: Any) -> list[str]:
    """Compare two curves, tables or arrays, field by field, and tables column by column."""
    one, two = _fields(a), _fields(b)
    if list(one) != list(two):
        return [f"{where}: columns {', '.join(one)} against {', '.join(two)}"]
    differ = {name: _differ(one[name], two[name]) for name in one}
    return [f"{where} {name}: {difference}" for name, difference in differ.items() if difference]


def _fields(part: Any) -> dict[str, Any]:
    """Return name -> value of the fields, columns of a table among them."""
    found = {field.name: getattr(part, field.name) for field in fields(part)}
    columns = found.pop("columns", {})
    return found | {f"column {name}": values for name, values in columns.items()}


def _differ(one: Any, two: Any) -> str:
    a, b = np.asarray(one), np.asarray(two)
    if a.dtype.kind not in "biuf" or b.dtype.kind not in "biuf":
        return "" if np.array_equal(a, b) else f"{_short(one)} against {_short(two)}"
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{list(a.shape)} against {b.dtype}{list(b.shape)}"
    numeric = a.dtype.kind == "f"
    same = (a == b) | (np.isnan(a) & np.isnan(b)) if numeric else a == b
    if np.all(same):
        return ""
    gaps = np.abs(a - b)[np.isfinite(a) & np.isfinite(b)] if numeric else np.zeros(0)
    largest = f", largest {gaps.max():.3g}" if gaps.any() else ""
    return f"{np.size(same) - np.count_nonzero(same)} of {np.size(same)} values differ{largest}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
