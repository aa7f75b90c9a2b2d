"""Describes the user's own data in a process of its own: an .npz, or "package.module:object".

Reading a config calls this once for each state of the file or module, so that what fills the
memory, prints, or changes what its process holds does no harm there. It prints one line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lossatlas.data import own
from lossatlas.entry import find_user_modules
from lossatlas.errors import UserError

_opened: set[str] = set()


def _note(event: str, arguments: tuple[object, ...]) -> None:
    """Note which files are opened for reading."""
    if event == "open" and isinstance(arguments[0], str) and arguments[1] in ("r", "rb", None):
        _opened.add(os.path.abspath(arguments[0]))


def data_files(opened: Iterable[str]) -> list[str]:
    """Return which of these files are data: they lie below the working folder, and are no code."""
    here = os.getcwd() + os.sep
    below = sorted(path.removeprefix(here) for path in opened if path.startswith(here))
    code = (".py", ".pyc", ".so", ".pth")
    hidden = [path for path in below if path.split(os.sep)[0].startswith(".")]
    return [
        path
        for path in below
        if path not in hidden and not path.endswith(code) and os.path.isfile(path)
    ]


def main(target: str, where: str) -> None:
    """Print the description, or what is wrong."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the user's code prints is no answer
    find_user_modules()
    sys.addaudithook(_note)
    answer: dict[str, Any]
    try:
        if target.endswith(".npz"):
            row = own.describe_npz(Path(target))
        else:
            record = own.record_of(own.arrays_of(target, where), f"{where}: '{target}'")
            row = own.describe_record(record, target)
        answer = {"row": dataclasses.asdict(row), "read": data_files(_opened)}
    except UserError as error:
        answer = {"error": [error.what, error.where, error.fix]}
    print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
