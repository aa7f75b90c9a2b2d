"""The numbers that Yang et al. published with their taxonomy of loss landscapes (NeurIPS 2021).

ResNet18 on CIFAR-10 with one decay of the learning rate: 15 batch sizes x 14 widths, five runs
each. The archive is read in memory; nothing in it is extracted or run, and a file that is not
expected is refused.
"""

from __future__ import annotations

import hashlib
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

from lossatlas.errors import UserError
from lossatlas.reference import unpickle
from lossatlas.store import Array, Record

KIND = "reference"
SOURCE = "https://github.com/nsfzyzz/loss_landscape_taxonomy"
RUNS = 5
FOLDER = "different_knobs_subset_10"
CURVE = "curve_test.npz"
MOST_BYTES = 2**16  # the largest file has 9106
MOST_FILES = 10_000  # the archive has 1442 entries, folders counted

_FILE = re.compile(FOLDER + r"/bs_([1-9]\d{0,5})/lr_decay/ResNet18_w([1-9]\d{0,5})/metrics/([^/]+)")
_FOLDER = re.compile(FOLDER + r"(/[A-Za-z0-9_]+){0,4}/?")
_AGAIN = "download it again"

Cells = dict[tuple[int, int], dict[str, Any]]  # (batch size, width) -> file -> contents


@dataclass(frozen=True)
class Quantity:
    """Where a quantity lies in the archive, and what it is."""

    file: str
    get: Callable[[Any], Any]
    axes: tuple[str, ...]
    unit: str
    description: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one cell."""
        return (RUNS,) * len(self.axes)  # a curve has as many points as there are runs


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


def _quantities() -> dict[str, Quantity]:
    run, pair, point = ("replica",), ("replica", "partner"), ("t",)
    found = {}
    for part, file in (("train", "loss_acc.pkl"), ("test", "loss_acc_test.pkl")):
        for name, unit in (("loss", "nats"), ("accuracy", "percent")):
            what = f"{part}ing set, evaluation mode" if part == "train" else "test set"
            found[f"{part}_{name}"] = Quantity(file, partial(_per_run, name), run, unit, what)
    seen = "of the mean cross entropy of 200 training images, evaluation mode"
    hessian = "hessian.pkl"
    found["hessian_eigenvalue"] = Quantity(
        hessian, _eigenvalues, run, "nats", f"largest in modulus, of the Hessian {seen}"
    )
    found["hessian_trace"] = Quantity(
        hessian, partial(_per_run, "trace"), run, "nats", f"of the Hessian {seen}"
    )
    for index, layer in enumerate(("output", "softmax")):
        found[f"cka_biased_{layer}"] = Quantity(
            "CKA_mixup_alpha_16.0.pkl",
            partial(_pairs, partial(_layer, index), "representation_similarity"),
            pair,
            "",
            "blended training images, drawn anew for each ordered pair",
        )
    found["l2_distance"] = Quantity(
        "model_dist.pkl",
        partial(_pairs, lambda entry: entry["dist"], "model_distance"),
        pair,
        "",
        "between all trainable parameters",
    )
    for part, key in (("train", "tr"), ("test", "te")):
        for name, short, unit in (
            ("error", "err", "percent"),
            ("loss", "nll", "nats"),
            ("penalised_loss", "loss", "nats"),
        ):
            found[f"curve_{part}_{name}"] = Quantity(
                CURVE, _member(f"{key}_{short}"), point, unit, "along the curve of runs 0 and 1"
            )
    what = "distance of weights from the previous point of the curve"
    found["curve_step"] = Quantity(CURVE, _member("dl"), point, "", what)
    return found


def _member(key: str) -> Callable[[Any], Any]:
    return lambda content: content[key]


QUANTITIES = _quantities()
_FILES = {quantity.file for quantity in QUANTITIES.values()}


def convert(archive: Path) -> Record:
    """Read the archive.

    Minima, maxima, means and integrals along the curve and its accuracies are left out: they
    follow from the arrays that are kept.

    Args:
        archive: `loss_landscape_taxonomy-results.tar.gz`.

    Returns:
        A record of kind 'reference': arrays `batch_size` (B,), `width` (W,) and `t` (5,), and one
        array of shape (B, W, 5) or (B, W, 5, 5) for each of `QUANTITIES`, NaN where a file is
        missing. Units and meaning are with the arrays.

    Raises:
        UserError: If the archive is missing or damaged, or holds what it should not.
    """
    cells = _read(archive)
    sizes, widths = (sorted({place[axis] for place in cells}) for axis in (0, 1))
    record = Record(KIND, mode="paper")
    record.provenance = {
        "source": SOURCE,
        "archive": archive.name,
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
    }
    record.arrays = {
        "batch_size": Array(np.array(sizes), ("batch_size",), "images"),
        "width": Array(np.array(widths), ("width",), "channels of the first stage"),
        "t": Array(_common_points(archive, cells), ("t",), "", "places along the curve"),
    }
    for name, quantity in QUANTITIES.items():
        values = np.full((len(sizes), len(widths), *quantity.shape), np.nan)
        for (size, width), files in cells.items():
            if quantity.file in files:
                where = f"{archive}: bs {size}, width {width}, {quantity.file}"
                place = sizes.index(size), widths.index(width)
                values[place] = _numbers(quantity, files[quantity.file], where)
        axes = ("batch_size", "width", *quantity.axes)
        record.arrays[name] = Array(values, axes, quantity.unit, quantity.description)
    return record


def _numbers(quantity: Quantity, content: Any, where: str) -> np.ndarray:
    try:
        values = np.asarray(quantity.get(content), dtype=np.float64)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"not laid out as expected ({type(error).__name__}: {error})"
        raise UserError(what, where=where, fix=_AGAIN) from None
    if values.shape != quantity.shape:
        what = f"has shape {list(values.shape)}, not {list(quantity.shape)}"
        raise UserError(what, where=where, fix=_AGAIN)
    return values


def _common_points(archive: Path, cells: Cells) -> np.ndarray:
    """Return the places t along the curves, which all cells share (even ones if there are none)."""
    points = Quantity(CURVE, _member("ts"), ("t",), "", "")
    found = [
        _numbers(points, files[CURVE], f"{archive}: bs {size}, width {width}, {CURVE}")
        for (size, width), files in cells.items()
        if CURVE in files
    ]
    if any(not np.array_equal(one, found[0]) for one in found):
        raise UserError("curves at different places t", where=str(archive), fix=_AGAIN)
    return found[0] if found else np.linspace(0, 1, RUNS)


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
