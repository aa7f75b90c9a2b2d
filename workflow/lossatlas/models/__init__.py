"""Networks: name or the user's own "package.module:object" -> builder. Imports torch lazily."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lossatlas import plugins
from lossatlas.errors import UserError, told
from lossatlas.spec.catalogue import NETWORKS

if TYPE_CHECKING:
    from torch import nn

    from lossatlas.data.tensors import Inputs

IMAGE_SHAPE = ("num_classes", "in_channels", "image_size")  # what a builder with **kwargs is given


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
    example: Inputs | None = None,
    **shape: Any,
) -> nn.Module:
    """Build a network.

    Args:
        builder: A built-in name or "package.module:object". The object is called with `shape`
            (each only if it takes it) and `arguments`.
        arguments: The builder's own arguments.
        example: Two inputs, from which lazy layers get their shapes; default: an image of zeros.
        shape: `num_classes` (or values per example), `in_channels`, `image_size`, `input_shape`,
            `vocabulary`: see `TensorData.shape`.

    Raises:
        UserError: If the builder refuses its arguments, or does not return a module.
    """
    import inspect

    from torch import nn
    from torch.nn.parameter import is_lazy

    make = plugins.load(target_of(builder), "model")
    if not callable(make):
        raise UserError(f"is a {type(make).__name__}, not a builder", where=builder)
    given = dict(shape)
    parameters = inspect.signature(make).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    usual = IMAGE_SHAPE if anything else ()
    given = {key: value for key, value in given.items() if key in parameters or key in usual}
    try:
        network = make(**given, **arguments)
    except Exception as error:  # the user's builder may fail in any way
        raise UserError(f"refuses its arguments: {told(error)}", where=builder) from error
    if not isinstance(network, nn.Module):
        what = f"makes a {type(network).__name__}, not a torch.nn.Module"
        raise UserError(what, where=builder)
    if any(map(is_lazy, network.parameters())):
        _give_shapes(network, example, shape, builder)
    return network


def _give_shapes(
    network: nn.Module, example: Inputs | None, shape: Mapping[str, Any], builder: str
) -> None:
    """Let lazy layers see inputs, from which they learn their shapes."""
    import torch

    try:
        with torch.no_grad():
            if example is None:
                size = shape["image_size"]
                example = torch.zeros(2, shape["in_channels"], size, size)
            network.eval()
            if isinstance(example, torch.Tensor):
                network(example.cpu())
            else:
                network(**example.to("cpu").tensors)
    except Exception as error:
        raise UserError(f"forward fails: {told(error)}", where=builder) from error
    network.train()
