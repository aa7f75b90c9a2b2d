"""Readers, one per format: a file as published -> four arrays, in the order of the file."""

from __future__ import annotations

import gzip
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from lossatlas import unpickle
from lossatlas.data.arrays import checked_labels
from lossatlas.data.transforms import draws, stratified_order
from lossatlas.errors import UserError

DIGITS_TEST = 360
MOST_BYTES = 2**31  # of one array: a damaged header must not fill the memory
# Only files are read whose SHA-256 is that of the table, so that fetching them again is of no use.
OTHER = "it has the sha256 of resources/datasets.tsv: give that row another file"
DAMAGED = (  # what scipy says of a damaged .mat file, or of one of level 7.3
    *(OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError),
    *(NotImplementedError, zlib.error),
)
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
CIFAR: dict[int, tuple[str, str, dict[str, tuple[str, ...]]]] = {
    10: (
        "cifar-10-batches-py",
        "labels",
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    ),
    100: ("cifar-100-python", "fine_labels", {"train": ("train",), "test": ("test",)}),
}


def digits() -> dict[str, np.ndarray]:
    """Return scikit-learn's digits: 8 x 8 pixels with values 0 to 16.

    Of the 1797 images 360 are the test set: drawn once with a seed of their own, stratified, and
    never to be changed. Both splits keep the order of the file.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    images, labels = found.images.astype(np.uint8)[..., None], found.target.astype(np.int64)
    order = stratified_order(labels, draws(len(labels), "digits", "split"))
    test, train = np.sort(order[:DIGITS_TEST]), np.sort(order[DIGITS_TEST:])
    return {
        "train_images": images[train],
        "train_labels": labels[train],
        "test_images": images[test],
        "test_labels": labels[test],
    }


def cifar(archive: Path, classes: int) -> dict[str, np.ndarray]:
    """Return CIFAR-10 or CIFAR-100 (fine labels) from its archive of pickles.

    Nothing is unpacked to disk, and the pickles are read by `unpickle`, which runs nothing.

    Args:
        archive: In the format of cifar-10-python.tar.gz or cifar-100-python.tar.gz.
        classes: 10 or 100.

    Returns:
        Images (N, 32, 32, 3), bytes, and labels (N,), int64.

    Raises:
        UserError: If the archive is damaged or does not hold what it should.
    """
    folder, key, splits = CIFAR[classes]
    found = _members(archive, [f"{folder}/{name}" for names in splits.values() for name in names])
    data = {}
    for split, names in splits.items():
        batches = [
            _batch(found[f"{folder}/{name}"], f"{archive}: {folder}/{name}", key) for name in names
        ]
        images = np.concatenate([images for images, _ in batches])
        data[f"{split}_images"] = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        data[f"{split}_labels"] = np.concatenate([labels for _, labels in batches])
    return data


def _members(archive: Path, names: list[str]) -> dict[str, bytes]:
    """Return the contents of these files of a .tar.gz."""
    found = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = str(PurePosixPath(member.name))
                stream = tar.extractfile(member) if name in names and member.isreg() else None
                if stream is not None:
                    found[name] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot be unpacked: {error}", where=str(archive), fix=OTHER) from None
    if missing := [name for name in names if name not in found]:
        raise UserError(f"has no '{missing[0]}'", where=str(archive), fix=OTHER)
    return found


def _batch(content: bytes, where: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 3072) and labels (N,) of one file of CIFAR."""
    batch = unpickle.loads(content, where, arrays=True, fix=OTHER)
    batch = batch if isinstance(batch, dict) else {}
    batch = {k.decode("latin1") if isinstance(k, bytes) else k: batch[k] for k in batch}
    if not {"data", key} <= batch.keys():
        raise UserError(f"has no 'data' and '{key}'", where=where, fix=OTHER)
    images, labels = (_values(batch[name], f"{where}, '{name}'") for name in ("data", key))
    if images.dtype != np.uint8 or images.ndim != 2 or not len(images) or images.shape[1] != 3072:
        what = f"has shape {images.shape} and type {images.dtype}"
        raise UserError(what, where=f"{where}, 'data'", fix="images are (N, 3072), uint8, N >= 1")
    return images, checked_labels(labels, len(images), f"{where}, '{key}'")


def _values(found: object, where: str) -> np.ndarray:
    """Return an array in a pickle, or a list of numbers as one."""
    if isinstance(found, unpickle.Stored):
        return found.values
    try:
        return np.asarray(found, dtype=None if found else np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"is no array: {error}", where=where, fix=OTHER) from None


def idx(path: Path) -> np.ndarray:
    """Return the array of bytes in a gzipped IDX file, the format of MNIST.

    Two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a
    big-endian 32-bit number, then the bytes. No more is unpacked than the header announces.

    Raises:
        UserError: If the file is missing, damaged, or holds something else.
    """
    where, fix = str(path), OTHER
    try:
        with gzip.open(path) as file:
            head = file.read(4)
            if len(head) != 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
                raise UserError("is no IDX file of bytes", where=where, fix=fix)
            shape = struct.unpack(f">{head[3]}I", file.read(4 * head[3]))
            if (count := math.prod(shape)) > MOST_BYTES:
                raise UserError(f"announces {count} bytes", where=where, fix=fix)
            content = file.read(count + 1)
    except FileNotFoundError:
        raise UserError("no such file", where=where, fix="download it first") from None
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise UserError(f"cannot be unpacked: {error}", where=where, fix=fix) from None
    if len(content) != count:
        kind = "more" if len(content) > count else "fewer"
        raise UserError(f"holds {kind} bytes than the {count} announced", where=where, fix=fix)
    return np.frombuffer(content, np.uint8).reshape(shape)


def svhn(train: Path, test: Path) -> dict[str, np.ndarray]:
    """Return the cropped digits of SVHN from train_32x32.mat and test_32x32.mat.

    Raises:
        UserError: If a file is missing, damaged, or holds something else.
    """
    data = {}
    for split, path in (("train", train), ("test", test)):
        data[f"{split}_images"], data[f"{split}_labels"] = _mat(path)
    return data


def _mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, H, W, C) and labels (N,) of a .mat file of level 5.

    It holds X (H, W, C, N), bytes, and y (N, 1), where 10 is the label of the digit 0. Shapes and
    types are read first, so that no other array, and no object, is unpacked.
    """
    from scipy import io
    from scipy.io.matlab import MatReadError

    where = str(path)
    if not path.is_file():
        raise UserError("no such file", where=where, fix="download it first")
    try:
        found = {name: (shape, kind) for name, shape, kind in io.whosmat(where, appendmat=False)}
        _check_mat(found, where)
        arrays = io.loadmat(where, appendmat=False, variable_names=["X", "y"])
    except (MatReadError, *DAMAGED) as error:
        what = f"is no readable .mat file of level 5: {' '.join(str(error).split())}"
        raise UserError(what, where=where, fix=OTHER) from None
    images, labels = arrays["X"], arrays["y"].ravel().astype(np.int64)
    if ((labels < 1) | (labels > 10)).any():
        what = f"has labels from {labels.min()} to {labels.max()}"
        raise UserError(what, where=f"{where}, y", fix="labels are 1 to 10, 10 for the digit 0")
    return images.transpose(3, 0, 1, 2), labels % 10


def _check_mat(found: Mapping[str, tuple[tuple[int, ...], str]], where: str) -> None:
    """Refuse a .mat file that does not hold images and as many labels."""
    if missing := sorted({"X", "y"} - found.keys()):
        what = f"has no array '{missing[0]}', it holds {', '.join(sorted(found)) or 'nothing'}"
        raise UserError(what, where=where, fix=OTHER)
    (images, kind), (labels, label_kind) = found["X"], found["y"]
    if len(images) != 4 or kind != "uint8" or math.prod(images) > MOST_BYTES:
        what = f"has shape {images} and type {kind}"
        raise UserError(what, where=f"{where}, X", fix="images are (32, 32, 3, N), uint8")
    if sorted(labels) != sorted((1, images[3])) or label_kind not in INTEGERS:
        what = f"has shape {labels} and type {label_kind}"
        raise UserError(what, where=f"{where}, y", fix=f"labels are ({images[3]}, 1), integers")


def npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file; pickled objects are refused.

    Raises:
        UserError: If the file is missing, damaged or holds objects.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise UserError("is no regular file", where=str(path), fix="give an .npz file")
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise UserError("is one bare array", where=str(path), fix="use numpy.savez")
        with file:
            return {key: file[key] for key in file.files}
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), fix="correct the path") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        fix = "write it with numpy.savez, plain arrays only"
        raise UserError(f"not a readable .npz: {error}", where=str(path), fix=fix) from None
