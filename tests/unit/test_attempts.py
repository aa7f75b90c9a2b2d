"""The next attempt asks for more of what was lacking, and of that alone."""

import os
from pathlib import Path
from typing import Any

import pytest

from lossatlas import attempts


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "train.log")


def asks(log: str, attempt: int) -> tuple[int, int]:
    """Return how many times the memory, and the time, an attempt asks for."""
    return attempts.times(log, attempt, "memory"), attempts.times(log, attempt, "time")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (["memory"], (2, 1)),
        (["time"], (1, 2)),
        ([None], (2, 2)),
        (["memory", "memory"], (3, 1)),
        (["memory", "time"], (2, 2)),
        (["time", None], (2, 3)),
    ],
)
def test_what_was_lacking_grows(log: str, ends: list[Any], expected: tuple[int, int]) -> None:
    for end in ends:
        attempts.begin(log)
        if end is not None:
            attempts.lacked(log, end)
    assert asks(log, len(ends) + 1) == expected


def test_attempts_of_an_earlier_run_do_not_count(log: str) -> None:
    for _ in range(3):
        attempts.begin(log)
        attempts.lacked(log, "time")
    assert asks(log, 1) == (1, 1)
    attempts.begin(log)  # of a new run, which ends without a word
    assert asks(log, 2) == (2, 2)


def test_success_is_forgotten_and_little_is_kept(log: str) -> None:
    for _ in range(200):
        attempts.begin(log)
    (note,) = Path(log).parent.iterdir()
    assert note.stat().st_size < 100
    attempts.forget(log)
    attempts.forget(log)
    assert not note.exists()
    assert asks(log, 2) == (2, 2)


def test_notes_that_cannot_be_had_are_none(log: str, tmp_path: Path) -> None:
    attempts.lacked(log, "time")  # never begun
    assert os.listdir(tmp_path) == []
    attempts.begin(str(tmp_path / "no folder" / "a.log"))
    attempts._place(log).write_bytes(b"\xff\x00")
    assert asks(log, 3) == (3, 3)
    attempts.begin("")
