"""Progress is shown where somebody watches, and nowhere else; it changes no number."""

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import cli_cases
import lossatlas
import notebook_cases
from lossatlas import cli, progress
from lossatlas.store import Record


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Let stderr be a terminal, which it is in no test."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setattr(progress, "_console", lambda: Console(file=found, force_terminal=True))
    return found


def count() -> None:
    for _ in progress.tracked(range(3), "things", "pieces"):
        progress.advance("others")


def test_counts_are_shown_on_a_terminal(terminal: Terminal) -> None:
    with progress.shown(), progress.counted("all of it", 2, "turns"):
        count()
        progress.advance("turns")
        bars = progress._BARS.get()
        assert bars is not None
        (task,) = bars.progress.tasks
        assert (task.description, task.completed, task.total) == ("all of it", 1, 2)
    assert "all of it" in terminal.getvalue()
    assert progress._BARS.get() is None


def test_counts_go_to_their_own_unit_and_end_with_an_error(terminal: Terminal) -> None:
    with progress.shown(), progress.counted("outer", 9, "turns"):
        bars = progress._BARS.get()
        assert bars is not None
        with contextlib.suppress(KeyError), progress.counted("inner", 9, "steps"):
            progress.advance("turns")
            progress.advance("steps")
            assert [task.completed for task in bars.progress.tasks] == [1, 1]
            raise KeyError
        assert [task.description for task in bars.progress.tasks] == ["outer"]
        with progress.shown():  # one inside another changes nothing
            assert progress._BARS.get() is bars


def test_nothing_is_shown_elsewhere(capsys: pytest.CaptureFixture[str], terminal: Terminal) -> None:
    count()
    with progress.shown(wanted=False):
        count()
    assert terminal.getvalue() == ""


def test_no_terminal_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown():
        assert progress._BARS.get() is None
        count()
    assert capsys.readouterr() == ("", "")


CALLS = {
    "hessian": (["products"], lambda a, b, d, p: lossatlas.hessian(a, d, samples=9, progress=p)),
    "connect": (
        ["steps", "points"],
        lambda a, b, d, p: lossatlas.connect(a, b, d, epochs=1, progress=p),
    ),
    "similarity": (["pairs"], lambda a, b, d, p: lossatlas.similarity([a, b], d, progress=p)),
    "simplex": (
        ["connector", "loss at points"],
        lambda a, b, d, p: lossatlas.grow_simplex(a, d, epochs=1, raster=3, points=2, progress=p),
    ),
    "plane": (["loss at points"], lambda a, b, d, p: lossatlas.plane(a, d, points=3, progress=p)),
}


@pytest.mark.parametrize("name", CALLS)
def test_long_functions_tell_how_far_they_are(
    name: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    begin = progress._Bars.begin

    def noted(self: progress._Bars, what: str, total: int, unit: str) -> tuple:
        told.extend((what, unit))
        return begin(self, what, total, unit)

    monkeypatch.setattr(progress._Bars, "begin", noted)
    words, call = CALLS[name]
    given = notebook_cases.net(0), notebook_cases.net(1), notebook_cases.rows()
    shown = call(*given, True)
    assert all(any(word in one for one in told) for word in words), told
    assert terminal.getvalue()
    told.clear()
    terminal.truncate(0)
    silent = call(*given, False)
    assert not told
    assert terminal.getvalue().strip("\x00") == ""
    assert equal(shown.record, silent.record)


def equal(one: Record, other: Record) -> bool:
    return str(one.scalars) == str(other.scalars)


def test_the_command_line_shows_progress_on_a_terminal_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli_cases.enter(tmp_path, monkeypatch)
    own = ["--checkpoint", "0.pt", "1.pt", "--model", "cli_net:Net", "--data", "data.npz"]
    words = ["metric", "hessian", *own, "--set", "samples=9", "--pixels", "unit"]
    assert cli.main(words) == 0
    alone = capsys.readouterr()
    assert alone.err == ""
    found = Terminal()
    monkeypatch.setattr(progress, "_console", lambda: Console(file=found, force_terminal=True))
    assert cli.main(words) == 0
    assert capsys.readouterr().out == alone.out
    assert "Hessian" in found.getvalue()
    assert "products" in found.getvalue()
