"""Digests of the code that a job runs, so that exactly the right jobs rerun.

Snakemake does not follow imports. A fingerprint does: from an entry function it collects every
top-level definition of this package that the entry reaches by name, and hashes their syntax trees
with docstrings and comments left out. A new helper beside them, a comment or a docstring changes
nothing; an edit to a line that runs changes the digest. The user's own model counts as its whole
file, and all files beside it that it imports.

Modules that only carry numbers from place to place, or guard a job (`CARRIERS`), are left out: what
they carry has versions of its own, and the version of the package retrains nothing.

Digests are kept in Snakemake's own folder beside a digest of all sources, and taken from there
while no byte of those has changed: reading trees is half the time of parsing the workflow.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.modules import find_module
from lossatlas.paths import LIBRARY

PACKAGE = "lossatlas"
CARRIERS = (
    "errors",
    "files",
    "fingerprint",
    "kept",
    "lease",
    "modules",
    "paths",
    "plugins",
    "seal",
    "slots",
    "spec",
    "store",
    "timing",
    "training.state",
    "warm",
)

Target = tuple[str, str]  # module, top-level name


@dataclass
class _Module:
    """Top-level definitions and imports of one source file."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Target] = field(default_factory=dict)


def code_of(*entries: str, without: tuple[str, ...] = ()) -> str:
    """Return 16 hex digits for the code that the entries reach.

    Args:
        entries: "package.module:object"; one outside this package counts as its whole file, with
            the files of the same folder that it imports.
        without: Modules of this package that this job does not run.

    Raises:
        ValueError: If an entry of this package does not exist.
        UserError: If a file of the user's is no Python.
    """
    foreign = [module for entry in entries if not _ours(module := entry.partition(":")[0])]
    files = [[_bytes(path) for path in _own_files(name)] for name in foreign]
    words = [sorted(set(entries)), list(without), files]
    key = hashlib.sha256(json.dumps(words).encode()).hexdigest()
    kept = _kept()
    if key not in kept:
        kept[key] = _code_of(entries, without)
        _keep(kept)
    return kept[key]


def _code_of(entries: tuple[str, ...], without: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for entry in sorted(set(entries)):
        for module, name, text in _reached(entry, without):
            digest.update(f"{module}:{name}\0{text}\0".encode())
    return digest.hexdigest()[:16]


@cache
def _kept() -> dict[str, str]:
    """Return the digests that were kept for these very sources."""
    try:
        found = json.loads(paths.CODES.read_text(encoding="utf-8"))
        return dict(found["codes"]) if found["sources"] == _sources() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _keep(codes: dict[str, str]) -> None:
    """Keep the digests where Snakemake keeps its own things; where it has none, do not."""
    temporary = paths.CODES.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps({"sources": _sources(), "codes": codes}), encoding="utf-8")
        temporary.replace(paths.CODES)


@cache
def _sources() -> str:
    """Return a digest of every byte of the package's sources, and of what reads them."""
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    for path in sorted(LIBRARY.rglob("*.py")):
        digest.update(f"{path.relative_to(LIBRARY)}:{_bytes(path)}\0".encode())
    return digest.hexdigest()


def _bytes(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _reached(entry: str, without: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    module, _, name = entry.partition(":")
    if not _ours(module):
        return [(module, "", ast.unparse(_tree(path))) for path in _own_files(module)]
    waiting = list(_resolve(module, name))
    if not waiting:
        raise ValueError(f"{module} defines no {name!r}")
    seen: dict[Target, str] = {}
    while waiting:
        target = waiting.pop()
        if target in seen or target[0] in without:
            continue
        seen[target], references = _definition(*target)
        waiting += references
    return sorted((module, name, text) for (module, name), text in seen.items())


@cache
def _definition(module: str, name: str) -> tuple[str, tuple[Target, ...]]:
    """Return the normalised source of a definition, and what it refers to in this package."""
    nodes = _parsed(module).definitions[name]
    references = dict.fromkeys(found for node in nodes for found in _references(module, node))
    return "\n".join(map(ast.unparse, nodes)), tuple(references)


def _ours(module: str) -> bool:
    return module == PACKAGE or module.startswith(f"{PACKAGE}.")


def _carrier(module: str) -> bool:
    within = module.removeprefix(PACKAGE).removeprefix(".")
    return within == "" or within.split(".")[0] in CARRIERS or within in CARRIERS


@cache
def _file(module: str) -> Path | None:
    base = LIBRARY.joinpath(*module.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _own_files(module: str) -> tuple[Path, ...]:
    """Return the file of the user's module, then those that it imports from the same root folder.

    An installed package counts as one file: it has a version, and what it imports has no end.
    """
    first = _found(module)
    if first is None:
        return ()
    root = first.parents[module.count(".") + (first.name == "__init__.py")]
    if {"site-packages", "dist-packages"} & set(root.parts):
        return (first,)
    waiting = [tuple(module.split("."))]
    found: dict[Path, None] = {}
    while waiting:
        words = waiting.pop()
        for count in range(1, len(words) + 1):  # the packages around it run as well
            for path in _places(root, words[:count]):
                if path.is_file() and path not in found:
                    found[path] = None
                    waiting += _imported(path, root)
    return (first, *sorted(path for path in found if path != first))


def _places(root: Path, words: tuple[str, ...]) -> tuple[Path, Path]:
    """Return where a module's file may be."""
    return root.joinpath(*words, "__init__.py"), root.joinpath(*words).with_suffix(".py")


def _imported(path: Path, root: Path) -> Iterator[tuple[str, ...]]:
    """Yield what a file imports, as tuples of words; the last of them may be no module."""
    here = path.parent.relative_to(root).parts
    try:
        tree = _tree(path)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"is no Python: {error}", where=str(path), fix="mend it") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) + 1 - node.level] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names)


@cache
def _found(module: str) -> Path | None:
    """Return the source file of the user's module, found without importing it."""
    found = find_module(module)
    if found is None or not found.origin or not found.origin.endswith(".py"):
        return None
    return Path(found.origin)


@cache
def _parsed(module: str) -> _Module:
    path = _file(module)
    parsed = _Module()
    if path is None:
        return parsed
    for node in _tree(path).body:
        for name in _defined(node):
            parsed.definitions.setdefault(name, []).append(node)
        _note_imports(node, parsed)
    return parsed


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


def _note_imports(node: ast.AST, parsed: _Module) -> None:
    if isinstance(node, ast.ImportFrom) and node.module and _ours(node.module):
        for alias in node.names:
            parsed.imports[alias.asname or alias.name] = (node.module, alias.name)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if _ours(alias.name):
                parsed.imports[alias.asname or alias.name] = (alias.name, "")


def _references(module: str, node: ast.AST) -> Iterable[Target]:
    """Yield what a definition refers to in this package, by name or as attribute of a module."""
    scope = _parsed(module)
    local = _Module()
    parts = list(ast.walk(node))
    for inner in parts:
        _note_imports(inner, local)
    imports = {**scope.imports, **local.imports}
    for inner in parts:
        if isinstance(inner, ast.Name):
            if inner.id in scope.definitions:
                yield module, inner.id
            elif inner.id in imports:
                yield from _resolve(*imports[inner.id])
        elif isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            yield from _attribute(imports.get(inner.value.id), inner.attr)


def _attribute(base: Target | None, name: str) -> Iterable[Target]:
    if base is not None:
        module = f"{base[0]}.{base[1]}" if base[1] else base[0]
        if _file(module) is not None:
            yield from _resolve(module, name)


def _resolve(module: str, name: str) -> Iterable[Target]:
    """Yield where a name really is defined; nothing for a module or for what only carries."""
    if _carrier(module):
        return
    parsed = _parsed(module)
    if name in parsed.definitions:
        yield module, name
    elif name in parsed.imports and parsed.imports[name] != (module, name):
        yield from _resolve(*parsed.imports[name])


def _tree(path: Path) -> ast.Module:
    """Parse a file and drop its docstrings; bodies that held nothing else become `pass`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
            if not node.body and not isinstance(node, ast.Module):
                node.body = [ast.Pass()]
    return tree
