"""The only package that knows HDF5: typed records, written atomically, read with checks.

A record holds what one job measured. In the file:

    /               attributes: schema, kind, status, mode, spec, settings, code, versions,
                    device, dtype, seeds
    /scalars        compound table: name, replica, partner, value, stderr, df, status, unit
    /series         all curves (see `store.layout`)
    /tables         all tables (likewise)
    /arrays/<name>  arrays with attributes unit, axes, description
    /times          attributes only, as `timing.stopwatch` names them. The one place where two runs
                    of the same spec on the same machine may differ.

Before all that, in HDF5's user block, stands one line with the file's checksum (`seal`) and what
made it (`made`).
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
import numpy as np

from lossatlas import made, seal
from lossatlas.errors import UserError
from lossatlas.files import atomic
from lossatlas.store.foreign import check_self_contained
from lossatlas.store.layout import (
    TEXT,
    dataset,
    read_series,
    read_tables,
    rows_of,
    seed_of,
    stored_seed,
    write_series,
    write_tables,
)
from lossatlas.store.series import Rows, Series, Table, check

__all__ = ["Array", "Record", "Rows", "Scalar", "Series", "Table", "read", "read_about", "write"]

SCHEMA = 3
STATUSES = ("ok", "diverged", "unconverged", "undefined")
_SMALLEST = 512  # bytes of the user block; HDF5 wants a power of two from 512
_HEADER = f"Loss Atlas record, {seal.BLANK}"
_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_SCALARS = np.dtype(
    [
        ("name", TEXT),
        ("replica", "i8"),
        ("partner", "i8"),
        ("value", "f8"),
        ("stderr", "f8"),
        ("df", "f8"),
        ("status", TEXT),
        ("unit", TEXT),
    ]
)


@dataclass(frozen=True)
class Scalar:
    """One number. `replica` and `partner` are seeds; a number of the whole cell has neither.

    `df` are the degrees of freedom of the standard error; NaN if they are unknown.
    """

    name: str
    value: float
    replica: int | None = None
    partner: int | None = None
    stderr: float = float("nan")
    status: str = "ok"
    unit: str = ""
    df: float = float("nan")


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
    tables: list[Table] = field(default_factory=list)

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
        ValueError: If a status is unknown, or a curve or table could not be read back (see
            `series.check`).
        UserError: If the file cannot be written.
    """
    parts: list[Series | Table] = [*record.series, *record.tables]
    of_scalars, of_parts = [s.status for s in record.scalars], [part.status for part in parts]
    for status in [record.status, *of_scalars, *of_parts]:
        if status not in STATUSES:
            raise ValueError(f"unknown status {status!r}")
    check(parts)
    told = made.current(others)
    room = len(_header(made.header(told)))
    block = max(_SMALLEST, 1 << (room - 1).bit_length())
    image = io.BytesIO()  # a disk that is full while HDF5 writes to it crashes the process
    with h5py.File(image, "w", track_order=True, userblock_size=block) as file:
        _write_parts(file, record)
    content = zlib.crc32(image.getbuffer()[block:])
    image.seek(0)
    image.write(_header(made.header(told, content)).ljust(block))
    with atomic(path) as temporary:
        temporary.write_bytes(image.getbuffer())
        seal.close(temporary)


def _header(told: bytes) -> bytes:
    return b" ".join([_HEADER.encode(), told]) + b"\n"


def _write_parts(file: h5py.File, record: Record) -> None:
    _write_attributes(file, record)
    rows = [(*_who(s), s.value, s.stderr, s.df, s.status, s.unit) for s in record.scalars]
    file.create_dataset("scalars", data=np.array(rows, dtype=_SCALARS), track_times=False)
    write_series(file.create_group("series"), record.series)
    write_tables(file.create_group("tables"), record.tables)
    group = file.create_group("arrays")
    for name, array in sorted(record.arrays.items()):
        attributes = dataset(group, name, array.values).attrs
        attributes["axes"] = json.dumps(list(array.axes))
        attributes["unit"], attributes["description"] = array.unit, array.description
    times = file.create_group("times")
    for key, value in record.times.items():
        times.attrs[key] = value


def _write_attributes(file: h5py.File, record: Record) -> None:
    file.attrs["schema"] = SCHEMA
    for key in ("kind", "status", "mode"):
        file.attrs[key] = getattr(record, key)
    for key in ("spec", "settings", "provenance"):
        file.attrs[key] = json.dumps(getattr(record, key), sort_keys=True)


def _who(scalar: Scalar) -> tuple[str, int, int]:
    return scalar.name, stored_seed(scalar.replica), stored_seed(scalar.partner)


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
                seed_of(row["replica"]),
                seed_of(row["partner"]),
                float(row["stderr"]),
                row["status"].decode(),
                row["unit"].decode(),
                float(row["df"]),
            )
            for row in rows_of(file, "scalars", _SCALARS)
        ]
        return replace(
            _about(file),
            scalars=scalars,
            series=read_series(file["series"]),
            tables=read_tables(file["tables"]),
            arrays={n: _read_array(one) for n, one in file["arrays"].items()} if arrays else {},
            times={key: _plain(value) for key, value in file["times"].attrs.items()},
        )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


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
    if not os.path.isfile(path):  # a pipe would be waited for without end
        raise UserError("is no regular file", where=str(path), fix="give an .h5 file")
    try:
        _check_whole(path, advice)
        file = h5py.File(path, "r", locking=False)
    except OSError:
        raise UserError("truncated, or not an HDF5 file", where=str(path), fix=advice) from None
    with file:
        try:
            _check_kind(file, path, kind, advice)
            check_self_contained(file, str(path))
            yield file
        except _DAMAGED as error:
            what = f"damaged ({type(error).__name__})"
            raise UserError(what, where=str(path), fix=advice) from None


# What h5py and numpy raise of files with other types, shapes and names than ours.
_DAMAGED = (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError)


def _check_kind(
    file: h5py.File, path: str | os.PathLike[str], kind: str | None, advice: str
) -> None:
    found = file.attrs.get("schema")
    if found is None or "kind" not in file.attrs:
        raise UserError("not a Loss Atlas file", where=str(path), fix=advice)
    if int(found) != SCHEMA:
        fix = f"this version reads schema {SCHEMA}; use the version that wrote it, or {advice}"
        raise UserError(f"has schema {found}", where=str(path), fix=fix)
    if not isinstance(file.attrs["kind"], str):
        raise TypeError("'kind' is no text")
    if kind is not None and file.attrs["kind"] != kind:
        what = f"holds '{file.attrs['kind']}', not '{kind}'"
        raise UserError(what, where=str(path), fix="give the file of that kind")


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
