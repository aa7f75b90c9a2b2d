"""The archive that Yang et al. published with their taxonomy of loss landscapes (NeurIPS 2021).

ResNet18 on CIFAR-10 with one decay of the learning rate: 15 batch sizes x 14 widths, five runs
each. The archive is read in memory; nothing in it is extracted or run, and a file that is not
expected is refused.
"""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lossatlas import unpickle
from lossatlas.errors import UserError
from lossatlas.reference.taxonomy_published import AXES, COLUMNS, POINTS, QUANTITIES, RUNS

FOLDER = "different_knobs_subset_10"
CURVE = "curve_test.npz"
MOST_BYTES = 2**16  # the largest file has 9106
MOST_FILES = 10_000  # the archive has 1442 entries, folders counted

_FILE = re.compile(FOLDER + r"/bs_([1-9]\d{0,5})/lr_decay/ResNet18_w([1-9]\d{0,5})/metrics/([^/]+)")
_FOLDER = re.compile(FOLDER + r"(/[A-Za-z0-9_]+){0,4}/?")
_AGAIN = "download it again"

Cells = dict[tuple[int, int], dict[str, Any]]  # (batch size, width) -> file -> contents


@dataclass(frozen=True)
class _Source:
    """Where a quantity lies in the archive."""

    file: str
    get: Callable[[Any], Any]  # contents of the file -> a number per run, pair or point


def _per_run(key: str, content: Any) -> list[Any]:
    return [content[run][key] for run in range(RUNS)]


def _eigenvalues(content: Any) -> list[Any]:
    return [only for (only,) in _per_run("top_eigenvalue", content)]


def _pairs(get: Callable[[Any], Any], key: str, content: Any) -> list[list[Any]]:
    table = content[key]
    return [[get(table[i][j]) for j in range(RUNS)] for i in range(RUNS)]


def _layer(index: int, layers: Any) -> Any:
    _output, _softmax = layers
    return layers[index]


def _cka(index: int) -> _Source:
    get = partial(_pairs, partial(_layer, index), "representation_similarity")
    return _Source("CKA_mixup_alpha_16.0.pkl", get)


def _distances(content: Any) -> list[list[Any]]:
    return _pairs(lambda entry: entry["dist"], "model_distance", content)


def _curve(key: str) -> _Source:
    return _Source(CURVE, lambda content: content[key])


_SOURCES = {
    "train_loss": _Source("loss_acc.pkl", partial(_per_run, "loss")),
    "train_accuracy": _Source("loss_acc.pkl", partial(_per_run, "accuracy")),
    "test_loss": _Source("loss_acc_test.pkl", partial(_per_run, "loss")),
    "test_accuracy": _Source("loss_acc_test.pkl", partial(_per_run, "accuracy")),
    "hessian_eigenvalue": _Source("hessian.pkl", _eigenvalues),
    "hessian_trace": _Source("hessian.pkl", partial(_per_run, "trace")),
    "cka_biased_output": _cka(0),
    "cka_biased_softmax": _cka(1),
    "l2_distance": _Source("model_dist.pkl", _distances),
    "curve_train_error": _curve("tr_err"),
    "curve_train_loss": _curve("tr_nll"),
    "curve_test_error": _curve("te_err"),
    "curve_test_loss": _curve("te_nll"),
}
_FILES = {source.file for source in _SOURCES.values()}


def convert(archive: Path) -> pd.DataFrame:
    """Read the archive.

    Args:
        archive: `loss_landscape_taxonomy-results.tar.gz`.

    Returns:
        `taxonomy_published.COLUMNS`, a row per cell, ordered by width and then batch size; NaN
        where a file is missing.

    Raises:
        UserError: If the archive is missing or damaged, or holds what it should not.
    """
    cells = _read(archive)
    rows = []
    for size, width in sorted(cells, key=lambda cell: cell[::-1]):
        files, row = cells[size, width], [float(size), float(width)]
        where = f"{archive}: bs {size}, width {width}"
        if CURVE in files:
            _check_points(files[CURVE], f"{where}, {CURVE}")
        for name, places in QUANTITIES.items():
            source = _SOURCES[name]
            shape = (RUNS,) * len(places[0])  # a curve has as many points as there are runs
            values = np.full(shape, np.nan)
            if source.file in files:
                content = files[source.file]
                values = _numbers(source.get, content, shape, f"{where}, {source.file}")
            row += [float(values[place]) for place in places]
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(AXES, "int64"))


def _numbers(
    get: Callable[[Any], Any], content: Any, shape: tuple[int, ...], where: str
) -> np.ndarray:
    try:
        values = np.asarray(get(content), dtype=np.float64)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"not laid out as expected ({type(error).__name__}: {error})"
        raise UserError(what, where=where, fix=_AGAIN) from None
    if values.shape != shape:
        what = f"has shape {list(values.shape)}, not {list(shape)}"
        raise UserError(what, where=where, fix=_AGAIN)
    return values


def _check_points(content: Any, where: str) -> None:
    """Refuse a curve that was not evaluated at `POINTS`."""
    points = _numbers(lambda curve: curve["ts"], content, (len(POINTS),), where).tolist()
    if points != list(POINTS):
        what = f"a curve at the places t = {points}, not {list(POINTS)}"
        raise UserError(what, where=where, fix=_AGAIN)


def _read(archive: Path) -> Cells:
    cells: Cells = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for count, member in enumerate(tar):
                if count >= MOST_FILES:
                    raise _refused(archive, f"more than {MOST_FILES} files")
                if member.isdir() and _FOLDER.fullmatch(member.name):
                    continue
                _add(cells, archive, tar, member)
    except FileNotFoundError:
        fix = "put it there, or let the workflow download it"
        raise UserError("no such file", where=str(archive), fix=fix) from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        what = f"not a readable .tar.gz ({error})"
        raise UserError(what, where=str(archive), fix=_AGAIN) from None
    if not cells:
        raise _refused(archive, "no results")
    return cells


def _add(cells: Cells, archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Read one member into its cell; refuse links, foreign names, giants and repetitions."""
    match = _FILE.fullmatch(member.name)
    if not match or match[3] not in _FILES or not member.isreg():
        raise _refused(archive, f"an unexpected entry {member.name!r}")
    if member.size > MOST_BYTES:
        raise _refused(archive, f"{member.name!r} with {member.size} bytes")
    files = cells.setdefault((int(match[1]), int(match[2])), {})
    if match[3] in files:
        raise _refused(archive, f"{member.name!r} twice")
    stream = tar.extractfile(member)
    data = stream.read() if stream else b""
    where = f"{archive}: {member.name}"
    files[match[3]] = _arrays(data, where) if match[3] == CURVE else unpickle.loads(data, where)


def _refused(archive: Path, found: str) -> UserError:
    return UserError(f"refused: it holds {found}", where=str(archive), fix=_AGAIN)


def _arrays(data: bytes, where: str) -> Mapping[str, np.ndarray]:
    """Read an .npz, without pickles and within `MOST_BYTES`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            size = sum(entry.file_size for entry in file.infolist())
        if size > MOST_BYTES:
            what, fix = f"refused: it unpacks to {size} bytes", _AGAIN
            raise UserError(what, where=where, fix=fix)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return dict(file)
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, MemoryError) as error:
        raise UserError(f"not readable arrays ({error})", where=where, fix=_AGAIN) from None
