"""Messages for users: one line that says what is wrong, where, and the nearest fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
        super().__init__(f"{message} ({fix})" if fix else message)


def nearest(word: object, choices: Iterable[str]) -> str:
    """Return a hint that names the choice most like `word`, or lists the choices.

    Example:
        >>> nearest("widht", ["width", "depth"])
        "did you mean 'width'?"
    """
    known = sorted(choices)
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"valid: {', '.join(known)}" if known else "nothing is valid here"
