"""Reads the declarations of built-in networks, `NETWORKS`, from their files, without torch."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lossatlas import paths
from lossatlas.errors import UserError
from lossatlas.spec.counts import Counts
from lossatlas.spec.depths import ANY, Depths

# (arguments, classes, channels, image size)
Cost = Callable[[Mapping[str, Any], int, int, int], Counts]
NAME = "NETWORKS"  # of the declarations of a file


@dataclass(frozen=True)
class Network:
    """A built-in network.

    Attributes:
        target: Its builder, by its name in the file that declares it; `built_in` makes
            "package.module:object" of it.
        arguments: Its arguments with their defaults.
        cost: Counts its parameters and multiply-adds.
        depths: In which it exists.
        choices: Argument that is a text -> what it may be.
        smallest: Pixels of the smallest image that it takes.
        channels: Of the images that it takes; 0: any.
        activations: Numbers per image that a backward pass holds, as a multiple of
            multiply-adds / sqrt(parameters); a bound.
        norms: Whether it has BatchNorm.
        inputs: What it takes of "square" images, "oblong" ones (of any shape), "rows", and "named"
            inputs, which are several.
        divisor: The argument of which `width` is a multiple; "": none.
    """

    target: str
    arguments: Mapping[str, Any]
    cost: Cost
    depths: Depths = ANY
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    smallest: int = 1
    channels: int = 0
    activations: float = 20.0
    norms: bool = False
    inputs: tuple[str, ...] = ("square",)
    divisor: str = ""


def built_in(folder: Path = paths.LIBRARY / "models") -> dict[str, Network]:
    """Return the networks that the files of a folder declare, by name.

    Raises:
        UserError: If two files declare the same name.
    """
    found: dict[str, Network] = {}
    for file in sorted(folder.glob("*.py")):
        text = file.read_text(encoding="utf-8")
        if f"\n{NAME} = " not in text:
            continue
        module = f"lossatlas.models.{file.stem}"
        for name, network in _value(ast.parse(text, str(file)), NAME, module).items():
            if name in found:
                what = f"declares a network '{name}', and so does {found[name].target}"
                raise UserError(what, where=str(file), fix="give it another name")
            found[name] = replace(network, target=f"{module}:{network.target}")
    return dict(sorted(found.items()))


def _value(tree: ast.Module, name: str, module: str) -> Any:
    """Return the value of a name, by running what of its file it needs and nothing else.

    The file as a whole would import torch, which takes longer than reading the config.
    """
    made = {bound: node for node in tree.body for bound in _binds(node)}
    needed: set[ast.stmt] = set()
    names = [name]
    while names:
        node = made.get(names.pop())
        if node is not None and node not in needed:
            needed.add(node)
            names += [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
    tree.body = [node for node in tree.body if node in needed or _is_future(node)]
    space: dict[str, Any] = {"__name__": module}
    exec(compile(tree, module, "exec"), space)  # noqa: S102 -- a file of this package
    return space[name]


def _binds(node: ast.stmt) -> Iterable[str]:
    """Return the names that a statement of a file makes."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [
        one.id
        for one in ast.walk(node)
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
    ]


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"
