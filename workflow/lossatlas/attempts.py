"""How earlier attempts of a job ended, so that the next one asks for more of what was lacking.

Beside a job's log lies a letter for each attempt of late: what it ran out of, as far as it, or the
process that watches it, could tell. An attempt that nobody knows the end of counts for both, time
and memory.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

Lack = Literal["memory", "time"]
_UNKNOWN, _MOST = "?", 50
_LETTERS: dict[Lack, str] = {"memory": "m", "time": "t"}


def begin(log: str) -> None:
    """Note that an attempt begins, which has not told yet how it ends."""
    if log:
        _write(log, _read(log)[-_MOST:] + _UNKNOWN)


def lacked(log: str, what: Lack) -> None:
    """Note what the attempt that runs, or ran last, had too little of."""
    if before := _read(log):
        _write(log, before[:-1] + _LETTERS[what])


def forget(log: str) -> None:
    """Forget the attempts of a job that has succeeded."""
    if log:
        with contextlib.suppress(OSError):
            _place(log).unlink()


def times(log: str, attempt: int, what: Lack) -> int:
    """Return how many times as much of something an attempt is to ask for.

    Args:
        log: Of the job.
        attempt: From 1.
        what: Memory or time.
    """
    others = set(_LETTERS.values()) - {_LETTERS[what]}
    ended = _read(log)[-(attempt - 1) :] if attempt > 1 else ""
    return attempt - sum(letter in others for letter in ended)


def _place(log: str) -> Path:
    path = Path(log)
    return path.with_name(f".{path.name}.attempts")


def _read(log: str) -> str:
    try:
        return _place(log).read_text(encoding="ascii") if log else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _write(log: str, letters: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: both grow then
        _place(log).write_text(letters, encoding="ascii")
