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
    if len(a.series) != len(b.series):
        found.append(f"/series: {len(a.series)} curves against {len(b.series)}")
    else:
        for index, pair in enumerate(zip(a.series, b.series, strict=True)):
            found += _parts(f"/series/{index} ({pair[0].name})", *pair)
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


def _parts(where: str, a: Any, b: Any) -> list[str]:
    """Compare two curves or arrays, field by field."""
    names = [part.name for part in fields(a)]
    differ = {name: _differ(getattr(a, name), getattr(b, name)) for name in names}
    return [f"{where} {name}: {difference}" for name, difference in differ.items() if difference]


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
