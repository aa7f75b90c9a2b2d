"""The numbers that Yang et al. (2021) published, as the table that comes with the project.

`resources/taxonomy_published.csv` has one row per cell, an empty field where a number is missing,
and lines that begin with `#` and say where the numbers come from. It is made from the authors'
archive (`taxonomy_archive`), and `snakemake taxonomy_import` makes it again and compares.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from itertools import combinations, permutations, product, zip_longest
from pathlib import Path

import pandas as pd

from lossatlas.errors import UserError
from lossatlas.files import atomic

SOURCE = "https://github.com/nsfzyzz/loss_landscape_taxonomy"
COMMIT = "c1ec1fd59a6af5f72d4ff23679abb2f815f69101"
RUNS = 5
POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # places t along a curve
BATCH_SIZES = (16, 19, 24, 27, 32, 44, 64, 92, 128, 180, 256, 364, 512, 724, 1024)
WIDTHS = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128)
DIGITS = 9  # significant; the authors computed in float32, which has 7

_RUN = [(run,) for run in range(RUNS)]
_POINT = [(point,) for point in range(len(POINTS))]
_ORDERED_PAIR = list(permutations(range(RUNS), 2))
_PAIR = list(combinations(range(RUNS), 2))

# Quantity -> the runs, pairs of runs or points of a curve that have a number in each cell.
QUANTITIES: dict[str, list[tuple[int, ...]]] = {
    "train_loss": [*_RUN],
    "train_accuracy": [*_RUN],
    "test_loss": [*_RUN],
    "test_accuracy": [*_RUN],
    "hessian_eigenvalue": [*_RUN],
    "hessian_trace": [*_RUN],
    "cka_biased_output": [*_ORDERED_PAIR],
    "cka_biased_softmax": [*_ORDERED_PAIR],
    "l2_distance": [*_PAIR],
    "curve_train_error": [*_POINT],
    "curve_train_loss": [*_POINT],
    "curve_test_error": [*_POINT],
    "curve_test_loss": [*_POINT],
}
AXES = ["batch_size", "width"]

_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)
_CELLS = {(str(size), str(width)): (size, width) for width, size in product(WIDTHS, BATCH_SIZES)}
_RESTORE = "restore the file from the repository"


def column(quantity: str, *index: int) -> str:
    """Return the name of the column of a number: that of run 3 is `train_loss.3`."""
    return ".".join([quantity, *map(str, index)])


COLUMNS = [*AXES, *(column(name, *index) for name, of in QUANTITIES.items() for index in of)]


def write(path: str | os.PathLike[str], numbers: pd.DataFrame, archive: Path) -> None:
    """Write the table.

    Args:
        path: Of the table.
        numbers: From `taxonomy_archive.convert`.
        archive: From which they were read; the table names it with its SHA-256.

    Raises:
        UserError: If it cannot be written.
    """
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    about = [
        "Results of Yang et al., Taxonomizing local versus global structure in neural network"
        " loss landscapes (NeurIPS 2021)",
        f"source: {SOURCE}, commit {COMMIT}, workspace/checkpoint/results.tar.gz",
        f"archive: {archive.name}, sha256 {digest}",
        "licence: MIT, Copyright (c) 2020 Yaoqing Yang",
        f"precision: {DIGITS} significant digits; columns: resources/README.md",
    ]
    rows = numbers[COLUMNS].to_csv(
        index=False, float_format=f"%.{DIGITS}g", na_rep="", lineterminator="\n"
    )
    text = "".join(f"# {line}\n" for line in about) + rows
    with atomic(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8", newline="\n")


def read(path: Path) -> pd.DataFrame:
    """Read the table.

    Returns:
        `COLUMNS`, a row per cell, ordered by width and then batch size; NaN where a number is
        missing.

    Raises:
        UserError: If the file is missing or unreadable, has another header, a row with too few or
            too many fields, a field that is no number, or not every cell exactly once.
    """
    first, *rows = _lines(path) or [(1, [""])]
    if first[1] != COLUMNS:
        raise _damaged(_unlike(first[1]), f"{path}, line {first[0]}")
    found: dict[tuple[int, int], list[float]] = {}
    for number, fields in rows:
        where = f"{path}, line {number}"
        cell, values = _row(fields, where)
        if cell in found:
            raise _damaged(f"{_named(*cell)} is there twice", where)
        found[cell] = values
    for cell in _CELLS.values():
        if cell not in found:
            raise _damaged(f"{_named(*cell)} is missing", str(path))
    return pd.DataFrame([[*cell, *found[cell]] for cell in _CELLS.values()], columns=COLUMNS)


def compare(made: Path, shipped: Path) -> str:
    """Compare the table that was made from the archive with the one that comes with the project.

    Returns:
        A line that says that they are equal.

    Raises:
        UserError: If they differ; it says where they do first. Or if one cannot be read.
    """
    ours, theirs = _text(made), _text(shipped)
    lines = zip_longest(ours, theirs, fillvalue="")
    for number, (one, other) in enumerate(lines, start=1):
        if one != other:
            what = f"differs from {shipped} first in line {number}{_first_field(one, other)}"
            raise UserError(what, where=str(made), fix="the table made from the archive is kept")
    return f"equal: {shipped} and the table made from the archive, {made}"


def _first_field(one: str, other: str) -> str:
    """Return where two lines differ, and what stands there in each."""
    a, b = one.split(","), other.split(",")
    if one.startswith("#") or other.startswith("#") or len(a) != len(b) or a[:2] != b[:2]:
        return f": '{_short(one)}' made, '{_short(other)}' shipped"
    place = next(i for i, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
    name = f", column {COLUMNS[place]}" if place < len(COLUMNS) else ""
    return f" (batch size {a[0]}, width {a[1]}){name}: '{a[place]}' made, '{b[place]}' shipped"


def _short(line: str) -> str:
    return line if len(line) <= 90 else f"{line[:87]}..."


def _text(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), fix=_RESTORE) from None
    except (OSError, ValueError) as error:
        raise UserError(f"not readable ({error})", where=str(path), fix=_RESTORE) from None


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return number and fields of each line that has any."""
    lines = enumerate(_text(path), start=1)
    return [(number, line.split(",")) for number, line in lines if line and line[0] != "#"]


def _row(fields: list[str], where: str) -> tuple[tuple[int, int], list[float]]:
    """Return the cell of a row, and its numbers."""
    if len(fields) != len(COLUMNS):
        raise _damaged(f"{len(fields)} columns, not {len(COLUMNS)}", where)
    cell = _CELLS.get((fields[0], fields[1]))
    if cell is None:
        raise _damaged(f"no cell has {_named(*fields[:2])}", where)
    return cell, [_number(*pair, where) for pair in zip(COLUMNS[2:], fields[2:], strict=True)]


def _number(name: str, text: str, where: str) -> float:
    """Return a number; NaN for an empty field."""
    if not text:
        return math.nan
    if not (_NUMBER.fullmatch(text) and math.isfinite(float(text))):
        raise _damaged(f"column {name} has '{_short(text)}', which is no number", where)
    return float(text)


def _unlike(header: list[str]) -> str:
    """Say where a header is not the expected one."""
    pairs = enumerate(zip(header, COLUMNS, strict=False))
    for place, (name, expected) in pairs:
        if name != expected:
            return f"column {place + 1} of the header is '{_short(name)}', not '{expected}'"
    return f"the header has {len(header)} columns, not {len(COLUMNS)}"


def _named(size: object, width: object) -> str:
    return f"batch size {size}, width {width}"


def _damaged(what: str, where: str) -> UserError:
    return UserError(what, where=where, fix=_RESTORE)
