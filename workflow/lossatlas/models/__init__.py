"""Networks: name or the user's own "package.module:object" -> builder. Imports torch lazily."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lossatlas.errors import UserError, nearest, told
from lossatlas.modules import check_not_hidden
from lossatlas.spec.catalogue import NETWORKS

if TYPE_CHECKING:
    from torch import nn


def target_of(builder: str) -> str:
    """Return "package.module:object" for a built-in name, or the user's own path as it is."""
    return NETWORKS[builder].target if builder in NETWORKS else builder


def load_object(target: str, where: str = "model") -> Any:
    """Import "package.module:object".

    Raises:
        UserError: If the module does not import, is hidden by another, or has no such object.
    """
    module_name, _, name = target.partition(":")
    if not name:
        fix = f"{nearest(target, NETWORKS)}, or 'package.module:object'"
        raise UserError(f"unknown model '{target}'", where=where, fix=fix)
    check_not_hidden(module_name, where)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may fail in any way while it is imported
        what = f"'{module_name}' does not import: {told(error)}"
        raise UserError(what, where=where, fix="mend it, or correct the path") from error
    if not hasattr(module, name):
        names = [key for key in vars(module) if not key.startswith("_")]
        what = f"'{module_name}' has no '{name}'"
        raise UserError(what, where=where, fix=nearest(name, names))
    return getattr(module, name)


def build(
    builder: str,
    arguments: Mapping[str, Any],
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
) -> nn.Module:
    """Build a network.

    Args:
        builder: A built-in name or "package.module:object". The object is called with
            `num_classes`, `in_channels`, `image_size` (each only if it takes it) and `arguments`.
            Lazy layers get their shapes from an image of zeros.
        arguments: The builder's own arguments.
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image.

    Raises:
        UserError: If the builder refuses its arguments, or does not return a module.
    """
    import inspect

    from torch import nn
    from torch.nn.parameter import is_lazy

    make = load_object(target_of(builder))
    if not callable(make):
        raise UserError(f"is a {type(make).__name__}, not a builder", where=builder)
    given = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    parameters = inspect.signature(make).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        given = {key: value for key, value in given.items() if key in parameters}
    try:
        network = make(**given, **arguments)
    except Exception as error:  # the user's builder may fail in any way
        raise UserError(f"refuses its arguments: {told(error)}", where=builder) from error
    if not isinstance(network, nn.Module):
        what = f"makes a {type(network).__name__}, not a torch.nn.Module"
        raise UserError(what, where=builder)
    if any(map(is_lazy, network.parameters())):
        _give_shapes(network, in_channels, image_size, builder)
    return network


def _give_shapes(network: nn.Module, channels: int, size: int, builder: str) -> None:
    """Let lazy layers see an image, from which they learn their shapes."""
    import torch

    try:
        with torch.no_grad():
            network.eval()(torch.zeros(2, channels, size, size))
    except Exception as error:
        raise UserError(f"forward fails: {told(error)}", where=builder) from error
    network.train()
