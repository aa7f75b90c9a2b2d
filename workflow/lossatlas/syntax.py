"""One source file as definitions, imports and statements, and what each of them refers to.

Names are followed by Python's rules of scope: a parameter hides a function of the same name.
Nothing is imported or run.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

PACKAGE = "lossatlas"
Chain = tuple[str, ...]  # "a.b.c" as it is written: the name and the attributes after it
Imported = tuple[str, str]  # module, name in it; "" is the module itself

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = frozenset((*_FUNCTIONS, ast.ClassDef, *_COMPREHENSIONS))
_BINDS = frozenset(
    (
        ast.Import,
        ast.ImportFrom,
        ast.Global,
        ast.Attribute,
        ast.Subscript,
        ast.ExceptHandler,
        ast.MatchAs,
        ast.MatchStar,
        ast.MatchMapping,
    )
)
_UNSEEN = ("ctx", "kind", "type_comment")  # fields of nodes that say nothing about what runs
_BY_TEXT = ("getattr", "attrgetter", "methodcaller")  # take the name of an attribute as a text
_FOR_TYPES = ("__future__", "collections.abc", "typing")  # modules that annotations are made of
_DOCUMENTS = ("description", "doc")  # keywords that explain a value


@dataclass
class Uses:
    """What a piece of code refers to.

    Attributes:
        chains: Global names with their attributes, as (imports in scope, chain).
        modules: Modules of this package that are imported by a literal name.
        attributes: Names of all attributes that are read.
        calls: Those of the chains that are called, with nothing passed on as `**values`.
    """

    chains: list[tuple[dict[str, Imported], Chain]] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    attributes: set[str] = field(default_factory=set)
    calls: list[tuple[dict[str, Imported], Chain]] = field(default_factory=list)


@dataclass
class Source:
    """One file: names -> the statements that make them, imports of this package, and the rest."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Imported] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)


def source(tree: ast.Module) -> Source:
    """Sort the statements of a file."""
    found = Source()
    for node in tree.body:
        if _documents(node) or _only_for_types(node) or _as_a_program(node):
            continue
        scope = _Scope.of([node])
        found.imports |= scope.imports
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, alone in _separate(node):
                if name not in scope.imports:
                    found.definitions.setdefault(name, []).append(alone)
            continue
        names = {**scope.names, **scope.changed}
        for name in names:
            if name not in scope.imports:
                found.definitions.setdefault(name, []).append(node)
        if not names:
            found.effects.append(node)
    return found


def _separate(node: ast.Import | ast.ImportFrom) -> Iterable[tuple[str, ast.stmt]]:
    """Yield each name that an import binds with an import of that name alone."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            if node.module not in _FOR_TYPES:
                alone = ast.ImportFrom(node.module, [alias], node.level)
                yield alias.asname or alias.name, alone
        else:
            yield alias.asname or alias.name.partition(".")[0], ast.Import([alias])


def uses(nodes: Iterable[ast.AST]) -> Uses:
    """Return what some code refers to outside of itself."""
    found = Uses()
    for node in nodes:
        _visit(node, frozenset(), {}, found)
    return found


def digest(nodes: Iterable[ast.AST]) -> str:
    """Return a SHA-256 of the syntax, without comments, docstrings and layout.

    It does not depend on the version of Python, as `ast.unparse` and `ast.dump` do.
    """
    words: list[str] = []
    for node in nodes:
        _write(node, words)
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def without_words(node: ast.AST) -> ast.AST:
    """Drop from a value the keywords that explain it; changes the node."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call):
            inner.keywords = [one for one in inner.keywords if one.arg not in _DOCUMENTS]
    return node


def _write(node: object, words: list[str]) -> None:
    if isinstance(node, ast.AST):
        words.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if name in _UNSEEN or value is None or value == []:
                continue
            words.append(name)
            if isinstance(value, list):
                kept = [one for one in value if not _documents(one)]
                words.append(str(len(kept)))
                for one in kept:
                    _write(one, words)
            else:
                _write(value, words)
    else:
        words.append(repr(node))


def _documents(node: object) -> bool:
    """Say whether a statement does nothing: a docstring, `...`, `pass`."""
    constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return constant or isinstance(node, ast.Pass)


def _only_for_types(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If) or node.orelse:
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _as_a_program(node: ast.stmt) -> bool:
    """Say whether a statement is `if __name__ == "__main__":`."""
    test = node.test if isinstance(node, ast.If) else None
    return isinstance(test, ast.Compare) and getattr(test.left, "id", "") == "__name__"


def ours(module: str) -> bool:
    """Say whether a module is of this package."""
    return module == PACKAGE or module.startswith(f"{PACKAGE}.")


@dataclass
class _Scope:
    """What one scope binds: the functions and classes inside it have scopes of their own.

    Attributes:
        names: Bound by assignments, definitions, loops and the like.
        changed: Of objects of which a part is set (`TABLE[0] = 1`).
        imports: Of this package: name -> what it is.
        shared: Declared global.
    """

    names: dict[str, None] = field(default_factory=dict)
    changed: dict[str, None] = field(default_factory=dict)
    imports: dict[str, Imported] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, nodes: Iterable[ast.AST]) -> _Scope:
        """Look through the statements of a scope."""
        found = cls()
        waiting = list(nodes)[::-1]
        while waiting:
            node = waiting.pop()
            kind = type(node)
            if isinstance(node, ast.Name):
                if type(node.ctx) is not ast.Load:
                    found.names[node.id] = None
            elif kind in _SCOPES:
                found._enter(node, waiting)
            else:
                if kind in _BINDS:
                    found._bind(node)
                waiting += ast.iter_child_nodes(node)
        return found

    def _enter(self, node: Any, waiting: list[ast.AST]) -> None:
        """Note a node that has a scope of its own; what of it is evaluated here waits."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.names[node.name] = None
            waiting += node.decorator_list
        elif isinstance(node, _COMPREHENSIONS):  # binds here with := alone
            walrus = [one for one in ast.walk(node) if isinstance(one, ast.NamedExpr)]
            self.names |= dict.fromkeys(one.target.id for one in walrus)

    def _bind(self, node: Any) -> None:
        kind = type(node)
        if kind is ast.Import:
            self._import(node)
        elif kind is ast.ImportFrom:
            for alias in node.names:
                self.names[alias.asname or alias.name] = None
                if node.module and ours(node.module) and not node.level:
                    self.imports[alias.asname or alias.name] = (node.module, alias.name)
        elif kind is ast.Global:
            self.shared.update(node.names)
        elif kind is ast.Attribute or kind is ast.Subscript:
            self._change(node)
        elif name := getattr(node, "name", None) or getattr(node, "rest", None):
            self.names[name] = None

    def _change(self, node: Any) -> None:
        if type(node.ctx) is not ast.Load:
            while isinstance(node, ast.Attribute | ast.Subscript):
                node = node.value
            if isinstance(node, ast.Name):
                self.changed[node.id] = None

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            first = alias.name.partition(".")[0]
            self.names[alias.asname or first] = None
            if ours(alias.name):
                what = alias.name if alias.asname else first
                self.imports[alias.asname or first] = (what, "")


def _visit(node: Any, local: frozenset[str], imports: dict[str, Imported], found: Uses) -> None:
    """Note what a node refers to.

    Args:
        node: Any node.
        local: Names that mean something of the functions around it.
        imports: Imports of this package in those functions.
        found: Where to note it.
    """
    kind = type(node)
    if kind is ast.Name or kind is ast.Attribute:
        _visit_name(node, local, imports, found)
    elif kind in _FUNCTIONS:
        _visit_function(node, local, imports, found)
    elif kind in _COMPREHENSIONS:
        _visit_comprehension(node, local, imports, found)
    elif kind is not ast.Constant:
        if kind is ast.Call:
            _note_texts(node, found)
            if all(one.arg for one in node.keywords):
                first = len(found.chains)
                _visit(node.func, local, imports, found)
                found.calls += found.chains[first:][:1]
        for inner in ast.iter_child_nodes(node):
            _visit(inner, local, imports, found)


def _visit_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
    local: frozenset[str],
    imports: dict[str, Imported],
    found: Uses,
) -> None:
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    outer: list[ast.AST | None] = [*given.defaults, *given.kw_defaults]
    outer += [one.annotation for one in named if one is not None]
    if not isinstance(node, ast.Lambda):
        outer += [*node.decorator_list, node.returns]
    for one in filter(None, outer):
        _visit(one, local, imports, found)
    own = _Scope.of(body)
    names = {one.arg for one in named if one is not None} | own.names.keys()
    inside = (local | names) - own.shared - own.imports.keys()
    imports = {**imports, **own.imports} if own.imports else imports
    for statement in body:
        _visit(statement, inside, imports, found)


def _visit_comprehension(
    node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp,
    local: frozenset[str],
    imports: dict[str, Imported],
    found: Uses,
) -> None:
    _visit(node.generators[0].iter, local, imports, found)
    targets = {
        name.id
        for one in node.generators
        for name in ast.walk(one.target)
        if isinstance(name, ast.Name)
    }
    inside = local | targets
    for place, one in enumerate(node.generators):
        for part in [*([one.iter] if place else []), *one.ifs]:
            _visit(part, inside, imports, found)
    parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    for part in parts:
        _visit(part, inside, imports, found)


def _visit_name(
    node: ast.Name | ast.Attribute,
    local: frozenset[str],
    imports: dict[str, Imported],
    found: Uses,
) -> None:
    words: list[str] = []
    base: ast.expr = node
    while isinstance(base, ast.Attribute):
        words.append(base.attr)
        base = base.value
    found.attributes.update(words)
    if not isinstance(base, ast.Name):
        _visit(base, local, imports, found)
    elif base.id not in local:
        found.chains.append((imports, (base.id, *reversed(words))))


def _note_texts(node: ast.Call, found: Uses) -> None:
    """Note attributes and modules that a call names by a text."""
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if called in _BY_TEXT:
        found.attributes.update(texts)
    elif called in ("import_module", "__import__"):
        found.modules += filter(ours, texts[:1])
