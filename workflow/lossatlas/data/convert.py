"""Make a data set's one file from what was downloaded: bytes, labels, normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from lossatlas.data import hashes, noise, readers
from lossatlas.data.arrays import NAMES, to_record
from lossatlas.errors import UserError
from lossatlas.spec.catalogue import DataSource, data_source, files_of
from lossatlas.store import Record

# Mean and s.d. per channel as the papers' code has them. Those of CIFAR-10 are of Yang et al.
# (2021); this s.d. is smaller than that of all pixels (.247, .244, .262).
CONSTANTS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "mnist": ((0.1307,), (0.3081,)),
    "gauss": ((0.0,) * 3, (1.0,) * 3),
    "gauss_paper": ((0.1307,) * 3, (0.3081,) * 3),  # theirs, of MNIST
}
SCALES = {"digits": 16.0}


def convert(name: str, *archives: Path) -> Record:
    """Convert a data set of the datasets table.

    Args:
        name: A row of the table.
        archives: The downloaded files, in the order of the row's parts; none if nothing is
            downloaded.

    Returns:
        A record of kind 'dataset', see `arrays.to_record`.

    Raises:
        UserError: If there is no such row, the archive is missing, is not the one of the table
            (nothing in it is read then), is damaged, or holds other data than the table says.
    """
    source = data_source(name)
    sums = " ".join(file.sha256 for file in files_of(source))
    arrays = _read(source, archives)
    _check_labels(source, arrays)
    record = to_record(
        name,
        arrays,
        scale=SCALES.get(name),
        mean=CONSTANTS[name][0] if name in CONSTANTS else None,
        std=CONSTANTS[name][1] if name in CONSTANTS else None,
        classes=source.classes if name in noise.MODES else None,
        spec={"version": source.version, "sha256": sums, "licence": source.licence},
    )
    _check(source, record)
    return record


def _read(source: DataSource, archives: Sequence[Path]) -> dict[str, np.ndarray]:
    if source.name == "digits":
        return readers.digits()
    if source.name in noise.MODES:
        return noise.arrays(source.train, source.test, source.image_size, source.name)
    files = files_of(source)
    for file, archive in zip_longest(files, archives):
        if archive is None or not archive.is_file():
            what = f"there is no file '{archive or file.file}'"
            raise UserError(what, where=source.name, fix="download it first")
        if what := hashes.difference(archive, *file.sums):
            raise UserError(what, where=str(archive), fix="delete it and fetch it again")
    if source.parts:
        return _of_parts(source, archives)
    (archive,) = archives
    if source.name in ("cifar10", "cifar100"):
        return readers.cifar(archive, source.classes)
    if source.file.endswith(".npz"):
        return readers.npz(archive)
    fix = "use .npz, or add a function to data/readers.py"
    raise UserError(f"no reader for '{source.file}'", where=source.name, fix=fix)


def _of_parts(source: DataSource, archives: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return the arrays of a data set of several files."""
    kinds = {file.file.rpartition(".")[2] for file in files_of(source)}
    if kinds == {"gz"} and len(archives) == len(NAMES):
        return {key: readers.idx(path) for key, path in zip(NAMES, archives, strict=True)}
    if kinds == {"mat"} and len(archives) == 2:
        return readers.svhn(*archives)
    what, fix = f"no reader for its {len(archives)} files", "name four .gz (IDX) or two .mat files"
    raise UserError(what, where=f"{source.name}, parts", fix=fix)


def _check_labels(source: DataSource, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse labels that the table's number of classes does not have."""
    for key in ("train_labels", "test_labels"):
        labels = arrays.get(key)
        if labels is None or labels.dtype.kind not in "iu" or labels.ndim != 1 or not labels.size:
            continue  # `to_record` says what is wrong
        if (largest := int(labels.max())) >= source.classes:
            what = f"has a label {largest}, but the table says {source.classes} classes"
            fix = "number the classes 0, 1, 2, ..., or correct resources/datasets.tsv"
            raise UserError(what, where=f"{source.name}, {key}", fix=fix)


def _check(source: DataSource, record: Record) -> None:
    """Compare a record with its row."""
    train, test = record.arrays["train_images"].values, record.arrays["test_images"].values
    found = {
        "train": len(train),
        "test": len(test),
        "classes": record.settings["classes"],
        "channels": train.shape[3],
        "image_size": train.shape[1],
    }
    for key, value in found.items():
        if value != getattr(source, key):
            what = f"holds {key} = {value}, the table says {getattr(source, key)}"
            raise UserError(what, where=source.name, fix="correct resources/datasets.tsv")
