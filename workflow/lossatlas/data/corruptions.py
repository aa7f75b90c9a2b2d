"""Corrupted test images as published: a tar of .npy files (Hendrycks & Dietterich, 2019).

The archive is read where it lies, a severity at a time, so that no job holds or unpacks all of it.
Only array headers are interpreted; pickled objects are refused.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from lossatlas.errors import UserError

SEVERITIES = 5
LABELS = "labels"
_ADVICE = "delete it and fetch it again"


class Corruptions:
    """An archive of `<kind>.npy` (5 N, H, W, C), bytes, severity by severity, and `labels.npy`.

    Args:
        archive: The tar file.

    Attributes:
        kinds: Names of the corruptions, in alphabetical order.
        labels: (N,), int64, the same for every kind and severity.

    Raises:
        UserError: If the archive is missing, damaged, or of another format.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        try:
            with tarfile.open(archive, "r:") as tar:
                members = [member for member in tar if member.isfile()]
        except FileNotFoundError:
            raise UserError("no such file", where=str(archive), fix="download it first") from None
        except (tarfile.TarError, OSError, EOFError) as error:
            raise self._bad(f"cannot be read: {error}") from None
        self._members = {
            Path(member.name).stem: member for member in members if member.name.endswith(".npy")
        }
        self.kinds = sorted(self._members.keys() - {LABELS})
        if LABELS not in self._members or not self.kinds:
            raise self._bad("holds no labels.npy, or no images beside it")
        labels = self._rows(LABELS, 0, None).astype(np.int64)
        if labels.ndim != 1 or not len(labels) or len(labels) % SEVERITIES:
            raise self._bad(f"{LABELS}.npy has shape {labels.shape}, not (5 N,)")
        repeated = labels.reshape(SEVERITIES, -1)
        if not (repeated == repeated[0]).all():
            raise self._bad("severities have different labels")
        self.labels = repeated[0].copy()

    def images(self, kind: str, severity: int) -> np.ndarray:
        """Return the images (N, H, W, C), uint8, of one corruption at a severity from 1 to 5.

        Raises:
            UserError: If they are damaged or no images.
        """
        count = len(self.labels)
        found = self._rows(kind, (severity - 1) * count, count, SEVERITIES * count)
        if found.ndim != 4 or found.dtype != np.uint8:
            raise self._bad(f"{kind}.npy holds {found.dtype}{list(found.shape[1:])}, no images")
        return found

    def _rows(self, name: str, first: int, count: int | None, length: int = -1) -> np.ndarray:
        """Return rows of an array, `count` of them from `first` on, or all."""
        try:
            with tarfile.open(self.archive, "r:") as tar:
                file = tar.extractfile(self._members[name])
                assert file is not None  # it is a regular file
                shape, dtype = _header(file)
                if length >= 0 and shape[:1] != (length,):
                    raise self._bad(f"{name}.npy has shape {shape} for {length} labels")
                rows = shape[0] if count is None else count
                size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
                file.seek(first * size, 1)
                content = file.read(rows * size)
        except (tarfile.TarError, OSError, EOFError, ValueError, IndexError) as error:
            raise self._bad(f"{name}.npy cannot be read: {error}") from None
        if len(content) != rows * size:
            raise self._bad(f"{name}.npy is cut off")
        return np.frombuffer(bytearray(content), dtype).reshape(rows, *shape[1:])

    def _bad(self, what: str) -> UserError:
        return UserError(what, where=str(self.archive), fix=_ADVICE)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and type of an array, the file standing at its first element.

    Raises:
        ValueError: If it is no .npy file, or holds objects or columns first.
    """
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, columns_first, dtype = read(file)
    if dtype.hasobject or columns_first:
        raise ValueError("pickled objects, or columns first")
    return shape, dtype
