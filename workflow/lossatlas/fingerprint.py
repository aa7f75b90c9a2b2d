"""Digests of the code that a job runs, so that exactly the right jobs rerun.

Snakemake does not follow imports. A fingerprint does: from its entries (a job's script, and what
the config chooses for it) it collects every definition of this package that is reached, and hashes
the syntax with docstrings and comments left out. A new helper beside them, a comment or a docstring
changes nothing; an edit to a line that runs changes the digest. How names are followed, and what
counts of the config's classes, says `reach`; what never counts, and why, `carriers`; what counts of
the user's own files, `userfiles`.

An entry is one of

* "script:train": the whole of workflow/train.py, and what it reaches;
* "lossatlas.module:name": a definition, and what it reaches;
* "package.module:object": the user's own; all files that its module imports, and what they reach;
* "without:lossatlas.module" or "without:lossatlas.module:name": what this job never runs.

Digests are kept in Snakemake's own folder beside a digest of all sources, and taken from there
while no byte of those has changed: walking takes as long as parsing the workflow. What each digest
is made of is kept in the results, to tell later which function has changed.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.files import atomic
from lossatlas.paths import LIBRARY, SCRIPTS
from lossatlas.reach import Library, Other, Target, read_sources
from lossatlas.syntax import digest as syntax_digest
from lossatlas.syntax import ours
from lossatlas.userfiles import UserFiles, user_files

Entries = tuple[str, ...]
_SHOWN = 3  # changed functions that a message names


@dataclass
class Sources:
    """All of the package's sources and of the scripts, as they were at one moment."""

    modules: Mapping[str, tuple[bool, bytes]]
    scripts: Mapping[str, bytes]

    @classmethod
    def read(cls) -> Sources:
        """Read them."""
        scripts = {path.stem: path.read_bytes() for path in sorted(SCRIPTS.glob("*.py"))}
        return cls(read_sources(LIBRARY, Path.read_bytes), scripts)

    @cached_property
    def digest(self) -> str:
        """Of every byte."""
        found = hashlib.sha256()
        for name, (_, content) in self.modules.items():
            found.update(f"{name}:{len(content)}\0".encode() + content)
        for name, content in self.scripts.items():
            found.update(f"script:{name}:{len(content)}\0".encode() + content)
        return found.hexdigest()

    @cached_property
    def library(self) -> Library:
        """The package, to walk through."""
        return Library(self.modules)


@dataclass
class _Asked:
    """Entries, taken apart, with the user's files as they are now."""

    entries: Entries
    targets: list[Target] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    own: list[UserFiles] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Iterable[str]) -> _Asked:
        """Sort entries, and read the user's files.

        Raises:
            UserError: If one of those is no Python, or declares a file that is not there.
        """
        found = cls(tuple(sorted(set(entries))))
        for entry in found.entries:
            first, _, rest = entry.partition(":")
            if first == "script":
                found.scripts.append(rest)
            elif first == "without":
                found.without.append(rest)
            elif ours(first):
                found.targets.append((first, rest))
            else:
                found.own.append(user_files(entry))
        return found

    @cached_property
    def key(self) -> str:
        """What the answer depends on besides the sources."""
        words = [[_sha(c) for c in (*o.modules.values(), *o.declared.values())] for o in self.own]
        names = [[*o.modules, *o.declared, *map(str, o.installed.items())] for o in self.own]
        return _sha(json.dumps([self.entries, words, names]).encode())

    def parts(self, sources: Sources) -> dict[str, str]:
        """Return "module:name" -> digest of everything that counts."""
        found: dict[str, str] = {}
        others = [Other(tree) for one in self.own for tree in one.trees]
        for name in self.scripts:
            if name not in sources.scripts:
                raise ValueError(f"there is no script workflow/{name}.py")
            tree = ast.parse(sources.scripts[name])
            others.append(Other(tree, strict=f"workflow/{name}.py"))
            found[f"workflow/{name}.py"] = syntax_digest([tree])
        for one in self.own:
            for name, content in one.modules.items():
                found[name] = _python(content) if name.endswith(".py") else _sha(content)
            found |= {name: _sha(content) for name, content in one.declared.items()}
            found |= {f"{name} (installed)": _sha(v.encode()) for name, v in one.installed.items()}
        reached = sources.library.reached(self.targets, others, self.without)
        found |= {f"{module}:{name or '(statements)'}": d for (module, name), d in reached.items()}
        return dict(sorted(found.items()))


def code_of(*entries: str) -> str:
    """Return 16 hex digits for the code that the entries reach.

    Raises:
        ValueError: If an entry of this package does not exist, or what it refers to does not.
        UserError: If a file of the user's is no Python, or declares one that is not there.
    """
    asked = _Asked.of(entries)
    kept = _kept()
    if asked.key not in kept:
        kept[asked.key] = _digest(asked.parts(_sources()))
        _keep(kept)
    _told[kept[asked.key]] = asked.entries
    return kept[asked.key]


def parts(entries: Iterable[str]) -> dict[str, str]:
    """Return what a digest is made of: "module:name", or a file -> 8 hex digits.

    Raises:
        ValueError: As `code_of`.
        UserError: As `code_of`.
    """
    return _short(_Asked.of(entries).parts(_sources()))


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return what differs between two digests' parts, such as "lossatlas.store:read changed"."""
    said = []
    for name in sorted({*old, *new}):
        if name not in old:
            said.append(f"{name} added")
        elif name not in new:
            said.append(f"{name} removed")
        elif old[name] != new[name]:
            said.append(f"{name} changed")
    return said


def check(entries: Iterable[str], digest: str) -> None:
    """Refuse to run other code than what a digest was made of.

    Files are read again. In a process that imported the package earlier (`remember`), what was
    imported then must be that code, too.

    Args:
        entries: Those that the digest is of.
        digest: Of `code_of`, when the job was planned.

    Raises:
        UserError: If the code is another now.
    """
    importlib.invalidate_caches()
    asked = _Asked.of(entries)
    for sources in [Sources.read()] if _imported is None else [Sources.read(), _imported]:
        if _read_kept(sources).get(asked.key) == digest:
            continue
        found = asked.parts(sources)
        if _digest(found) != digest:
            what = f"the code changed while Snakemake ran{_told_of(digest, _short(found))}"
            raise UserError(what, fix="run the same command again")


def _told_of(digest: str, found: Mapping[str, str]) -> str:
    """Return ": what differs", if it is known what the digest was made of."""
    before = parts_of(digest)
    changed = difference(before, found) if before else []
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return f": {', '.join(changed[:_SHOWN])}{more}" if changed else ""


def remember(sources: Sources) -> None:
    """Note the sources that this process imports now, for `check` in what is forked from it."""
    global _imported
    _imported = sources


def keep_parts() -> None:
    """Keep, in the results, what each digest that this process asked for is made of."""
    for digest, entries in list(_told.items()):
        path = Path(paths.code(digest))
        if not path.is_file():
            made = parts(entries)
            with contextlib.suppress(UserError), atomic(path) as temporary:  # a read-only folder
                content = json.dumps({"entries": entries, "parts": made}, indent=0)
                temporary.write_text(content, encoding="utf-8")


def parts_of(digest: str) -> dict[str, str]:
    """Return the parts of a digest as they were kept; empty if they were not."""
    return dict(_kept_parts(digest).get("parts", {}))


def entries_of(digest: str) -> Entries:
    """Return the entries of a digest as they were kept; empty if they were not."""
    return tuple(_kept_parts(digest).get("entries", ()))


def entries_asked(digest: str) -> Entries:
    """Return the entries of a digest that this process asked for; empty if it did not."""
    return _told.get(digest, ())


def _kept_parts(digest: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(paths.code(digest)).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


_told: dict[str, Entries] = {}  # digest -> entries, of this process
_imported: Sources | None = None


@cache
def _sources() -> Sources:
    return Sources.read()


@cache
def _kept() -> dict[str, str]:
    """Return the digests that were kept for these very sources."""
    return _read_kept(_sources())


def _read_kept(sources: Sources) -> dict[str, str]:
    try:
        found = json.loads(paths.CODES.read_text(encoding="utf-8"))
        return dict(found["codes"]) if found["sources"] == sources.digest else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _keep(codes: dict[str, str]) -> None:
    """Keep the digests where Snakemake keeps its own things; where it has none, do not."""
    temporary = paths.CODES.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        content = json.dumps({"sources": _sources().digest, "codes": codes})
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(paths.CODES)


def _digest(found: Mapping[str, str]) -> str:
    return _sha(json.dumps(list(found.items())).encode())[:16]


def _short(found: Mapping[str, str]) -> dict[str, str]:
    return {name: one[:8] for name, one in found.items()}


def _python(content: bytes) -> str:
    return syntax_digest([ast.parse(content)])


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
