"""Finds a user's modules without running anything of theirs."""

from __future__ import annotations

import ast
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from lossatlas.errors import UserError


def find_module(name: str) -> ModuleSpec | None:
    """Find "package.module"; unlike `find_spec` without running the packages around it.

    Returns:
        Where it is (`origin`, `submodule_search_locations`), or None if there is none.
    """
    first, *rest = name.split(".")
    try:
        found = find_spec(first)
    except (ImportError, ValueError):
        return None
    for word in rest:
        if found is None or found.submodule_search_locations is None:
            return None
        # by its last word: a folder without __init__.py asks for its parent, which is not imported
        found = PathFinder.find_spec(word, list(found.submodule_search_locations))
    return found


def source(name: str) -> Path | None:
    """Return the file of "package.module", or None if there is none that is written in Python."""
    found = find_module(name)
    if found is None or not found.origin or not found.origin.endswith(".py"):
        return None
    return Path(found.origin)


def parsed(file: Path, where: str) -> ast.Module:
    """Return the syntax tree of a file.

    Raises:
        UserError: If it is no Python.
    """
    try:
        return _parsed(file, file.stat().st_mtime_ns)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{file.name} is no Python: {error}", where=where, fix="mend it") from None


@cache
def _parsed(file: Path, _changed: int) -> ast.Module:
    return ast.parse(file.read_bytes())


def check_not_hidden(name: str, where: str) -> None:
    """Refuse a module that stands in the working folder and is found elsewhere.

    The folder comes last on the path: `train.py` there is hidden by a script of the workflow,
    `test.py` by a module of Python.

    Raises:
        UserError: With the file that is found in its place.
    """
    here = Path(*name.split("."))
    beside = [file for file in (here.with_suffix(".py"), here / "__init__.py") if file.is_file()]
    found = find_module(name)
    origin = Path(found.origin) if found is not None and found.origin else None
    if beside and origin and origin.resolve() not in [file.resolve() for file in beside]:
        what = f"'{name}' is {origin}, and not the {beside[0]} of this folder"
        raise UserError(what, where=where, fix="give that file another name")
