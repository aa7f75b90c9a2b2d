"""The one place that imports what a config names as "package.module:object".

A plug-in is code that runs with the rights of whoever starts it, so it has to be named on purpose:
its module lies in the folder in which they start (or in a package there), or belongs to an
installed distribution that declares an entry point in a group of `GROUPS`. With
LOSSATLAS_PLUGINS=off nothing of a plug-in is imported.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from lossatlas.errors import UserError, nearest, told
from lossatlas.installed import extra_for
from lossatlas.modules import check_not_hidden, find_module

GROUPS = tuple(
    f"lossatlas.{kind}" for kind in ("models", "datasets", "figures", "metrics", "tasks")
)
SWITCH = "LOSSATLAS_PLUGINS"
_OFF = ("off", "0", "no", "false")


def load(target: str, where: str, base: type | None = None) -> Any:
    """Import "package.module:object".

    Args:
        target: Of a plug-in, or of this library.
        where: The key of the config or the option that names it, for messages.
        base: Class of which the object must be a subclass.

    Raises:
        UserError: If plug-ins are off, it is no plug-in (see `check`), its module does not import,
            or the object is missing or of another type.
    """
    module_name, name = divided(target, where)
    if not _ours(module_name):
        if off():
            fix = f"if you trust it, leave out {SWITCH}=off, 'plugins: off' and --no-plugins"
            raise UserError(f"plug-ins are off, and '{target}' is one", where=where, fix=fix)
        check(target, where)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may fail in any way while it is imported
        what = f"'{module_name}' does not import: {told(error)}"
        fix = extra_for(error) or "mend it, or correct the path"
        raise UserError(what, where=where, fix=fix) from error
    found = getattr(module, name, None)
    if found is None or (_ours(module_name) and not _ours(getattr(found, "__module__", ""))):
        fix = nearest(name, _made_in(module))
        raise UserError(f"'{module_name}' has no '{name}'", where=where, fix=fix)
    if base is not None and not (isinstance(found, type) and issubclass(found, base)):
        what = f"'{target}' is a {type(found).__name__}, not a subclass of {base.__name__}"
        raise UserError(what, where=where, fix=f"make it a class {name}({base.__name__})")
    return found


def _made_in(module: ModuleType) -> list[str]:
    """Return the public names of a module, but for what it imports."""
    return [
        name
        for name, thing in vars(module).items()
        if not (name.startswith("_") or isinstance(thing, ModuleType))
        and getattr(thing, "__module__", module.__name__) == module.__name__
    ]


def check(target: str, where: str) -> None:
    """Refuse what is no plug-in or is not there; nothing of it is imported.

    With plug-ins off just the form of the name is looked at.

    Raises:
        UserError: If it is not "package.module:object", has no module, or its module lies neither
            in the working folder nor in a distribution that declares an entry point of ours.
    """
    module, name = divided(target, where)
    if _ours(module):
        fix = "give the name of a built-in, or import it in a module of your own"
        raise UserError(f"'{target}' is a part of Loss Atlas, not a plug-in", where=where, fix=fix)
    if off():
        return
    check_not_hidden(module, where)
    found = find_module(module)
    if found is None or (found.origin is None and found.loader is None):
        beside = [file.stem for file in Path().glob("*.py")]
        close = difflib.get_close_matches(module, beside, n=1, cutoff=0.8)
        fix = f"did you mean '{close[0]}'?" if close else "start in the folder that holds it"
        raise UserError(f"no module named '{module}'", where=where, fix=fix)
    if not (_lies_here(module, found.origin) or module.partition(".")[0] in _declaring()):
        what = f"'{module}' is neither in this folder nor in a package that declares plug-ins"
        fix = f"write a module here with the line 'from {module} import {name}', and name that one"
        raise UserError(what, where=where, fix=fix)


def divided(target: str, where: str) -> tuple[str, str]:
    """Return the module and the object's name of "package.module:object".

    Raises:
        UserError: If it is not of this form.
    """
    module, _, name = target.partition(":")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", module) or not name.isidentifier():
        raise UserError(f"'{target}' is not 'package.module:object'", where=where)
    return module, name


def off() -> bool:
    """Say whether plug-ins are switched off."""
    return os.environ.get(SWITCH, "").strip().lower() in _OFF


def turn_off() -> None:
    """Switch plug-ins off, in this process and in those that it starts."""
    os.environ[SWITCH] = "off"


def names(group: str) -> set[str]:
    """Return the names that installed packages declare in a group."""
    return {point.name for point in _declared(group)}


def target_of(name: str, group: str, built_in: Iterable[str], where: str) -> str:
    """Return "package.module:object" for the name of a plug-in, "" for that of a built-in.

    Args:
        name: An entry point, or already "package.module:object".
        group: One of `GROUPS`.
        built_in: Names of the library's own in this group.
        where: The key, for messages.

    Raises:
        UserError: If nothing has this name, or more than one thing has.
    """
    if ":" in name:
        return name
    found = [point for point in _declared(group) if point.name == name]
    own = [f"{point.module}:{point.attr}" for point in found]
    owners = [f"of the package {_package(point)}" for point in found]
    known = set(built_in)
    if name in known:
        owners.append("a built-in of Loss Atlas")
    if len(owners) > 1:
        what = f"'{name}' is {' and '.join(owners)}"
        raise UserError(what, where=where, fix="give 'package.module:object', or uninstall one")
    if not owners:
        fix = f"{nearest(name, known | names(group))}, or your own 'package.module:object'"
        noun = group.removeprefix("lossatlas.").removesuffix("s").replace("dataset", "data set")
        raise UserError(f"unknown {noun} '{name}'", where=where, fix=fix)
    return own[0] if own else ""


def _ours(module: str) -> bool:
    return module.partition(".")[0] == "lossatlas"


def _lies_here(module: str, origin: str | None) -> bool:
    """Say whether a module, or the package around it, lies in the working folder itself."""
    if origin is None:
        return False
    file = Path(origin)
    depth = module.count(".") + (file.name == "__init__.py")
    return file.is_file() and file.parents[depth].resolve() == Path.cwd().resolve()


@cache
def _installed() -> tuple[EntryPoint, ...]:
    """Return the entry points of ours; of a distribution that is found twice those found first."""
    found: dict[tuple[str, str, str], EntryPoint] = {}
    for distribution in distributions():
        for point in distribution.entry_points:
            if point.group in GROUPS:
                found.setdefault((distribution.name, point.group, point.name), point)
    return tuple(found[key] for key in sorted(found))


def _declared(group: str) -> list[EntryPoint]:
    return [point for point in _installed() if point.group == group]


@cache
def _declaring() -> set[str]:
    """Return the top-level packages that entry points of ours name."""
    return {point.module.partition(".")[0] for point in _installed()}


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module
