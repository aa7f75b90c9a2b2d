"""Networks trained elsewhere: which file is which replica, from a pattern of names or a table.

`runs/width={width}/seed={seed}.pt` stands for all files of such names; each {word} is a number: the
seed, or the value on an axis. A table (.csv, .tsv) has a row per file: `file`, `seed`, and a column
per axis. Neither torch nor the files' content is looked at here; a replica is its file's SHA-256.
"""

from __future__ import annotations

import csv
import glob
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from lossatlas import contents
from lossatlas.errors import UserError, nearest
from lossatlas.spec.cells import LOAD_AXES, TEMPERATURE_AXES, canonical

if TYPE_CHECKING:
    from lossatlas.spec.config import Experiment

Number = int | float
Point = tuple[Number, ...]  # values on the axes of an experiment, in their order

TABLES = (".csv", ".tsv")
FILE, SEED = "file", "seed"
_PLACE = re.compile(r"\{([^{}]*)\}")
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_SHOWN = 4  # missing cells that a line names


@dataclass(frozen=True)
class Checkpoint:
    """A file with the weights of one replica, and its SHA-256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Found:
    """The checkpoints of an experiment.

    Attributes:
        points: Values on the experiment's axes -> seed -> the file. Cells without any are left out.
        missing: What the grid lacks, in words, a line each.
    """

    points: Mapping[Point, Mapping[int, Checkpoint]]
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    path: str
    place: str  # for messages
    seed: int
    values: dict[str, Number]


def resolve(name: str, one: Experiment) -> tuple[Experiment, Found]:
    """Find the checkpoints of an experiment; the values of its axes are those that files have.

    Args:
        name: Of the experiment.
        one: As the config has it. Axes and seeds that it lists choose among the files.

    Returns:
        The experiment with axes and seeds filled in, and its files.

    Raises:
        UserError: If there are none, two are of one replica, or an axis is not known.
    """
    where = f"experiments.{name}.checkpoints"
    listing = _table if one.checkpoints.endswith(TABLES) else _matches
    axes, files = listing(one.checkpoints, where)
    for axis in one.axes:
        if axis not in axes:
            fix = f"write '{{{axis}}}' into the pattern, or leave it out"
            if listing is _table:
                fix = f"add a column '{axis}' to the table, or leave it out"
            what = f"no file has a value on the axis '{axis}'"
            raise UserError(what, where=f"experiments.{name}", fix=fix)
    seeds = set(one.seed_list) if "seeds" in one.model_fields_set else None
    chosen = [
        file
        for file in files
        if (seeds is None or file.seed in seeds)
        and all(file.values[axis] in values for axis, values in one.axes.items())
    ]
    if not chosen:
        fix = f"leave them out to take all {len(files)} files"
        what = "no file has the seeds and values that the experiment lists"
        raise UserError(what, where=where, fix=fix)
    filled = _filled(one, axes, chosen, seeds)
    return filled, _found(filled, chosen, where)


def _filled(
    one: Experiment, axes: Iterable[str], files: list[_File], seeds: set[int] | None
) -> Experiment:
    """Return the experiment with the axes and seeds of its files; listed ones come first."""
    own = {axis: sorted({file.values[axis] for file in files}) for axis in axes}
    own = {axis: values for axis, values in own.items() if axis not in one.axes}
    hot = {axis: values for axis, values in own.items() if axis in TEMPERATURE_AXES}
    load = {**one.load, **{axis: own[axis] for axis in own if axis not in hot}}
    seeds = seeds or {file.seed for file in files}
    update = {"load": load, "temperature": {**one.temperature, **hot}, "seeds": sorted(seeds)}
    return one.model_copy(update=update)


def _found(one: Experiment, files: list[_File], where: str) -> Found:
    told: dict[Point, dict[int, _File]] = {}
    for file in files:
        point = tuple(file.values[axis] for axis in one.axes)
        other = told.setdefault(point, {}).setdefault(file.seed, file)
        if other is not file:
            what = f"two files for one replica: {other.place} and {file.place}"
            fix = "tell them apart by an axis, or leave one out"
            raise UserError(what, where=where, fix=fix)
    digests = contents.digests(dict.fromkeys(file.path for file in files), where)
    for by_seed in told.values():
        seen: dict[str, _File] = {}
        for file in by_seed.values():
            other = seen.setdefault(digests[file.path], file)
            if other is not file:
                what = f"two replicas are the same weights: {other.place} and {file.place}"
                raise UserError(what, where=where, fix="leave one out")
    points = {
        point: {
            seed: Checkpoint(by_seed[seed].path, digests[by_seed[seed].path])
            for seed in sorted(by_seed)
        }
        for point, by_seed in told.items()
    }
    return Found(points, _missing(one, points))


def _missing(one: Experiment, points: Mapping[Point, Mapping[int, Checkpoint]]) -> list[str]:
    """Say which cells have no file, and which lack some seeds that others have."""
    grid = list(product(*one.axes.values()))
    absent = [_spelled(one, point) for point in grid if point not in points]
    lines = []
    if absent:
        lines.append(f"no checkpoint of {len(absent)} of {len(grid)} cells: {_listed(absent)}")
    every = set(one.seed_list)
    ragged = [
        f"{_spelled(one, point)} (seed {', '.join(map(str, sorted(lost)))})"
        for point in grid
        if point in points and (lost := every - points[point].keys())
    ]
    if ragged:
        lines.append(f"fewer replicas in {len(ragged)} cells: {_listed(ragged)}")
    return lines


def _spelled(one: Experiment, point: Point) -> str:
    return " ".join(f"{axis}={value}" for axis, value in zip(one.axes, point, strict=True)) or "it"


def _listed(texts: list[str]) -> str:
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more


def _plain(path: str) -> str:
    """Return a path without "./" before it and "//" in it, of which Snakemake warns."""
    return re.sub("//+", "/", path).removeprefix("./")


def _check_axis(axis: str, where: str) -> None:
    known = {**LOAD_AXES, **TEMPERATURE_AXES}
    if axis not in known and not (axis.startswith("model.") and axis[len("model.") :]):
        fix = (
            f"{nearest(axis, [*known, SEED])}, or 'model.<argument>'; '*' for what may be anything"
        )
        raise UserError(f"unknown axis '{axis}'", where=where, fix=fix)


def _number(text: str) -> Number:
    """Return a number in the one spelling of axes: 8, not 8.0."""
    try:
        return int(text)
    except ValueError:
        found: Number = canonical(float(text))
        return found


# --- patterns ---------------------------------------------------------------------------------
def _matches(pattern: str, where: str) -> tuple[list[str], list[_File]]:
    """Return the axes of a pattern, and the files that it finds."""
    pattern, words = _plain(pattern), _words(pattern, where)
    axes = [word for word in words if word != SEED]
    matcher = re.compile(_expression(pattern, words))
    escaped = [glob.escape(part).replace("[*]", "*") for part in _PLACE.split(pattern)[::2]]
    files = []
    for path in sorted(glob.glob("*".join(escaped))):
        if match := matcher.fullmatch(path):
            texts = dict(zip(words, match.groups(), strict=True))
            seed = int(texts.pop(SEED))
            values = {axis: _number(text) for axis, text in texts.items()}
            files.append(_File(path, f"'{path}'", seed, values))
    if not files:
        folder = os.path.abspath(os.path.dirname(pattern.partition("{")[0].partition("*")[0]))
        exists = os.path.isdir(folder)
        fix = "each {word} stands for one number" if exists else f"there is no folder '{folder}'"
        raise UserError(f"no file is called '{pattern}'", where=where, fix=fix)
    return axes, files


def _words(pattern: str, where: str) -> list[str]:
    """Return the words in braces, each once."""
    if re.search(r"[{}]", _PLACE.sub("", pattern)):
        raise UserError(f"braces do not match in '{pattern}'", where=where, fix="{width}, {seed}")
    words = list(dict.fromkeys(_PLACE.findall(pattern)))
    if SEED not in words:
        what = f"'{pattern}' has no {{seed}}, so it does not tell replicas apart"
        fix = "such as 'runs/width={width}/seed={seed}.pt', or a table (.csv, .tsv)"
        raise UserError(what, where=where, fix=fix)
    for word in words:
        if word != SEED:
            _check_axis(word, where)
    if "}{" in pattern:
        what = f"'{pattern}' has two numbers with nothing between them"
        raise UserError(what, where=where, fix="use a table (.csv, .tsv)")
    return words


def _expression(pattern: str, words: list[str]) -> str:
    """Return the pattern as a regular expression with one group per word, in their order."""
    pieces, seen = [], set()
    for place, piece in enumerate(_PLACE.split(pattern)):
        if place % 2 == 0:
            pieces.append("[^/]*".join(map(re.escape, piece.split("*"))))
        elif piece in seen:
            pieces.append(rf"(?:(?P=w{words.index(piece)}))")
        else:
            seen.add(piece)
            kind = "[0-9]+" if piece == SEED else _NUMBER
            pieces.append(f"(?P<w{words.index(piece)}>{kind})")
    return "".join(pieces)


# --- tables -----------------------------------------------------------------------------------
def _table(path: str, where: str) -> tuple[list[str], list[_File]]:
    """Return the axes of a table, and its files; columns that are no axes are not looked at."""
    where = f"{where}: {path}"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or 'it is no UTF-8 text'}"
        fix = "paths are relative to the folder in which you start"
        raise UserError(what, where=where, fix=fix) from None
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if path.endswith(".tsv") else ",")
    columns = list(reader.fieldnames or [])
    for needed in (FILE, SEED):
        if needed not in columns:
            what = f"has no column '{needed}'"
            fix = (
                f"its columns are {', '.join(columns) or 'none'}; 'file', 'seed' and axes are read"
            )
            raise UserError(what, where=where, fix=fix)
    known = {**LOAD_AXES, **TEMPERATURE_AXES}
    axes = [name for name in columns if name in known or name.startswith("model.")]
    files = [_row(row, axes, f"{where}, line {line}") for line, row in enumerate(reader, start=2)]
    if not files:
        raise UserError("has no rows", where=where, fix="a row per file")
    return axes, files


def _row(row: Mapping[str, str | None], axes: list[str], where: str) -> _File:
    file, seed = (row[FILE] or "").strip(), (row[SEED] or "").strip()
    if not re.fullmatch("[0-9]+", seed):
        raise UserError(f"seed is '{seed}'", where=where, fix="a whole number from 0 up")
    values = {}
    for axis in axes:
        text = (row[axis] or "").strip()
        if not re.fullmatch(_NUMBER, text):
            raise UserError(f"{axis} is '{text}', and an axis has numbers", where=where)
        values[axis] = _number(text)
    if not file or not os.path.exists(file):
        fix = "paths are relative to the folder in which you start"
        raise UserError(f"no such file '{file}'", where=where, fix=fix)
    line = where.rpartition(", ")[2]
    return _File(_plain(file), f"'{file}' ({line})", int(seed), values)
