"""The only module that knows HDF5: typed records, written atomically, read with checks.

A record holds what one job measured. In the file:

    /               attributes: schema, kind, status, mode, spec, settings, code, versions,
                    device, dtype, seeds
    /scalars        compound table: name, replica, partner, value, stderr, status, unit
    /series/<i>     x and y of one curve; attributes name, replica, partner, x_name, x_unit, ...
    /arrays/<name>  arrays with attributes unit, axes, description
    /times          attributes only, as `timing.stopwatch` names them. The one place where two runs
                    of the same spec on the same machine may differ.

Before all that, in HDF5's user block, stands one line with the file's checksum (`seal`). Files that
were written before there was one are read without.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from lossatlas import seal
from lossatlas.errors import UserError
from lossatlas.files import atomic

SCHEMA = 1
STATUSES = ("ok", "diverged", "unconverged", "undefined")
NOBODY = -1  # how "no replica" is stored in the integer columns
_USER_BLOCK = 512  # bytes; HDF5 wants a power of two from 512
_HEADER = f"Loss Atlas record, {seal.BLANK}\n".ljust(_USER_BLOCK).encode()
_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_SCALARS = np.dtype(
    [
        ("name", h5py.string_dtype()),
        ("replica", "i8"),
        ("partner", "i8"),
        ("value", "f8"),
        ("stderr", "f8"),
        ("status", h5py.string_dtype()),
        ("unit", h5py.string_dtype()),
    ]
)


@dataclass(frozen=True)
class Scalar:
    """One number. `replica` and `partner` are seeds; a number of the whole cell has neither."""

    name: str
    value: float
    replica: int | None = None
    partner: int | None = None
    stderr: float = float("nan")
    status: str = "ok"
    unit: str = ""


@dataclass(frozen=True)
class Series:
    """One curve y(x), such as the error along a path or a spectral density."""

    name: str
    x: np.ndarray
    y: np.ndarray
    x_name: str
    replica: int | None = None
    partner: int | None = None
    x_unit: str = ""
    y_unit: str = ""
    status: str = "ok"


@dataclass(frozen=True)
class Array:
    """Numbers that no table needs: predictions, images, residuals."""

    values: np.ndarray
    axes: tuple[str, ...]
    unit: str = ""
    description: str = ""


@dataclass
class Record:
    """What one job measured, and how."""

    kind: str
    scalars: list[Scalar] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    status: str = "ok"
    mode: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    times: Mapping[str, Any] = field(default_factory=dict)

    def scalar(self, name: str) -> Scalar:
        """Return the only scalar of that name.

        Raises:
            KeyError: If there is not exactly one.
        """
        found = [scalar for scalar in self.scalars if scalar.name == name]
        if len(found) != 1:
            raise KeyError(f"{len(found)} scalars named {name!r}")
        return found[0]


def write(path: str | os.PathLike[str], record: Record) -> None:
    """Write a record, atomically.

    Raises:
        ValueError: If a status is unknown.
        UserError: If the file cannot be written.
    """
    parts: list[Scalar | Series] = [*record.scalars, *record.series]
    for status in [record.status, *(part.status for part in parts)]:
        if status not in STATUSES:
            raise ValueError(f"unknown status {status!r}")
    image = io.BytesIO()  # a disk that is full while HDF5 writes to it crashes the process
    with h5py.File(image, "w", track_order=True, userblock_size=_USER_BLOCK) as file:
        _write_parts(file, record)
    image.seek(0)
    image.write(_HEADER)
    with atomic(path) as temporary:
        temporary.write_bytes(image.getbuffer())
        seal.close(temporary)


def _write_parts(file: h5py.File, record: Record) -> None:
    _write_attributes(file, record)
    rows = [
        (s.name, _seed(s.replica), _seed(s.partner), s.value, s.stderr, s.status, s.unit)
        for s in record.scalars
    ]
    file.create_dataset("scalars", data=np.array(rows, dtype=_SCALARS), track_times=False)
    _write_series(file.create_group("series", track_order=True), record.series)
    group = file.create_group("arrays")
    for name, array in sorted(record.arrays.items()):
        dataset = _dataset(group, name, array.values)
        dataset.attrs["axes"] = json.dumps(list(array.axes))
        dataset.attrs["unit"], dataset.attrs["description"] = array.unit, array.description
    times = file.create_group("times")
    for key, value in record.times.items():
        times.attrs[key] = value


def _write_attributes(file: h5py.File, record: Record) -> None:
    file.attrs["schema"] = SCHEMA
    for key in ("kind", "status", "mode"):
        file.attrs[key] = getattr(record, key)
    for key in ("spec", "settings", "provenance"):
        file.attrs[key] = json.dumps(getattr(record, key), sort_keys=True)


def _write_series(group: h5py.Group, series: Sequence[Series]) -> None:
    for index, curve in enumerate(series):
        one = group.create_group(f"{index:05d}")
        _dataset(one, "x", np.asarray(curve.x, dtype=np.float64))
        _dataset(one, "y", np.asarray(curve.y, dtype=np.float64))
        one.attrs["replica"], one.attrs["partner"] = _seed(curve.replica), _seed(curve.partner)
        for key in ("name", "x_name", "x_unit", "y_unit", "status"):
            one.attrs[key] = getattr(curve, key)


def _dataset(group: h5py.Group, name: str, values: np.ndarray) -> h5py.Dataset:
    # Measured on recorded paths: half the time of gzip's default level, and an eighth smaller.
    packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    kept = packed if values.nbytes > 4096 else {}
    return group.create_dataset(name, data=values, track_times=False, **kept)


def _seed(seed: int | None) -> int:
    return NOBODY if seed is None else seed


def _unseed(stored: int) -> int | None:
    return None if stored == NOBODY else int(stored)


def read(path: str | os.PathLike[str], kind: str | None = None, *, arrays: bool = True) -> Record:
    """Read a record.

    Args:
        path: The file.
        kind: Refuse a record of another kind.
        arrays: Whether to read its arrays, which may be large.

    Raises:
        UserError: If the file is missing, truncated, foreign, of another kind or schema.
    """
    with _opened(path, kind) as file:
        attributes = file.attrs
        scalars = [
            Scalar(
                row["name"].decode(),
                float(row["value"]),
                _unseed(row["replica"]),
                _unseed(row["partner"]),
                float(row["stderr"]),
                row["status"].decode(),
                row["unit"].decode(),
            )
            for row in file["scalars"][()]
        ]
        return Record(
            kind=attributes["kind"],
            scalars=scalars,
            series=[_read_series(one) for one in file["series"].values()],
            arrays={n: _read_array(one) for n, one in file["arrays"].items()} if arrays else {},
            status=attributes["status"],
            mode=attributes["mode"],
            spec=json.loads(attributes["spec"]),
            settings=json.loads(attributes["settings"]),
            provenance=json.loads(attributes["provenance"]),
            times={key: _plain(value) for key, value in file["times"].attrs.items()},
        )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _read_series(group: h5py.Group) -> Series:
    text = {key: group.attrs[key] for key in ("name", "x_name", "x_unit", "y_unit", "status")}
    replica, partner = _unseed(group.attrs["replica"]), _unseed(group.attrs["partner"])
    return Series(x=group["x"][()], y=group["y"][()], replica=replica, partner=partner, **text)


def _read_array(dataset: h5py.Dataset) -> Array:
    attributes = dataset.attrs
    axes = tuple(json.loads(attributes["axes"]))
    return Array(dataset[()], axes, attributes["unit"], attributes["description"])


def read_status(path: str | os.PathLike[str]) -> str:
    """Return the status of a record without reading the rest.

    Raises:
        UserError: As `read`.
    """
    with _opened(path, None) as file:
        return str(file.attrs["status"])


@contextmanager
def _opened(path: str | os.PathLike[str], kind: str | None) -> Iterator[h5py.File]:
    advice = "delete it and run the same command again: it will be made anew"
    if not os.path.exists(path):
        fix = "run the command that makes it, or correct the path"
        raise UserError("no such file", where=str(path), fix=fix)
    try:
        _check_whole(path, advice)
        file = h5py.File(path, "r", locking=False)
    except OSError:
        raise UserError("truncated, or not an HDF5 file", where=str(path), fix=advice) from None
    with file:
        found = file.attrs.get("schema")
        if found is None or "kind" not in file.attrs:
            raise UserError("not a Loss Atlas file", where=str(path), fix=advice)
        if int(found) != SCHEMA:
            fix = f"this version reads schema {SCHEMA}; use the version that wrote it, or {advice}"
            raise UserError(f"has schema {found}", where=str(path), fix=fix)
        if kind is not None and file.attrs["kind"] != kind:
            what = f"holds '{file.attrs['kind']}', not '{kind}'"
            raise UserError(what, where=str(path), fix="give the file of that kind")
        try:
            yield file
        except (OSError, KeyError, RuntimeError, json.JSONDecodeError) as error:
            what = f"damaged ({type(error).__name__})"
            raise UserError(what, where=str(path), fix=advice) from None


def _check_whole(path: str | os.PathLike[str], advice: str) -> None:
    """Refuse a damaged file before HDF5 reads any of it."""
    if seal.whole(path):
        return
    with open(path, "rb") as file:
        start = file.read(len(_HEADER))
    if start.startswith(_SIGNATURE):  # of another program, or written before there were seals
        return
    ours = start[:10] == _HEADER[:10]
    what = (
        "truncated or damaged: its checksum is wrong" if ours else "truncated, or not an HDF5 file"
    )
    raise UserError(what, where=str(path), fix=advice)


def differences(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> list[str]:
    """Say where two records differ, times and hosts left out; an empty list means equal contents.

    Numbers are compared bit for bit (NaN equals NaN).

    Raises:
        UserError: As `read`.
    """
    found: list[str] = []
    with _opened(first, None) as a, _opened(second, None) as b:
        _compare(a, b, "/", found)
    return found


def _compare(a: h5py.Group, b: h5py.Group, where: str, found: list[str]) -> None:
    for key in sorted(set(a.attrs) | set(b.attrs)):
        one, two = a.attrs.get(key), b.attrs.get(key)
        if one is None or two is None or not np.array_equal(one, two):
            found.append(f"{where}@{key}: {_short(one)} against {_short(two)}")
    for name in sorted(set(a) | set(b)):
        if where == "/" and name == "times":
            continue
        path = f"{where}{name}"
        if name not in a or name not in b:
            found.append(f"{path}: only in the {'first' if name in a else 'second'}")
        elif isinstance(a[name], h5py.Group) and isinstance(b[name], h5py.Group):
            _compare(a[name], b[name], f"{path}/", found)
        elif difference := _differ(a[name][()], b[name][()]):
            found.append(f"{path}: {difference}")


def _differ(a: Any, b: Any) -> str:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{list(a.shape)} against {b.dtype}{list(b.shape)}"
    if a.dtype.names:
        parts = [f"{name}: {text}" for name in a.dtype.names if (text := _differ(a[name], b[name]))]
        return "; ".join(parts)
    numeric = a.dtype.kind == "f"
    same = (a == b) | (np.isnan(a) & np.isnan(b)) if numeric else a == b
    if np.all(same):
        return ""
    gaps = np.abs(a - b)[np.isfinite(a) & np.isfinite(b)] if numeric else np.zeros(0)
    largest = f", largest {gaps.max():.3g}" if gaps.any() else ""
    return f"{np.size(same) - np.count_nonzero(same)} of {np.size(same)} values differ{largest}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
