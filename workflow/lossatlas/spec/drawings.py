"""Reads the declarations of figures, `@la.figure(...)`, from their source; nothing is imported."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lossatlas import modules, paths, plugins
from lossatlas.errors import UserError, nearest

OWN = "figures of your own"
_TEXTS, _LISTS, _FLAGS = (
    ("name", "category", "about"),
    ("scalars", "series", "axes"),
    ("reference", "study", "against", "variants", "inferred"),
)
# From the first decorator to the end of the docstring: whole files take ten times as long.
_HEAD = re.compile(r'^@la\.figure\(.*?""".*?"""', re.DOTALL | re.MULTILINE)
_AXES = ("load", "temperature")
_SECTION = re.compile(r"\n\s*(Args|Returns|Raises|Example):\s*\n")


@dataclass(frozen=True)
class Drawing:
    """What a figure declares.

    Attributes:
        target: Its function, as "package.module:object".
        scalars: Metrics whose tables of scalars it reads, by kind or name.
        series: Metrics whose tables of series it reads.
        axes: Axes that an experiment must have to be drawn.
        category: Where reports show it.
        about: What it shows, in one sentence.
        caption: The caption, as reStructuredText.
        reference: Whether it is drawn from the authors' published results.
        study: Whether it is drawn from a study that has no cells.
        against: Whether it compares the experiment with a second one, and reads its tables, too.
        variants: Whether it compares metrics of one kind: it reads the experiment's whole table.
        inferred: Whether it shows cells that a refinement left out, too.
    """

    target: str
    scalars: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    category: str = OWN
    about: str = "A figure."
    caption: str = ""
    reference: bool = False
    study: bool = False
    against: bool = False
    variants: bool = False
    inferred: bool = False

    @property
    def subcategory(self) -> str:
        """Where reports show it within its category."""
        if self.reference:
            return "authors' results"
        return "toy data" if self.study else "our atlas"


def built_in() -> dict[str, Drawing]:
    """Return the figures that the library declares, by name."""
    found: dict[str, Drawing] = {}
    for file in sorted((paths.LIBRARY / "figures").glob("*.py")):
        module = f"lossatlas.figures.{file.stem}"
        for text in _HEAD.findall(file.read_text(encoding="utf-8")):
            (node,) = ast.parse(text).body
            if isinstance(node, ast.FunctionDef):
                for given in _declarations(node, str(file)):
                    name = str(given.get("name") or node.name)
                    found[name] = _drawing(node, f"{module}:{node.name}", given, name)
    return dict(sorted(found.items()))


def own(target: str, where: str) -> Drawing:
    """Return what a figure of the user's own declares.

    With plug-ins off, one whose file is not there declares nothing.

    Args:
        target: "package.module:object".
        where: The key of the config, for messages.

    Raises:
        UserError: If it is no plug-in, is not there, or declares nothing or something wrong.
    """
    plugins.check(target, where)
    module, name = plugins.divided(target, where)
    file = modules.source(module)
    if file is None:
        if plugins.off():
            return Drawing(target, about=f"The figure {target}.")
        raise UserError(f"'{module}' is not written in Python", where=where, fix="write a .py file")
    functions = {
        node.name: node
        for node in modules.parsed(file, where).body
        if isinstance(node, ast.FunctionDef)
    }
    if name not in functions:
        fix = nearest(name, functions)
        raise UserError(f"{file.name} defines no function '{name}'", where=where, fix=fix)
    given = next(_declarations(functions[name], f"{where}: {file.name}"), None)
    if given is None:
        fix = 'put @la.figure(scalars=["performance"]) or the like above it'
        raise UserError(f"'{name}' does not say which tables it reads", where=where, fix=fix)
    return _drawing(functions[name], target, given, "")


def _declarations(node: ast.FunctionDef, where: str) -> Iterator[dict[str, Any]]:
    """Yield the arguments of each `@la.figure(...)` or `@figure(...)` above a function."""
    for decorator in node.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        said = call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")
        if said == "figure":
            place = f"{where}, line {decorator.lineno}"
            yield _arguments(decorator if isinstance(decorator, ast.Call) else None, place)


def _arguments(call: ast.Call | None, where: str) -> dict[str, Any]:
    """Return the arguments of a declaration.

    Raises:
        UserError: If one is unknown, of a wrong type, or not written out; or no table is read.
    """
    given = {} if call is None else {word.arg or "**": word.value for word in call.keywords}
    if call is not None and call.args:
        given["name"] = call.args[0]
    found: dict[str, Any] = {}
    for key, node in given.items():
        known = (*_TEXTS, *_LISTS, *_FLAGS)
        if key not in known:
            fix = nearest(key, known)
            raise UserError(f"@la.figure has no argument '{key}'", where=where, fix=fix)
        try:
            found[key] = ast.literal_eval(node)
        except ValueError:
            fix = "write out texts and lists of texts: the file is read, and not run"
            raise UserError(f"'{key}' is {ast.unparse(node)}", where=where, fix=fix) from None
        _check_type(key, found[key], where)
    if not any(found.get(key) for key in ("scalars", "series", "variants")):
        fix = 'such as @la.figure(scalars=["performance"])'
        raise UserError("names no metric whose tables it reads", where=where, fix=fix)
    return found


def _check_type(key: str, value: Any, where: str) -> None:
    wanted, right = "a text", isinstance(value, str)
    if key in _FLAGS:
        wanted, right = "True or False", isinstance(value, bool)
    elif key in _LISTS:
        wanted = "a list of texts"
        right = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    if not right:
        raise UserError(f"'{key}' is {value!r}", where=where, fix=f"give {wanted}")
    if key == "axes" and (unknown := [one for one in value if one not in _AXES]):
        what = f"no axis is called '{unknown[0]}'"
        raise UserError(what, where=where, fix="'load', 'temperature' or both")


def _drawing(node: ast.FunctionDef, target: str, given: dict[str, Any], name: str) -> Drawing:
    text = _SECTION.split(inspect.cleandoc(ast.get_docstring(node) or ""))[0].strip()
    about = given.get("about") or " ".join(text.partition("\n\n")[0].split()) or f"{target}."
    file = paths.caption(name) if name else None
    caption = file.read_text(encoding="utf-8") if file and file.is_file() else text or about
    return Drawing(
        target,
        tuple(given.get("scalars", ())),
        tuple(given.get("series", ())),
        tuple(given.get("axes", ())),
        given.get("category") or name.partition("_")[0] or OWN,
        about,
        caption,
        **{key: given.get(key, False) for key in _FLAGS},
    )
