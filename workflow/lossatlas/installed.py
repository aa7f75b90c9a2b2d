"""What the library lacks as it is installed: an extra, the workflow, a project's version."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import lossatlas
from lossatlas import paths
from lossatlas.errors import UserError

EXTRAS = {  # what is imported -> the extra of pyproject.toml that installs it
    "pooch": "workflow",
    "pygments": "workflow",
    "sacrebleu": "text",
    "sentencepiece": "text",
    "snakemake": "workflow",
    "torchvision": "vision",
}
TARGETS = (
    *("all", "calibrate", "claims", "data", "doctor", "figures", "metrics", "plan", "report"),
    "status",
)
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)


def extra_for(error: BaseException) -> str:
    """Return the command that installs what an import did not find; "" if no extra has it."""
    found = isinstance(error, ModuleNotFoundError) and _top(error) in EXTRAS
    return f"pip install 'lossatlas[{EXTRAS[_top(error)]}]'" if found else ""


def _top(error: BaseException) -> str:
    """Return the package that an import did not find."""
    return (getattr(error, "name", None) or "").partition(".")[0]


def lacking(error: ModuleNotFoundError) -> UserError | None:
    """Return an import's failure as a line for the user; None if no extra would mend it."""
    fix = extra_for(error)
    return UserError(f"{_top(error)} is not installed", fix=fix) if fix else None


def check_snakemake() -> None:
    """Refuse to go on without Snakemake.

    Raises:
        UserError: With the extra that installs it.
    """
    if importlib.util.find_spec("snakemake") is None:
        fix = f"pip install 'lossatlas[{EXTRAS['snakemake']}]'"
        raise UserError("Snakemake is not installed", fix=fix)


def snakefile() -> Path:
    """Return the Snakefile of the working folder, or else of the checkout that this library is in.

    Raises:
        UserError: If there is none, or the folder's project has a library of another version.
    """
    here = Path("Snakefile")
    if here.is_file():
        if (line := other_project()) is not None:
            raise line
        return here
    around = paths.PROJECT / here
    if paths.INSTALLED or not around.is_file():
        fix = "start in a checkout of Loss Atlas, or run the 'lossatlas' in its .venv/bin"
        raise UserError("no Snakefile here", fix=fix)
    return around


def other_project() -> UserError | None:
    """Say that the working folder's project has a library of another version than runs."""
    try:
        text = Path("workflow/lossatlas/__init__.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = _VERSION.search(text)
    if found is None or found[1] == lossatlas.__version__:
        return None
    what = f"lossatlas {lossatlas.__version__} of {paths.LIBRARY} runs; here is {found[1]}"
    return UserError(what, fix="run the 'lossatlas' in this project's .venv/bin")


def check_command(words: Sequence[str]) -> None:
    """Refuse a target of the workflow in the place of a command.

    Args:
        words: Of the command line, after the program's name.

    Raises:
        UserError: With the command that makes it.
    """
    word = words[0] if words else ""
    if word in TARGETS:
        what = f"'{word}' is a target of the workflow, not a command"
        lacks = importlib.util.find_spec("snakemake") is None
        first = f"pip install 'lossatlas[{EXTRAS['snakemake']}]', then " if lacks else ""
        raise UserError(what, fix=f"{first}in a checkout: snakemake {word}")
