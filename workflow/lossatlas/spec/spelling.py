"""What YAML 1.1 reads otherwise than it looks: repeated keys, 016 (as 14), 1:30 (as 90).

Snakemake reads config files itself, and of a repeated key keeps the last; here just the spelling is
looked at. Merge keys and anchors are YAML's own means, and stay.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from lossatlas.errors import UserError

_PADDED = re.compile(r"[-+]?0[0-9_]+")
_TAG = "tag:yaml.org,2002:"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_files(files: Iterable[str | Path]) -> None:
    """Refuse config files in which something is not read as it is written.

    Args:
        files: That Snakemake has read.

    Raises:
        UserError: With the file, the line and what to write.
    """
    for file in dict.fromkeys(map(os.path.abspath, files)):
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):  # a stream that is read once
            continue
        check(text, os.path.relpath(file))


def check(text: str, where: str) -> None:
    """Refuse a text of YAML or JSON in which something is not read as it is written.

    Raises:
        UserError: With the line, what is read there, and what to write.
    """
    try:
        json.loads(text, object_pairs_hook=lambda pairs: _json(pairs, where))
    except (ValueError, RecursionError):
        pass
    else:
        return
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError):  # whoever loads it tells
        return
    for node in _nodes(root):
        line = f"{where}, line {node.start_mark.line + 1}"
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, where)
        elif isinstance(node, yaml.ScalarNode) and not node.style:  # a plain one
            _check_number(node, line)


def value(text: str, where: str) -> Any:
    """Return the value of a text, as of `--set key=value`.

    Raises:
        UserError: If it is no YAML, or not read as it is written.
    """
    try:
        if any(isinstance(one, yaml.AliasEvent) for one in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("aliases of aliases could fill the memory, and nobody needs them here")
        found = yaml.safe_load(text)
        check(text, where)
        json.dumps(found)  # no date
    except (yaml.YAMLError, TypeError, ValueError, RecursionError):
        raise UserError(f"cannot read the value '{text[:60]}'", where=where) from None
    return found


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Yield every node once: aliases of aliases are few nodes and could be billions of values."""
    seen: set[int] = set()
    waiting = [root] if root is not None else []
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _json(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if repeated := [key for key in keys if keys.count(key) > 1]:
        what = f"'{repeated[0]}' is there twice, and just the last would count"
        raise UserError(what, where=where, fix="leave one of them out")
    return dict(pairs)


def _check_keys(node: yaml.MappingNode, where: str) -> None:
    seen: dict[tuple[str, str], int] = {}  # key -> its line
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line = key.start_mark.line + 1
        if key.tag in (f"{_TAG}bool", f"{_TAG}null"):
            what = f"the key {key.value or 'null'} is no text"
            fix = f"write it in quotes: '{key.value}', or choose another"
            raise UserError(what, where=f"{where}, line {line}", fix=fix)
        if (name := (key.tag, key.value)) in seen:
            what = f"'{key.value}' is there twice, and just the last would count"
            fix = f"leave one of them out; the other is in line {seen[name]}"
            raise UserError(what, where=f"{where}, line {line}", fix=fix)
        seen[name] = line


def _check_number(node: yaml.ScalarNode, where: str) -> None:
    text = node.value
    if _PADDED.fullmatch(text):
        what = f"{text} has a zero before it, and YAML reads such numbers as octal"
        raise UserError(what, where=where, fix=f"write {_unpadded(text)}, or '{text}' for a text")
    if ":" in text and node.tag in (f"{_TAG}int", f"{_TAG}float"):
        what = f"{text} is {yaml.safe_load(text)} to YAML, which counts in sixties"
        raise UserError(what, where=where, fix=f"write the number, or '{text}' for a text")


def _unpadded(text: str) -> str:
    sign = "-" if text.startswith("-") else ""
    return sign + (text.lstrip("+-0_") or "0")
