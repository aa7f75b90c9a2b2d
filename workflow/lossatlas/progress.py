"""How far long work is: counted where it is done, shown where somebody watches.

Loops count whatever happens; only inside `shown` does anybody see it. The workflow's jobs write
logs, and show nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

T = TypeVar("T")


class _Bars:
    """What is shown: a bar for each count that is under way, the innermost last."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.open: list[tuple[str, TaskID]] = []

    def begin(self, what: str, total: int, unit: str) -> tuple[str, TaskID]:
        self.open.append((unit, self.progress.add_task(what, total=total, unit=unit)))
        return self.open[-1]

    def end(self, bar: tuple[str, TaskID]) -> None:
        self.open.remove(bar)
        self.progress.remove_task(bar[1])

    def advance(self, unit: str) -> None:
        own = [task for one, task in self.open if one == unit]
        if own:
            self.progress.advance(own[-1])


_BARS: ContextVar[_Bars | None] = ContextVar("bars", default=None)


@contextmanager
def shown(*, wanted: bool = True) -> Iterator[None]:
    """Show on stderr what is counted inside the block; it is gone when the block ends.

    That is on a terminal, and in a notebook that has ipywidgets. Elsewhere nothing is written.

    Args:
        wanted: False shows nothing.
    """
    console = _console() if wanted and _BARS.get() is None else None
    if console is None:
        yield
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    words = TextColumn("{task.description}"), TextColumn("{task.fields[unit]}")
    columns = words[0], BarColumn(), MofNCompleteColumn(), words[1], Left()
    with Progress(*columns, console=console, transient=True) as progress:
        token = _BARS.set(_Bars(progress))
        try:
            yield
        finally:
            _BARS.reset(token)


def _console() -> Console | None:
    """Return where bars are seen, or None."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter:
        return console if importlib.util.find_spec("ipywidgets") else None
    return console if sys.stderr.isatty() else None


@contextmanager
def counted(what: str, total: int, unit: str) -> Iterator[None]:
    """Count up to `total` inside the block, by calls of `advance`.

    Args:
        what: Is done.
        total: At most so many.
        unit: Of what is counted, such as "steps".
    """
    bars = _BARS.get()
    if bars is None:
        yield
        return
    bar = bars.begin(what, total, unit)
    try:
        yield
    finally:
        bars.end(bar)


def advance(unit: str) -> None:
    """Count one more, where that unit is counted."""
    if (bars := _BARS.get()) is not None:
        bars.advance(unit)


def tracked(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """Yield items, and count them."""
    with counted(what, len(items), unit):
        for item in items:
            yield item
            advance(unit)
