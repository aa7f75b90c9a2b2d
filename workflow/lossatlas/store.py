"""The only module that knows HDF5: typed records, written atomically, read with checks.

A record holds what one job measured. In the file:

    /               attributes: schema, kind, status, mode, spec, settings, code, versions,
                    device, dtype, seeds
    /scalars        compound table: name, replica, partner, value, stderr, status, unit
    /series/curves  compound table: name, replica, partner, x_name, x_unit, y_unit, status, points
    /series/x, y    the points of all curves, one curve after the other
    /arrays/<name>  arrays with attributes unit, axes, description
    /times          attributes only, as `timing.stopwatch` names them. The one place where two runs
                    of the same spec on the same machine may differ.

Before all that, in HDF5's user block, stands one line with the file's checksum (`seal`) and what
made it (`made`). Schema 1, which had a group per curve (twenty times as slow to read), is read too.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import h5py
import numpy as np

from lossatlas import made, seal
from lossatlas.errors import UserError
from lossatlas.files import atomic

SCHEMA = 2
_READABLE = (1, SCHEMA)
STATUSES = ("ok", "diverged", "unconverged", "undefined")
NOBODY = -1  # how "no replica" is stored in the integer columns
_SMALLEST = 512  # bytes of the user block; HDF5 wants a power of two from 512
_HEADER = f"Loss Atlas record, {seal.BLANK}"
_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_TEXT = h5py.string_dtype()
_SCALARS = np.dtype(
    [
        ("name", _TEXT),
        ("replica", "i8"),
        ("partner", "i8"),
        ("value", "f8"),
        ("stderr", "f8"),
        ("status", _TEXT),
        ("unit", _TEXT),
    ]
)
_CURVES = np.dtype(
    [
        ("name", _TEXT),
        ("replica", "i8"),
        ("partner", "i8"),
        ("x_name", _TEXT),
        ("x_unit", _TEXT),
        ("y_unit", _TEXT),
        ("status", _TEXT),
        ("points", "i8"),
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


def write(
    path: str | os.PathLike[str], record: Record, others: Sequence[str | os.PathLike[str]] = ()
) -> None:
    """Write a record, atomically.

    Args:
        path: The file.
        record: What it holds.
        others: Outputs of the same job that were written before: the header tells their checksums.

    Raises:
        ValueError: If a status is unknown, or a curve has not as many y as x.
        UserError: If the file cannot be written.
    """
    parts: list[Scalar | Series] = [*record.scalars, *record.series]
    for status in [record.status, *(part.status for part in parts)]:
        if status not in STATUSES:
            raise ValueError(f"unknown status {status!r}")
    header = b" ".join([_HEADER.encode(), made.header(made.current(others))]) + b"\n"
    block = max(_SMALLEST, 1 << (len(header) - 1).bit_length())
    image = io.BytesIO()  # a disk that is full while HDF5 writes to it crashes the process
    with h5py.File(image, "w", track_order=True, userblock_size=block) as file:
        _write_parts(file, record)
    image.seek(0)
    image.write(header.ljust(block))
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
    for curve in series:
        if np.shape(curve.x) != np.shape(curve.y) or np.ndim(curve.x) != 1:
            raise ValueError(f"{curve.name}: x {np.shape(curve.x)}, y {np.shape(curve.y)}")
    rows = [
        (c.name, _seed(c.replica), _seed(c.partner), c.x_name, c.x_unit, c.y_unit, c.status)
        for c in series
    ]
    curves = [(*row, len(c.x)) for row, c in zip(rows, series, strict=True)]
    group.create_dataset("curves", data=np.array(curves, dtype=_CURVES), track_times=False)
    for axis in ("x", "y"):
        points = [np.asarray(getattr(curve, axis), dtype=np.float64) for curve in series]
        _dataset(group, axis, np.concatenate([np.zeros(0), *points]))


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
        return replace(
            _about(file),
            scalars=scalars,
            series=_read_series(file["series"]),
            arrays={n: _read_array(one) for n, one in file["arrays"].items()} if arrays else {},
            times={key: _plain(value) for key, value in file["times"].attrs.items()},
        )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _read_series(group: h5py.Group) -> list[Series]:
    if "curves" not in group:
        return [_read_curve(one) for one in group.values()]
    curves, x, y = group["curves"][()], group["x"][()], group["y"][()]
    texts = ("name", "x_name", "x_unit", "y_unit", "status")
    columns = {key: [text.decode() for text in curves[key]] for key in texts}
    for key in ("replica", "partner"):
        columns[key] = [_unseed(seed) for seed in curves[key].tolist()]
    ends = np.cumsum(curves["points"]).tolist()
    if [len(x), len(y)] != [ends[-1] if ends else 0] * 2:
        raise KeyError("points")
    points = ((x[a:b], y[a:b]) for a, b in pairwise([0, *ends]))
    rows = zip(*columns.values(), strict=True)
    return [
        Series(x=x, y=y, **dict(zip(columns, row, strict=True)))
        for (x, y), row in zip(points, rows, strict=True)
    ]


def _read_curve(group: h5py.Group) -> Series:
    """Read one curve of a record of schema 1."""
    text = {key: group.attrs[key] for key in ("name", "x_name", "x_unit", "y_unit", "status")}
    replica, partner = _unseed(group.attrs["replica"]), _unseed(group.attrs["partner"])
    return Series(x=group["x"][()], y=group["y"][()], replica=replica, partner=partner, **text)


def _read_array(dataset: h5py.Dataset) -> Array:
    attributes = dataset.attrs
    axes = tuple(json.loads(attributes["axes"]))
    return Array(dataset[()], axes, attributes["unit"], attributes["description"])


def read_about(path: str | os.PathLike[str]) -> Record:
    """Return a record's status, spec, settings and provenance, without what was measured.

    Raises:
        UserError: As `read`.
    """
    with _opened(path, None) as file:
        return _about(file)


def _about(file: h5py.File) -> Record:
    attributes = file.attrs
    return Record(
        kind=str(attributes["kind"]),
        status=str(attributes["status"]),
        mode=str(attributes["mode"]),
        spec=json.loads(attributes["spec"]),
        settings=json.loads(attributes["settings"]),
        provenance=json.loads(attributes["provenance"]),
    )


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
        if int(found) not in _READABLE:
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
        start = file.read(_SMALLEST)
    if start.startswith(_SIGNATURE):  # of another program, or written before there were seals
        return
    ours = start[:10] == _HEADER[:10].encode()
    what = (
        "truncated or damaged: its checksum is wrong" if ours else "truncated, or not an HDF5 file"
    )
    raise UserError(what, where=str(path), fix=advice)
