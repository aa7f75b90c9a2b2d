"""Readers, one per format: a file as published -> four arrays, in the order of the file."""

from __future__ import annotations

import gzip
import math
import struct
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from lossatlas.data.transforms import draws, stratified_order
from lossatlas.errors import UserError

DIGITS_TEST = 360
MOST_BYTES = 2**31  # of one array: a damaged header must not fill the memory


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
    """Return CIFAR-10 or CIFAR-100 (fine labels) through torchvision's reader.

    The format is made of pickles, and reading a pickle can run code: call this only for an archive
    whose SHA-256 has been found to be that of the datasets table. torchvision checks its files'
    MD5 sums once more.

    Args:
        archive: cifar-10-python.tar.gz or cifar-100-python.tar.gz.
        classes: 10 or 100.

    Raises:
        UserError: If the archive is damaged, unsafe or does not hold what it should.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    reader = {10: CIFAR10, 100: CIFAR100}[classes]
    with tempfile.TemporaryDirectory() as folder:
        _extract(archive, folder)
        try:
            train, test = reader(folder, train=True), reader(folder, train=False)
        except RuntimeError as error:
            what = f"does not hold CIFAR-{classes}: {str(error).partition('.')[0]}"
            raise UserError(what, where=str(archive), fix="delete it and fetch it again") from None
        return {
            "train_images": np.asarray(train.data),
            "train_labels": np.asarray(train.targets, dtype=np.int64),
            "test_images": np.asarray(test.data),
            "test_labels": np.asarray(test.targets, dtype=np.int64),
        }


def _extract(archive: Path, folder: str) -> None:
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        what = f"cannot be unpacked: {error}"
        raise UserError(what, where=str(archive), fix="delete it and fetch it again") from None


def idx(path: Path) -> np.ndarray:
    """Return the array of bytes in a gzipped IDX file, the format of MNIST.

    Two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a
    big-endian 32-bit number, then the bytes. No more is unpacked than the header announces.

    Raises:
        UserError: If the file is missing, damaged, or holds something else.
    """
    where, fix = str(path), "delete it and fetch it again"
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
