"""Data that stand for those of a config in a rehearsal: made images, or the first of one's own.

Made images have the shape and the classes of a row of the datasets table. Each class has a coarse
pattern of its own, with noise, so that networks can learn something in a few steps.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lossatlas.data import own, texts
from lossatlas.data.arrays import to_record
from lossatlas.data.corruptions import LABELS, SEVERITIES
from lossatlas.files import atomic
from lossatlas.spec.catalogue import REHEARSED_CORRUPTIONS, DataSource
from lossatlas.spec.textdata import SPLITS, Pair
from lossatlas.store import Record
from lossatlas.training.seeds import generator

_SQUARES = 4  # along each side of a pattern
_CONSONANTS = "bdfgkl", "mnprst"  # of words of the source, and of the target
_WORDS = 36
_NOISE = 0.15  # standard deviation, of pixels from 0 to 1


def made(source: DataSource) -> Record:
    """Return the record of made images, or sentence pairs.

    Args:
        source: The row that stands for one of the table (`catalogue.rehearsal_of`).
    """
    if source.text:
        counts = zip(SPLITS, (source.train, source.test), strict=True)
        train, test = (_pairs(split, count) for split, count in counts)
        record = texts.record_of(source, train, test)
        return replace(record, spec={**record.spec, "stands_for": source.stands_for})
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", source.train), ("test", source.test)):
        labels = _labels(source, count)
        arrays |= {f"{split}_labels": labels, f"{split}_images": _images(source, split, labels)}
    return to_record(
        source.name, arrays, classes=source.classes, spec={"stands_for": source.stands_for}
    )


def first_of(source: DataSource, file: Path | None) -> Record:
    """Return the record of the first examples of the user's own data.

    Of examples with one class each, those are taken that come first in their class, so that data
    which are sorted by class have all of them.

    Args:
        source: The row that stands for theirs.
        file: The .npz; None for an object.

    Raises:
        UserError: As `own.convert`.
    """
    record = own.convert(source, file)
    kept = {
        "train": _first(record, "train", source.train),
        "test": _first(record, "test", source.test),
    }
    arrays = {
        name: replace(array, values=array.values[kept[name.partition("_")[0]]])
        for name, array in record.arrays.items()
    }
    return replace(record, arrays=arrays, spec={**record.spec, "stands_for": source.stands_for})


def write_corruptions(source: DataSource, path: Path) -> None:
    """Write made images with made corruptions as an archive in the published format.

    Args:
        source: The row that stands for one of corrupted images.
        path: The tar file.

    Raises:
        UserError: If it cannot be written.
    """
    count = source.test // len(REHEARSED_CORRUPTIONS) // SEVERITIES
    labels = np.tile(_labels(source, count), SEVERITIES)
    arrays = {kind: _images(source, kind, labels) for kind in REHEARSED_CORRUPTIONS}
    with atomic(path) as temporary, tarfile.open(temporary, "w") as tar:
        for name, values in {**arrays, LABELS: labels}.items():
            content = io.BytesIO()
            np.save(content, values)
            member = tarfile.TarInfo(f"{name}.npy")
            member.size = content.tell()
            content.seek(0)
            tar.addfile(member, content)


def _labels(source: DataSource, count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) % source.classes


def _images(source: DataSource, split: str, labels: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, C), uint8: of each class one pattern of squares, and noise."""
    side, channels = source.image_size, source.channels
    shape = (source.classes, _SQUARES, _SQUARES, channels)
    coarse = torch.rand(shape, generator=generator("rehearsal", "patterns")).numpy()
    places = np.arange(side) * _SQUARES // side
    patterns = coarse[:, places][:, :, places]
    draw = generator("rehearsal", source.name, split)
    noise = torch.randn((len(labels), side, side, channels), generator=draw).numpy()
    pixels = 0.2 + 0.6 * patterns[labels] + _NOISE * noise
    return np.asarray((255 * pixels.clip(0, 1)).astype(np.uint8))


def _pairs(split: str, count: int) -> list[Pair]:
    """Return sentences of a few words, and their translations word by word."""
    draw = generator("rehearsal", "sentences", split)
    found = []
    for length in torch.randint(3, 7, (count,), generator=draw).tolist():
        words = torch.randint(_WORDS, (length,), generator=draw).tolist()
        sides = [" ".join(_word(consonants, word) for word in words) for consonants in _CONSONANTS]
        found.append(Pair(*sides))
    return found


def _word(consonants: str, number: int) -> str:
    """Return a word of two syllables."""
    places = divmod(number, len(consonants))
    return "".join(consonants[place] + "aeiou"[place % 5] for place in places)


def _first(record: Record, split: str, count: int) -> Any:
    """Return the places of the first examples, ascending."""
    name = f"{split}_labels" if f"{split}_labels" in record.arrays else f"{split}_targets"
    targets = record.arrays[name].values
    if targets.ndim > 1 or targets.dtype.kind != "i":
        return slice(count)
    by_class = np.argsort(targets, kind="stable")
    ordered = targets[by_class]
    rank = np.empty(len(targets), dtype=np.int64)  # of each example within its class
    rank[by_class] = np.arange(len(targets)) - np.searchsorted(ordered, ordered)
    return np.sort(np.argsort(rank, kind="stable")[:count])
