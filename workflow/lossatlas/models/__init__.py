"""Networks: name or the user's own "package.module:object" -> builder. Imports torch lazily."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lossatlas import plugins
from lossatlas.errors import UserError, told
from lossatlas.spec.catalogue import NETWORKS

if TYPE_CHECKING:
    from torch import nn


def target_of(builder: str, where: str = "model") -> str:
    """Return "package.module:object" for the name of a network, or the user's own path as it is.

    Raises:
        UserError: If there is no network of that name, or more than one.
    """
    own = plugins.target_of(builder, "lossatlas.models", NETWORKS, where)
    return own or NETWORKS[builder].target


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

    make = plugins.load(target_of(builder), "model")
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
