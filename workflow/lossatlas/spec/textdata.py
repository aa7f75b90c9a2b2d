"""Sentence pairs of a config: an archive of the table, or text files of the user's own.

They get a name that tells their content and how they become tokens, such as "talks_1a2b3c4d". The
files are looked at here without torch or NumPy; `data.texts` makes tokens of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lossatlas import contents
from lossatlas.errors import UserError, nearest
from lossatlas.spec.catalogue import DataSource, data_sources, register
from lossatlas.spec.owndata import DIGITS
from lossatlas.spec.parts import DataPart, Text

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation."""

    source: str
    target: str


def resolve(part: DataPart, where: str) -> str:
    """Return the name under which sentence pairs are known, and make them known.

    Args:
        part: Of the config.
        where: Its key, for messages.

    Returns:
        The name; "" if the part describes no sentence pairs.

    Raises:
        UserError: If there are no such pairs, or a file does not hold what it should.
    """
    rows = {name: row for name, row in data_sources().items() if row.parallel}
    text = part.text or (Text() if part.source in rows else None)
    if text is None:
        return ""
    if text.train:
        row = _own(text, f"{where}.text")
    elif part.source in rows:
        row = rows[part.source]
    else:
        fix = f"{nearest(part.source, rows)}; or give 'train' and 'test', two files each"
        raise UserError(f"'{part.source}' has no sentence pairs", where=f"{where}.text", fix=fix)
    if text.pairs is not None and text.pairs > row.train:
        what = f"pairs is {text.pairs}, and there are {row.train}"
        raise UserError(what, where=f"{where}.text.pairs", fix=f"at most {row.train}")
    told = {"vocabulary": text.vocabulary, "longest": text.longest, "pairs": text.pairs}
    settings = json.dumps(told, sort_keys=True)
    digest = hashlib.sha256(f"{row.sha256} {settings}".encode()).hexdigest()
    stem = re.sub(r"[^A-Za-z0-9]+", "_", part.source).strip("_") or "text"
    stem = stem if stem[0].isalpha() else f"text_{stem}"
    name = f"{stem}_{digest[:DIGITS]}"
    register(
        replace(
            row,
            name=name,
            train=text.pairs or row.train,
            classes=text.vocabulary,
            image_size=text.longest,  # places at which a network computes, for what a cell costs
            targets="classes 2",
            inputs="named",
            text=settings,
        )
    )
    return name


def _own(text: Text, where: str) -> DataSource:
    """Return what is known of four text files: their content and how many pairs they hold."""
    files = (*text.train, *text.test)
    for file in files:
        if not Path(file).exists():
            raise UserError(f"no such file '{file}'", where=where, fix="correct the path")
    sums = contents.digests(files, where)
    digest = hashlib.sha256(" ".join(sums[file] for file in files).encode()).hexdigest()
    if digest not in _counted:
        _counted[digest] = [
            len(pairs_of([lines(Path(one), where) for one in chosen], f"{where}.{split}"))
            for split, chosen in zip(SPLITS, (text.train, text.test), strict=True)
        ]
    train, test = _counted[digest]
    return DataSource("", "own", "", 0, digest, (), "", train, test, 0, 0, 0, files)


_counted: dict[str, list[int]] = {}  # of this process


def lines(path: Path, where: str) -> list[str]:
    """Return the lines of a text file, without blanks at their ends.

    Raises:
        UserError: If it cannot be read, or is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        what = f"'{path}' cannot be read: {error.strerror}"
        raise UserError(what, where=where, fix="correct the path, or its permissions") from None
    except UnicodeDecodeError as error:
        what = f"'{path}' is not UTF-8, at byte {error.start}"
        raise UserError(what, where=where, fix="convert it: iconv -t UTF-8") from None
    return [line.strip() for line in text.split("\n")[: -1 if text.endswith("\n") else None]]


def pairs_of(both: Sequence[Sequence[str]], where: str) -> list[Pair]:
    """Return the sentence pairs of two texts; those of which a side is empty are left out.

    Args:
        both: Sentences, and their translations in the same order.
        where: What they are, for messages.

    Raises:
        UserError: If there are more of one than of the other, or none.
    """
    source, target = both
    if len(source) != len(target):
        what = f"{len(source)} sentences of the source, and {len(target)} of the target"
        fix = "one sentence per line, and its translation on the same line of the other file"
        raise UserError(what, where=where, fix=fix)
    found = [Pair(*one) for one in zip(source, target, strict=True) if all(one)]
    if not found:
        raise UserError("holds no sentence pair", where=where, fix="give one sentence per line")
    return found
