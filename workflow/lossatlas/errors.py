"""Messages for users: one line that says what is wrong, where, and the nearest fix."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

_LISTED = 40
_LONGEST = 2000  # characters of a message


class UserError(Exception):
    """A mistake that the user can mend; printed as one line, never as a traceback.

    Args:
        what: What is wrong.
        where: The key, file or cell that it concerns.
        fix: The nearest thing that would help.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        message = f"{where}: {what}" if where else what
        super().__init__(_one_line(f"{message} ({fix})" if fix else message))


def _one_line(text: str) -> str:
    """Return a text for a terminal: names out of files may hold line breaks and colours."""
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


class UserValueError(UserError, ValueError):
    """A value that a function of the library cannot take."""


class UserTypeError(UserError, TypeError):
    """A thing of another kind than a function of the library takes."""


def nearest(word: object, choices: Iterable[str]) -> str:
    """Return a hint that names the choice most like `word`, or lists the choices, at most 40.

    Example:
        >>> nearest("widht", ["width", "depth"])
        "did you mean 'width'?"
    """
    known = sorted(choices)
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    if not known:
        return "nothing is valid here"
    more = ", ..." if len(known) > _LISTED else ""
    return f"valid: {', '.join(known[:_LISTED])}{more}"


def told(error: BaseException) -> str:
    """Return an error of the user's own code in one line: its type, what it says, and where.

    Where is the last line outside of this package and of the libraries that it came through.
    """
    libraries = [
        sysconfig.get_path("purelib"),
        sysconfig.get_path("stdlib"),
        str(Path(__file__).parent),
    ]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*libraries, "<"))
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}{': ' * bool(first)}{first}{where}"


def out_of_memory(error: Exception) -> bool:
    """Say whether memory ran out: of Python, of torch on the CPU, or of a GPU."""
    name = type(error).__name__
    refused = "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or name == "OutOfMemoryError" or refused
