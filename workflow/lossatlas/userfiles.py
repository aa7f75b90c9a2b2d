"""The user's own files that a job runs or reads, found without running anything of theirs.

From the module that an entry names, every import is followed wherever the path of Python leads,
`importlib.import_module("literal")` and `__import__("literal")` included. A package that imports by
computed names counts with all its modules. Other files count where they are declared, relative to
the module that does:

* `LOSSATLAS_FILES = ["weights.json"]` in any of these modules;
* `files = ["weights.json"]` in the class that the entry names.

Installed packages count by their version, those that Loss Atlas itself needs (`RECORDED`) only
where the entry names one: their versions stand in every result, and start nothing by themselves.
"""

from __future__ import annotations

import ast
import importlib.metadata
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lossatlas.errors import UserError
from lossatlas.modules import find_module
from lossatlas.syntax import ours

DECLARED = "LOSSATLAS_FILES"
RECORDED = frozenset(
    (
        *("h5py", "llvmlite", "matplotlib", "numpy", "pandas", "pooch", "pydantic", "pygments"),
        *("rich", "safetensors", "scipy", "sklearn", "snakemake", "torch", "torchvision", "yaml"),
    )
)
_SITES = {"site-packages", "dist-packages"}
_STANDARD = Path(sysconfig.get_path("stdlib"))

Words = tuple[str, ...]  # of a dotted name


@dataclass
class UserFiles:
    """What counts of the user's.

    Attributes:
        modules: Name for messages, such as "net/parts.py" -> the bytes.
        trees: Of those that are Python.
        declared: Name for messages -> the bytes of a declared file.
        installed: Distribution -> version.
    """

    modules: dict[str, bytes] = field(default_factory=dict)
    trees: list[ast.Module] = field(default_factory=list)
    declared: dict[str, bytes] = field(default_factory=dict)
    installed: dict[str, str] = field(default_factory=dict)


def user_files(target: str) -> UserFiles:
    """Return what counts for an entry "package.module:object" outside of this package.

    Raises:
        UserError: If a file is no Python, or a declared file is not there.
    """
    module, _, name = target.partition(":")
    walk = _Walk(UserFiles(), {})
    walk.follow(tuple(module.split(".")), entry=name)
    return walk.found


@dataclass
class _Walk:
    found: UserFiles
    seen: dict[str, None]

    def follow(self, words: Words, entry: str = "") -> None:
        """Count a module, the packages around it, and what they import."""
        waiting = [words]
        while waiting:
            wanted = waiting.pop()
            for count in range(1, len(wanted) + 1):  # the packages around it run as well
                name = ".".join(wanted[:count])
                if name in self.seen:
                    continue
                self.seen[name] = None
                origin = self._origin(name, named=bool(entry) and wanted == words)
                if origin is None:
                    break
                last = wanted == words and count == len(wanted)
                waiting += self._count(origin, wanted[:count], entry if last else "")

    def _origin(self, name: str, *, named: bool) -> Path | None:
        """Return a module's file, if it is one of the user's."""
        top = name.partition(".")[0]
        found = None if ours(name) or (top in RECORDED and not named) else find_module(name)
        if found is None or found.origin in ("built-in", "frozen"):
            return None
        if found.origin is None:  # a folder without __init__.py
            return Path()
        origin = Path(found.origin)
        if _SITES & set(origin.parts):
            if (version := _version(top)) is not None:
                self.found.installed[top] = version
                return None
            return origin if named else None
        return None if origin.is_relative_to(_STANDARD) else origin

    def _count(self, origin: Path, words: Words, entry: str) -> Iterator[Words]:
        """Count a file, and yield what it imports."""
        if not origin.parts:
            return
        package = origin.name == "__init__.py"
        shown = "/".join((*words, origin.name) if package else (*words[:-1], origin.name))
        content = origin.read_bytes()
        self.found.modules[shown] = content
        if origin.suffix != ".py" or _SITES & set(origin.parts):
            return
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError) as error:
            what = f"is no Python: {error}"
            raise UserError(what, where=str(origin), fix="mend it") from None
        self.found.trees.append(tree)
        for name in _declared(tree, entry, origin):
            file = origin.parent / name
            if not file.is_file():
                what, fix = f"declares the file '{name}'", f"put it beside {origin.name}"
                raise UserError(f"{what}, which is not there", where=str(origin), fix=fix)
            self.found.declared["/".join((*shown.split("/")[:-1], name))] = file.read_bytes()
        inside = words if package else words[:-1]
        yield from _imported(tree, inside)
        if inside and _computes_imports(tree):
            yield from _all_modules(origin.parent, inside)


def _all_modules(folder: Path, inside: Words) -> Iterator[Words]:
    """Yield every module of a package."""
    for path in sorted(folder.rglob("*.py")):
        words = (*inside, *path.relative_to(folder).with_suffix("").parts)
        yield words[:-1] if words[-1] == "__init__" else words


def _imported(tree: ast.Module, package: Words) -> Iterator[Words]:
    """Yield what a file imports, as tuples of words; the last of them may be no module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names)
        elif (text := _imports_by_text(node)) is not None:
            bare = text.lstrip(".")
            level = len(text) - len(bare)
            base = package[: len(package) + 1 - level] if level else ()
            yield (*base, *filter(None, bare.split(".")))


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return str(getattr(node.func, "attr", getattr(node.func, "id", "")))


def _imports_by_text(node: ast.AST) -> str | None:
    """Return the module that a call of `import_module` or `__import__` names by a literal."""
    if _called(node) in ("import_module", "__import__"):
        first = node.args[0] if isinstance(node, ast.Call) and node.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            return first.value
    return None


def _computes_imports(tree: ast.Module) -> bool:
    """Say whether a file imports by names that only running it would tell."""
    for node in ast.walk(tree):
        if _called(node) in ("import_module", "__import__") and _imports_by_text(node) is None:
            return True
        if _called(node) in ("iter_modules", "walk_packages"):
            return True
    return False


def _declared(tree: ast.Module, entry: str, origin: Path) -> Iterator[str]:
    """Yield the files that a module declares."""
    values = _assigned(tree.body, DECLARED)
    for node in tree.body:
        if entry and isinstance(node, ast.ClassDef) and node.name == _class_of(tree, entry):
            values += _assigned(node.body, "files")
    for value in values:
        try:
            names = ast.literal_eval(value)
        except ValueError:
            names = None
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            what = f"line {value.lineno} declares files by something else than a list of texts"
            raise UserError(what, where=str(origin), fix=f'{DECLARED} = ["weights.json"]')
        yield from names


def _class_of(tree: ast.Module, name: str) -> str:
    """Return the class that an object is, or is made from (`metric = Slope()`)."""
    for value in _assigned(tree.body, name):
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            return value.func.id
    return name


def _assigned(body: list[ast.stmt], name: str) -> list[ast.expr]:
    """Return the values that a name is given in a block."""
    found = []
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            found += [node.value for one in targets if getattr(one, "id", "") == name]
    return found


def _version(package: str) -> str | None:
    """Return the version of the distribution that an installed package is of, if it has one."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get(package, [])
        return importlib.metadata.version(names[0]) if names else None
