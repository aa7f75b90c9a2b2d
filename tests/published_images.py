"""Small archives of images in the formats in which they are published, byte by byte."""

import gzip
import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np

RANDOM = np.random.default_rng(0)
CIFAR = {
    10: ("cifar-10-batches-py", [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]),
    100: ("cifar-100-python", ["train", "test"]),
}


def python2(value) -> bytes:
    """What cPickle of Python 2 writes of a value with protocol 2, without the end."""
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, dict):
        pairs = [python2(one) for pair in value.items() for one in pair]
        return b"}(" + b"".join(pairs) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    text = value.encode("latin1")
    short = len(text) < 256
    return (b"U" + bytes([len(text)]) if short else b"T" + struct.pack("<i", len(text))) + text


def _array(value: np.ndarray) -> bytes:
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R"
    kind += b"(K\x03U\x01|NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\0tb"
    shape = b"(" + b"".join(python2(size) for size in value.shape) + b"t"
    return (
        made
        + b"(K\x01"
        + shape
        + kind
        + b"\x89"
        + python2(value.tobytes().decode("latin1"))
        + b"tb"
    )


def pickled(value) -> bytes:
    """A whole pickle of Python 2."""
    return b"\x80\x02" + python2(value) + b"."


def cifar_batches(classes: int, per_file: int) -> dict[str, dict]:
    """Return name -> content of the batches: rows of 3072 bytes, channel by channel."""
    found = {}
    for place, name in enumerate(CIFAR[classes][1]):
        marks = [(i * 7 + place) % classes for i in range(per_file)]
        files = [f"image_s_{i:06d}.png" for i in range(per_file)]
        batch = {"filenames": files, "batch_label": name}
        if classes == 100:
            batch |= {"fine_labels": marks, "coarse_labels": [mark // 5 for mark in marks]}
        else:
            batch |= {"labels": marks}
        found[name] = batch | {"data": RANDOM.integers(0, 256, (per_file, 3072), dtype=np.uint8)}
    return found


def cifar_images(batches: dict[str, dict], names: list[str]) -> np.ndarray:
    """Return the images (N, 32, 32, 3) of these batches."""
    rows = np.concatenate([batches[name]["data"] for name in names])
    return np.stack([rows[:, 1024 * c : 1024 * (c + 1)].reshape(-1, 32, 32) for c in range(3)], -1)


def cifar_files(classes: int, batches: dict[str, dict]) -> dict[str, bytes]:
    """Return name -> bytes of all files of the archive."""
    names = [str(i) for i in range(classes)]
    meta = {"batches.meta": {"label_names": names}}
    if classes == 100:
        meta = {"meta": {"fine_label_names": names, "coarse_label_names": names[:20]}}
    return {name: pickled(content) for name, content in (meta | batches).items()}


def tar(path: Path, files: dict[str, bytes], folder: str) -> Path:
    """Write a .tar.gz with a folder."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as MNIST and Fashion-MNIST are published."""
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.tobytes(), mtime=0)


def mat(arrays: dict[str, np.ndarray]) -> bytes:
    """A .mat file of level 5 as MATLAB writes it: little-endian, each array compressed."""
    head = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    return head + b"".join(_compressed(name, array) for name, array in arrays.items())


def _compressed(name: str, array: np.ndarray) -> bytes:
    classes = {"uint8": (9, 2), "float64": (6, 9), "int16": (10, 3)}  # of array, of its elements
    of_array, of_elements = classes[str(array.dtype)]
    parts = [
        _element(6, struct.pack("<II", of_array, 0)),
        _element(5, struct.pack(f"<{array.ndim}i", *array.shape)),
        _element(1, name.encode()),
        _element(of_elements, array.tobytes(order="F")),
    ]
    packed = zlib.compress(_element(14, b"".join(parts)))
    return struct.pack("<II", 15, len(packed)) + packed


def _element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def svhn(count: int) -> dict[str, np.ndarray]:
    """Return X (32, 32, 3, N) and y (N, 1): labels 1 to 10, of which 10 is the digit 0."""
    images = RANDOM.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
    return {"X": images, "y": (np.arange(count, dtype=np.uint8)[:, None] * 3) % 10 + 1}
