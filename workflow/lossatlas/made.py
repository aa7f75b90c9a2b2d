"""What made a result: the params, the code and the inputs of its job, kept with the result.

Snakemake remembers what made a file in a folder of its own, which may be lost, and compares times,
which change when files are copied. Here every result says it itself: an HDF5 record in its header,
tables, figures and pages in one small file beside them (a sidecar). A result is valid if what made
it is what the config asks for now; `rules/reruns.smk` asks that of every result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lossatlas import paths, seal
from lossatlas.errors import UserError
from lossatlas.files import atomic

LONGEST = 48  # characters of a param that stands in full; longer ones are digests
NO_PARAM = ("code", "entries")  # the code has a digest of its own; entries tell where it begins
EMBEDS = ".h5"  # ending of files with a header of ours (`store`)
WEIGHTS = ".safetensors"  # whose checksum stands in the training record beside them
SAY_IT = (EMBEDS, WEIGHTS)
_MARK, _CONTENT = b"made=", b"content="


@dataclass(frozen=True)
class Made:
    """What made a result.

    Attributes:
        words: Name of each param -> its value as JSON, or a digest of that ("#" and 16 hex digits).
        code: Digest of the code.
        inputs: Path of each input -> its checksum (`checksum`).
        files: Name of each output that does not say it itself -> its checksum.
    """

    words: Mapping[str, str]
    code: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


def parse(text: str | bytes) -> Made | None:
    """Return what `Made.text` wrote; None if it is anything else."""
    try:
        found = json.loads(text)
        parts = {key: {str(k): str(v) for k, v in found[key].items()} for key in _MAPPINGS}
        return Made(code=str(found["code"]), **parts)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


_MAPPINGS = ("words", "inputs", "files")


def words_of(params: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Return the params of a job, by name, as they are kept and compared."""
    return {name: _word(value) for name, value in params if name not in NO_PARAM}


def _word(value: Any) -> str:
    if isinstance(value, str):  # a param that is JSON already, in whatever spelling
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    if len(text) <= LONGEST:
        return text
    return f"#{hashlib.sha256(text.encode()).hexdigest()[:16]}"


_current: Made | None = None  # of the job that this process runs


def end() -> None:
    """Forget the job: what this process writes from now on is of no job."""
    global _current
    _current = None


def begin(params: Iterable[tuple[str, Any]], code: str, inputs: Iterable[str]) -> None:
    """Note what makes the results that this process writes from now on.

    Raises:
        UserError: If an input cannot be read.
    """
    global _current
    try:
        stamps = {path: checksum(path) for path in inputs}
    except OSError as error:
        what, fix = f"cannot be read: {error.strerror}", "run the command that makes it"
        raise UserError(what, where=str(error.filename), fix=fix) from None
    _current = Made(words_of(params), code, stamps)


def current(others: Iterable[str | os.PathLike[str]] = ()) -> Made | None:
    """Return what makes the results of this process; None outside of a job.

    Args:
        others: Outputs of the job that are written already and do not say it themselves.
    """
    if _current is None:
        return None
    return replace(_current, files={Path(path).name: checksum(path) for path in others})


def header(made: Made | None, content: int = 0) -> bytes:
    """Return the text that stands in a file's header.

    Args:
        made: What makes the file; None outside of a job.
        content: CRC-32 of what stands behind the header.
    """
    text = b"" if made is None else _MARK + made.text().encode()
    return _CONTENT + b"%08x " % content + text


def write_sidecars(outputs: Iterable[str]) -> None:
    """Write what made the outputs of this process' job beside each that has no header.

    Raises:
        UserError: If a file cannot be written.
    """
    for path in outputs:
        if not path.endswith(SAY_IT):
            made = current([path])
            if made is not None:
                with atomic(paths.sidecar(path)) as temporary:
                    temporary.write_text(made.text() + "\n", encoding="utf-8")


def read(outputs: Iterable[str]) -> list[Made] | None:
    """Return what made each output of a job that is there.

    Returns:
        None if one of them does not say it, or is not as it was written.
    """
    there = [path for path in outputs if os.path.exists(path)]
    found = {path: _read(path) for path in there if not path.endswith(WEIGHTS)}
    told = {name: checksum for made in found.values() if made for name, checksum in _files(made)}
    for path in there:
        if path.endswith(WEIGHTS) and told.get(Path(path).name) != stamp(path):
            return None
    if any(made is None for made in found.values()):
        return None
    return [made for made in found.values() if made is not None]


def _files(made: Made) -> Iterable[tuple[str, str]]:
    return made.files.items()


def _read(path: str) -> Made | None:
    """Return what made one file, from its header or from its sidecar, if it is whole."""
    if path.endswith(EMBEDS):
        return _of_header(path)
    found = _of_sidecar(path)
    return found if found is not None and found.files.get(Path(path).name) == stamp(path) else None


def check_whole(path: str | os.PathLike[str]) -> None:
    """Refuse a table that is not as it was written; one without a sidecar is read as it is.

    Raises:
        UserError: If its checksum is wrong.
    """
    found = _of_sidecar(path)
    if found is not None and found.files.get(Path(path).name) != stamp(os.fspath(path)):
        fix = "delete it and run the same command again: it will be made anew"
        raise UserError("cut off or edited: its checksum is wrong", where=str(path), fix=fix)


def _of_header(path: str) -> Made | None:
    try:
        with open(path, "rb") as file:
            line = file.readline(_LONGEST_HEADER)
    except OSError:
        return None
    _, mark, text = line.partition(_MARK)
    return parse(text) if mark else None


def _of_sidecar(path: str | os.PathLike[str]) -> Made | None:
    try:
        return parse(Path(paths.sidecar(os.fspath(path))).read_bytes())
    except OSError:
        return None


def checksum(path: str | os.PathLike[str]) -> str:
    """Return the checksum of a file; of a record, that of its content alone.

    Two records of one content, of which only the jobs differ that made them (a data set that was
    converted anew by newer code), are one input.

    Raises:
        OSError: If it cannot be read.
    """
    if os.fspath(path).endswith(EMBEDS):
        with open(path, "rb") as file:
            _, mark, rest = file.read(_HEAD).partition(_CONTENT)
        if mark:
            return rest[:8].decode("ascii", "replace")
    return seal.stamp(path)


_HEAD = 128  # bytes in which the checksum of a record's content stands
_LONGEST_HEADER = 1 << 24  # bytes
_stamps: dict[str, tuple[tuple[int, int, int], str]] = {}


def stamp(path: str) -> str:
    """Return a file's `checksum`, read anew when the file changes; "" if it is not there."""
    try:
        found = os.stat(path)
        key = found.st_size, found.st_mtime_ns, found.st_ino
        if path not in _stamps or _stamps[path][0] != key:
            _stamps[path] = key, checksum(path)
    except OSError:
        return ""
    return _stamps[path][1]


@dataclass(frozen=True)
class Difference:
    """Why a result is not what the config asks for.

    Attributes:
        kind: "unknown" (nothing says what made it, or it was changed since), "param", "code" or
            "input".
        name: Of the param, or path of the input.
        before: What made the result.
        now: What is asked for.
    """

    kind: str
    name: str = ""
    before: str = ""
    now: str = ""


def differences(
    outputs: Iterable[str],
    params: Iterable[tuple[str, Any]],
    code: str,
    inputs: Iterable[str],
) -> list[Difference]:
    """Compare what made the outputs of a job with what would make them now; [] if they are valid.

    Inputs that are not there are not compared: they would be made from the same config, and so
    would inputs that the result read and the job does not ask for any more.
    """
    told = read(outputs)
    if told is None:
        return [Difference("unknown")]
    if not told:
        return []
    asked = Made(words_of(params), code, {path: stamp(path) for path in inputs})
    return list(dict.fromkeys(found for made in told for found in _compare(made, asked)))


def _compare(made: Made, asked: Made) -> Iterable[Difference]:
    for name in sorted({*made.words, *asked.words}):
        before, now = made.words.get(name, ""), asked.words.get(name, "")
        if before != now:
            yield Difference("param", name, before, now)
    for path, now in asked.inputs.items():
        before = made.inputs.get(path, "")
        if now and now != before:
            yield Difference("input", path, before, now)
    if made.code != asked.code:
        yield Difference("code", "", made.code, asked.code)
