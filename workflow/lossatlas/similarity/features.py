"""Features of a replica: its logits, its softmax, or what any named module inside returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.data.tensors import Inputs
from lossatlas.errors import UserError, nearest
from lossatlas.tasks import IGNORED
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
    networks: Networks,
    index: int,
    images: Inputs,
    layers: Sequence[str],
    targets: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the features of one replica in evaluation mode; each image passes through once.

    Args:
        networks: The replicas.
        index: Which one.
        images: Images (N, C, H, W), or other inputs (N, ...).
        layers: 'output' (logits), 'softmax', or names of modules. A module that runs several times
            in one pass counts with its last output.
        targets: (N, L) of sequences: where they do not count, outputs are 0, so that more padding
            changes nothing.

    Returns:
        Layer -> (N, D): convolutional features are flattened over channels and places.

    Raises:
        UserError: If there is no such module, or it does not give one tensor per image.
    """
    parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    hidden = [layer for layer in parts if layer not in OUTPUTS]
    with recording(networks.functional.module, hidden) as kept:
        forward, first = evaluator(networks.functional, *networks.one(index)), 0
        for chunk in images.split(chunk_of(images)):
            kept.clear()
            logits = forward(chunk)
            found = {"output": logits, "softmax": logits.softmax(dim=-1)}
            if targets is not None and targets.dim() == 2 and logits.dim() == 3:
                counts = (targets[first : first + len(chunk)] != IGNORED)[..., None]
                found = {name: rows * counts for name, rows in found.items()}
            found, first = {**kept, **found}, first + len(chunk)
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
