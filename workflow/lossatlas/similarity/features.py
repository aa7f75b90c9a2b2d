"""Features of a replica: its logits, its softmax, or what any named module inside returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.errors import UserError, nearest
from lossatlas.training.networks import Networks, chunk_of, evaluator

OUTPUTS = ("softmax", "output")
_WHERE = "cka: layers"


@contextmanager
def recording(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Record what named modules return inside the block; the hooks are always taken off again.

    Args:
        module: The whole network.
        names: Names of modules in it, as in `named_modules`.

    Yields:
        Name -> copy of the output of that module's last call.

    Raises:
        UserError: If there is no such module, or if one returns no tensor (on its call).
    """
    known = {name: one for name, one in module.named_modules() if name}
    for name in names:
        if name not in known:
            fix = nearest(name, [*OUTPUTS, *known])
            raise UserError(f"the network has no module '{name}'", where=_WHERE, fix=fix)
    kept: dict[str, Tensor] = {}
    handles = [known[name].register_forward_hook(partial(_keep, kept, name)) for name in names]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _keep(
    kept: dict[str, Tensor], name: str, _module: nn.Module, _inputs: Any, output: Any
) -> None:
    if not isinstance(output, Tensor):
        what = f"module '{name}' returns a {type(output).__name__}, not a tensor"
        raise UserError(what, where=_WHERE, fix="name a module inside it")
    kept[name] = output.detach().clone()  # a copy: what follows may work in place


@torch.no_grad()
def features(
    networks: Networks, index: int, images: Tensor, layers: Sequence[str]
) -> dict[str, Tensor]:
    """Return the features of one replica in evaluation mode; each image passes through once.

    Args:
        networks: The replicas.
        index: Which one.
        images: Images (N, C, H, W).
        layers: 'output' (logits), 'softmax', or names of modules. A module that runs several times
            in one pass counts with its last output.

    Returns:
        Layer -> (N, D): convolutional features are flattened over channels and places.

    Raises:
        UserError: If there is no such module, or it does not give one tensor per image.
    """
    parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    hidden = [layer for layer in parts if layer not in OUTPUTS]
    with recording(networks.functional.module, hidden) as kept:
        forward = evaluator(networks.functional, *networks.one(index))
        for chunk in images.split(chunk_of(images)):
            kept.clear()
            logits = forward(chunk)
            found = {**kept, "output": logits, "softmax": logits.softmax(dim=1)}
            for layer, collected in parts.items():
                collected.append(_rows(found, layer, len(chunk)))
    return {layer: torch.cat(collected) for layer, collected in parts.items()}


def _rows(found: dict[str, Tensor], layer: str, count: int) -> Tensor:
    """Return one row per image, or say why a module has none."""
    if layer not in found:
        raise UserError(f"module '{layer}' does not run", where=_WHERE, fix="name another module")
    output = found[layer]
    if output.ndim == 0 or len(output) != count:
        what = f"module '{layer}' returns shape {tuple(output.shape)} for {count} images"
        raise UserError(what, where=_WHERE, fix="name a module whose output has a row per image")
    return output.reshape(count, -1)
