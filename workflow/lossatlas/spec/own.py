"""The user's own networks, as far as reading their files can tell: nothing of theirs runs here."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from lossatlas import modules, plugins
from lossatlas.errors import UserError, nearest

# What builders are given if they take it.
SHAPE = ("num_classes", "in_channels", "image_size", "input_shape", "vocabulary")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class _Signature:
    """What a builder takes by name, and what of that it needs."""

    takes: tuple[str, ...]
    needs: tuple[str, ...]
    anything: bool  # **kwargs


def check_object(target: str, where: str) -> None:
    """Refuse an object that is no plug-in, or whose file cannot define it.

    Args:
        target: "package.module:object".
        where: The key, for messages.

    Raises:
        UserError: If it is not there.
    """
    plugins.check(target, where)
    module, _, name = target.partition(":")
    file = None if plugins.off() else modules.source(module)
    if file is None:
        return
    tree = modules.parsed(file, where)
    made = [n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    if not _names(tree) & {name, "*", "__getattr__", "globals"}:
        raise UserError(f"{file.name} has no '{name}'", where=where, fix=nearest(name, made))


def check_arguments(target: str, given: Iterable[str], where: str) -> None:
    """Refuse arguments that a builder does not take, and say which it lacks.

    What reading its file cannot tell is left to the job that builds the network.

    Args:
        target: "package.module:object", which `check_object` let pass.
        given: Names of its arguments.
        where: The key, for messages.

    Raises:
        UserError: If there is one too many, or one is missing.
    """
    module, _, name = target.partition(":")
    file = None if plugins.off() else modules.source(module)
    signature = None if file is None else _signature(modules.parsed(file, where), name)
    if signature is None:
        return
    names = set(given)
    own = [key for key in signature.takes if key not in SHAPE]
    for key in sorted(names):
        if key in SHAPE:
            raise UserError(f"'{key}' is given by the data", where=where, fix="leave it out")
        if key not in own and not signature.anything:
            raise UserError(f"'{name}' has no argument '{key}'", where=where, fix=nearest(key, own))
    for key in signature.needs:
        if key not in names and key not in SHAPE:
            fix = f"add '{key}' to the model, or an axis 'model.{key}'"
            raise UserError(f"'{name}' needs an argument '{key}'", where=where, fix=fix)


def arguments(target: str, where: str) -> tuple[str, ...]:
    """Return the arguments that a builder takes; none where that is not plain to see."""
    module, _, name = target.partition(":")
    file = None if plugins.off() else modules.source(module)
    signature = None if file is None else _signature(modules.parsed(file, where), name)
    return () if signature is None else signature.takes


def _names(tree: ast.Module) -> set[str]:
    """Return all names that stand anywhere in a file."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
    return names


def _signature(tree: ast.Module, name: str) -> _Signature | None:
    """Return what a builder takes; None where that is not plain to see."""
    bound = [n for n in ast.walk(tree) if _binds(n, name)]
    if len(bound) != 1 or bound[0] not in tree.body:
        return None
    made, bare = bound[0], 0
    if isinstance(made, ast.ClassDef) and not (made.decorator_list or made.keywords):
        inits = [n for n in made.body if isinstance(n, _Function) and n.name == "__init__"]
        if len(inits) != 1 or any(
            isinstance(n, _Function) and n.name == "__new__" for n in made.body
        ):
            return None
        made, bare = inits[0], 1  # self
    if not isinstance(made, ast.FunctionDef) or made.decorator_list or made.args.posonlyargs:
        return None
    plain, named = made.args.args[bare:], made.args.kwonlyargs
    needs = plain[: len(plain) - len(made.args.defaults)]
    needs += [a for a, d in zip(named, made.args.kw_defaults, strict=True) if d is None]
    takes = tuple(a.arg for a in [*plain, *named])
    return _Signature(takes, tuple(a.arg for a in needs), made.args.kwarg is not None)


def _binds(node: ast.AST, name: str) -> bool:
    """Say whether a node gives this name to something."""
    if isinstance(node, ast.Name):
        return node.id == name and isinstance(node.ctx, ast.Store)
    if isinstance(node, ast.alias):
        return (node.asname or node.name) in (name, "*")
    return isinstance(node, _Function | ast.ClassDef) and node.name == name
