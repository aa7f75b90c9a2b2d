"""Archives that could not be had: the job that asked for one leaves a note of it.

Snakemake knows only that a job failed. With the note, the end of a run can tell data that are
missing here from faults, and say in one line how to get them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from lossatlas import paths
from lossatlas.errors import UserError

STATUS = 3  # exit status of a run in which nothing but data was missing


def note(file: str) -> None:
    """Note that an archive could not be had."""
    path = Path(paths.missing(file))
    with contextlib.suppress(OSError):  # then it counts as a fault, like any other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def forget(file: str) -> None:
    """Drop the note of an archive, before it is asked for again."""
    path = Path(paths.missing(file))
    with contextlib.suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def noted(file: str) -> bool:
    """Say whether there is a note of an archive."""
    return Path(paths.missing(file)).exists()


def line(files: Iterable[str], *, alone: bool) -> str:
    """Return what a run ends with.

    Args:
        files: The archives that could not be had.
        alone: Nothing else went wrong.
    """
    names = ", ".join(f"'{file}'" for file in sorted(files))
    rest = "all that does not need them is made" if alone else "other jobs failed, too: see above"
    fix = (
        "put them under these names into a folder, name it in LOSSATLAS_MIRROR or as 'mirror_dir'"
        " in the config, and run the same command again; resources/datasets.tsv has the addresses"
    )
    return f"lossatlas: {UserError(f'data are missing: {names}; {rest}', fix=fix)}"
