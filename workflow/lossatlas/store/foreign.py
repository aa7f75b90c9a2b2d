"""HDF5 files from elsewhere can point at other files, or say that they hold more than they do."""

from __future__ import annotations

import os

import h5py

from lossatlas.errors import UserError

_DEEPEST = 4  # groups in groups; a record has 3
_PACKED = 2000  # bytes that one byte of a compressed file can stand for, about


def check_self_contained(file: h5py.File, where: str) -> None:
    """Refuse a file that takes in parts of others, or that would fill the memory.

    Links to other files and storage outside of the file are followed by HDF5 when data are read.

    Raises:
        UserError: With the part.
    """
    room = _PACKED * (os.path.getsize(where) + 4096)
    _check(file, where, room, 0)


def _check(group: h5py.Group, where: str, room: int, depth: int) -> None:
    for name in group:
        path = f"{group.name.rstrip('/')}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise _refusal(path, "is a link", where)
        part = group[name]
        if isinstance(part, h5py.Group):
            if depth == _DEEPEST:
                raise _refusal(path, "lies deeper than any of ours", where)
            _check(part, where, room, depth + 1)
        elif not isinstance(part, h5py.Dataset):
            raise _refusal(path, "is no array", where)
        elif part.external or part.is_virtual:
            raise _refusal(path, "lies in another file", where)
        elif part.nbytes > room:
            raise _refusal(path, f"would have {part.nbytes:.1e} bytes", where)


def _refusal(path: str, what: str, where: str) -> UserError:
    return UserError(f"'{path}' {what}", where=where, fix="give a file that Loss Atlas wrote")
