"""Which definitions of this package a piece of code reaches.

The walk starts at entries and follows names, attributes of modules, imports inside functions and
`import_module("lossatlas...")`. A module that is used as a value (put into a table, passed on)
counts with everything in it. Statements of a module that bind no name, such as a setting of the
environment, count for every module that is reached and the packages around it. A name that leads
nowhere is an error, so that no walk ends in silence.

**Sections of the config** (classes of Pydantic) are special: one more key must not run everything
again. Of a section count its methods, properties and constants whose names the reached code reads
as attributes, and not

* fields: their values are in the job's parameters. But the specification of a cell leaves out what
  equals its default, and code may make a section itself (`Thresholds()`): the defaults of
  `spec.parts`, and of what the reached code makes, count where the code reads the field;
* validators: what they let through, and what they make of it, is in the job's parameters. Of a
  section that the code makes itself, those that run before and fill in values count;
* descriptions of fields and outputs.

A section that is itself an entry (the declaration of a metric) follows the same rule.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lossatlas.carriers import CARRIERS
from lossatlas.syntax import (
    PACKAGE,
    Imported,
    Source,
    Uses,
    digest,
    source,
    uses,
    without_words,
)

ALL = "*"  # in place of a name: the whole module, used as a value
DEFAULTS = ("lossatlas.spec.parts",)  # sections whose values are known to jobs without defaults
_VALIDATORS = ("field_validator", "model_validator")
_READ, _FIELD, _FILLS = "read", "field", "fills"  # kinds of members of sections

Target = tuple[str, str]  # module, name; "" stands for its statements that bind none


@dataclass(frozen=True)
class Definition:
    """What counts under one name.

    Attributes:
        digest: Of its syntax.
        references: What it refers to in this package.
        attributes: Names of the attributes that it reads.
        made: What it calls in this package.
        members: Of a section: (kind, name) -> what may count.
    """

    digest: str
    references: tuple[Target, ...] = ()
    attributes: frozenset[str] = frozenset()
    made: tuple[Target, ...] = ()
    members: Mapping[tuple[str, str], Definition] = field(default_factory=dict)


@dataclass(frozen=True)
class Other:
    """A file outside of the package: a script of ours or a module of the user's.

    Attributes:
        tree: Its syntax.
        strict: Its name, if what it asks of the package must be there; what a user's file lacks
            it says itself when it runs.
    """

    tree: ast.Module
    strict: str = ""


class Library:
    """The package's sources, as they were read at one moment.

    Args:
        sources: Module ("lossatlas.store") -> whether it is a package, and its text.
    """

    def __init__(self, sources: Mapping[str, tuple[bool, bytes]]) -> None:
        self.sources = sources
        self._modules: dict[str, Source] = {}
        self._definitions: dict[Target, Definition] = {}
        self._sections: dict[Target, bool] = {}

    def reached(
        self, entries: Iterable[Target], others: Iterable[Other], without: Iterable[str] = ()
    ) -> dict[Target, str]:
        """Return what counts: (module, name) -> digest.

        Args:
            entries: Where the walk starts.
            others: Files outside of the package that count whole.
            without: Modules, packages or "module:name" that this job does not run.

        Raises:
            ValueError: If a name of this package does not exist.
        """
        walk = _Walk(self, frozenset(without))
        for module, name in entries:
            walk.add(self.resolve(module, name, f"the entry {module}:{name}"))
        for one in others:
            used, scope = uses(one.tree.body), Source(imports=source(one.tree).imports)
            walk.attributes |= used.attributes
            walk.add(self._references(one.strict, scope, used, strict=bool(one.strict)))
        return walk.run()

    def module(self, name: str) -> Source:
        """Return the parts of a module."""
        if name not in self._modules:
            self._modules[name] = source(ast.parse(self.sources[name][1]))
        return self._modules[name]

    def definition(self, target: Target) -> Definition:
        """Return what counts under a name."""
        if target not in self._definitions:
            module, name = target
            parts = self.module(module)
            nodes = parts.definitions[name] if name else parts.effects
            made = self._section(module, nodes) if self.is_section(target) else None
            self._definitions[target] = made or self._define(module, nodes)
        return self._definitions[target]

    def resolve(self, module: str, name: str, where: str) -> Iterator[Target]:
        """Yield where a name of a module is really defined; nothing for a carrier.

        Raises:
            ValueError: If there is no such name.
        """
        within = module.removeprefix(PACKAGE).removeprefix(".")
        if within in CARRIERS or f"{within}:{name}" in CARRIERS:
            return
        if name in (ALL, ""):
            yield module, ALL
            return
        parts = self.module(module)
        if name in parts.imports and parts.imports[name] != (module, name):
            base, inner = parts.imports[name]
            yield from self._named(base, inner, where)
        elif name in parts.definitions:
            yield module, name
        elif f"{module}.{name}" in self.sources:
            yield from self.resolve(f"{module}.{name}", ALL, where)
        elif home := self._exported(parts).get(name):
            yield from self.resolve(f"{module}.{home}", name, where)
        else:
            raise ValueError(f"{module} defines no {name!r}, which {where} uses")

    def is_section(self, target: Target) -> bool:
        """Say whether a definition is a class of Pydantic."""
        if target not in self._sections:
            self._sections[target] = False
            module, name = target
            nodes = self.module(module).definitions.get(name, [])
            if len(nodes) == 1 and isinstance(nodes[0], ast.ClassDef):
                bases = [uses([base]).chains for base in nodes[0].bases]
                chains = [chain for one in bases for _, chain in one]
                self._sections[target] = any(self._is_base(module, chain) for chain in chains)
        return self._sections[target]

    def _is_base(self, module: str, chain: tuple[str, ...]) -> bool:
        if chain[-1] == "BaseModel":
            return True
        found = self._chain(module, self.module(module), {}, chain, "", strict=False)
        return any(self.is_section(one) for one in found)

    def _named(self, module: str, name: str, where: str) -> Iterator[Target]:
        """Yield what an import means: a name of a module, or a module."""
        inner = f"{module}.{name}"
        if name and inner in self.sources and name not in self.module(module).definitions:
            module, name = inner, ""
        if module in self.sources:
            yield from self.resolve(module, name, where)

    @staticmethod
    def _exported(parts: Source) -> dict[str, str]:
        """Return name -> the module of the package that exports it lazily (`lazy.exported`)."""
        for node in parts.definitions.get("__getattr__", []):
            call = node.value if isinstance(node, ast.Assign) else None
            if isinstance(call, ast.Call) and isinstance(call.args[-1], ast.Name):
                for table in parts.definitions.get(call.args[-1].id, []):
                    return dict(ast.literal_eval(table.value))  # type: ignore[attr-defined]
        return {}

    def _define(self, module: str, nodes: Iterable[ast.AST]) -> Definition:
        nodes, scope = list(nodes), self.module(module)
        used = uses(nodes)
        references = self._references(module, scope, used)
        calls = [self._chain(module, scope, *one, module) for one in used.calls]
        made = dict.fromkeys(target for one in calls for target in one if self.is_section(target))
        return Definition(digest(nodes), tuple(references), frozenset(used.attributes), tuple(made))

    def _references(
        self, module: str, scope: Source, used: Uses, *, strict: bool = True
    ) -> dict[Target, None]:
        found: dict[Target, None] = {}
        for imports, chain in used.chains:
            found |= dict.fromkeys(
                self._chain(module, scope, imports, chain, module, strict=strict)
            )
        for name in used.modules:
            if name in self.sources:
                found |= dict.fromkeys(self.resolve(name, ALL, module))
        return found

    def _chain(
        self,
        module: str,
        scope: Source,
        imports: Mapping[str, Imported],
        chain: tuple[str, ...],
        where: str,
        *,
        strict: bool = True,
    ) -> Iterable[Target]:
        """Return what "a.b.c" means in a scope, as far as it is of this package."""
        first, *rest = chain
        if first in imports:
            base, name = imports[first]
        elif first in scope.imports:
            base, name = scope.imports[first]
        elif first in scope.definitions:
            return self.resolve(module, first, where)
        else:
            return ()
        try:
            while f"{base}.{name}" in self.sources or not name:
                base, name = (f"{base}.{name}" if name else base), (rest.pop(0) if rest else ALL)
                if name == ALL:
                    break
            return list(self._named(base, name, where))
        except ValueError:
            if strict:
                raise
            return ()

    def _section(self, module: str, nodes: list[ast.stmt]) -> Definition:
        """Return a class of Pydantic: its head, and its members by name."""
        (made,) = nodes
        assert isinstance(made, ast.ClassDef)
        head = self._define(module, [*made.bases, *made.keywords, *made.decorator_list])
        members: dict[tuple[str, str], list[ast.AST]] = {}
        for node in made.body:
            for kind, name, counted in _member(node):
                members.setdefault((kind, name), []).append(counted)
        kept = {key: self._define(module, nodes) for key, nodes in members.items()}
        return replace(head, members=kept)


def _member(node: ast.stmt) -> Iterator[tuple[str, str, ast.AST]]:
    """Yield the kind and name of a member of a section and what of it may count."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        marks = {chain[-1] for _, chain in uses(node.decorator_list).chains}
        if not marks & set(_VALIDATORS):
            yield _READ, node.name, node
        elif any(getattr(one, "value", "") == "before" for one in _parts(node.decorator_list)):
            yield _FILLS, node.name, node
    elif isinstance(node, ast.ClassDef):
        yield _READ, node.name, node
    elif isinstance(node, ast.Assign):
        names = [one.id for one in node.targets if isinstance(one, ast.Name)]
        yield from ((_READ, name, without_words(node.value)) for name in names)
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield from _annotated(node, node.target.id)


def _annotated(node: ast.AnnAssign, name: str) -> Iterator[tuple[str, str, ast.AST]]:
    if node.value is None:
        return
    if any(getattr(one, "id", "") == "ClassVar" for one in _parts([node.annotation])):
        yield _READ, name, without_words(node.value)
    elif (value := _default(node.value)) is not None:
        yield _FIELD, name, value


def _parts(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        yield from ast.walk(node)


def _default(value: ast.expr) -> ast.expr | None:
    """Return the default of a field, out of `Field(default, description=...)` too."""
    if not (isinstance(value, ast.Call) and getattr(value.func, "id", "") == "Field"):
        return value
    named = {one.arg: one.value for one in value.keywords}
    return value.args[0] if value.args else named.get("default", named.get("default_factory"))


class _Walk:
    """One walk: what was reached, what waits, and which attributes the reached code reads."""

    def __init__(self, library: Library, without: frozenset[str]) -> None:
        self.library, self.without = library, without
        self.waiting: list[Target] = []
        self.seen: set[Target] = set()
        self.attributes: set[str] = set()
        self.found: dict[Target, str] = {}
        self.sections: dict[Target, Definition] = {}
        self.made: set[Target] = set()  # sections that the reached code makes itself

    def add(self, targets: Iterable[Target]) -> None:
        """Let these be visited."""
        self.waiting += targets

    def run(self) -> dict[Target, str]:
        """Visit all that is reached."""
        while True:
            while self.waiting:
                self._visit(self.waiting.pop())
            before = len(self.found)
            for target in list(self.sections):
                self._members(target)
            if len(self.found) == before:
                return self.found

    def _visit(self, target: Target) -> None:
        if target in self.seen or self._left_out(target):
            return
        self.seen.add(target)
        module, name = target
        parts = self.library.module(module)
        self._around(module)
        if name == ALL:
            for one in parts.definitions:
                self.add(self.library.resolve(module, one, module))
            return
        made = self.library.definition(target)
        self._take(target, made)
        if self.library.is_section(target):
            self.sections[target] = made

    def _around(self, module: str) -> None:
        """Count the statements of a module and of the packages around it."""
        words = module.split(".")
        for count in range(1, len(words) + 1):
            name = ".".join(words[:count])
            if (name, "") not in self.seen and name in self.library.sources:
                self.seen.add((name, ""))
                if self.library.module(name).effects:
                    self._take((name, ""), self.library.definition((name, "")))

    def _members(self, target: Target) -> None:
        """Count the members of a section that what was reached so far reads."""
        module, name = target
        section, made = self.sections[target], target in self.made
        if made:
            self.made |= {one for one in section.references if self.library.is_section(one)}
        counts = {_READ: True, _FIELD: made or module in DEFAULTS, _FILLS: made}
        for (kind, member), definition in section.members.items():
            place = (module, f"{name}.{member}")
            read = kind == _FILLS or member in self.attributes or member[:2] == member[-2:] == "__"
            if counts[kind] and read and place not in self.found and not self._left_out(place):
                self._take(place, definition)

    def _take(self, target: Target, made: Definition) -> None:
        self.found[target] = made.digest
        self.attributes |= made.attributes
        self.made |= set(made.made)
        self.add(made.references)

    def _left_out(self, target: Target) -> bool:
        module, name = target
        words = module.split(".")
        around = {".".join(words[:count]) for count in range(1, len(words) + 1)}
        return bool(self.without & {*around, f"{module}:{name}"})


def read_sources(folder: Path, read: Callable[[Path], bytes]) -> dict[str, tuple[bool, bytes]]:
    """Read the sources of the package: module -> whether it is a package, and its text."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        words = path.relative_to(folder).with_suffix("").parts
        package = words[-1] == "__init__"
        name = ".".join((PACKAGE, *(words[:-1] if package else words)))
        found[name] = (package, read(path))
    return found
