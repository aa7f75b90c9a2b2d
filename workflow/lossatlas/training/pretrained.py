"""Networks that start from weights that something else has trained, as fine-tuning does."""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lossatlas.errors import UserError
from lossatlas.models.functional import Functional
from lossatlas.training.foreign import checked_content, state_in, unwrapped


def starting_from(
    build: Callable[[], nn.Module], file: str, sha256: str
) -> Callable[[], nn.Module]:
    """Return a builder whose networks have the weights of a file.

    What has another shape there, such as the head for other classes, or is not there, stays as the
    network draws it: this is told in the log. More than half of the parameters must be there.

    Args:
        build: Makes the network.
        file: A state dict.
        sha256: Of the file's content, when the job was planned.

    Raises:
        UserError: If the file is gone, has changed, holds no weights, or those of another network.
    """
    network = build()
    functional = Functional(network)
    state = unwrapped(functional, state_in(checked_content(file, sha256), file), file)
    held = network.state_dict()
    taken = {name: state[name] for name in held if _fits(state.get(name), held[name])}
    drawn = [name for name, _ in network.named_parameters() if name not in taken]
    _check(network, drawn, file)
    print(json.dumps({"starts_from": sha256, "drawn": drawn}), flush=True)

    def started() -> nn.Module:
        made = build()
        with torch.no_grad():
            for name, tensor in made.state_dict().items():
                if name in taken:
                    tensor.copy_(taken[name])
        return made

    return started


def _fits(given: Tensor | None, own: Tensor) -> bool:
    return (
        given is not None
        and given.shape == own.shape
        and given.is_floating_point() == own.is_floating_point()
    )


def _check(network: nn.Module, drawn: list[str], file: str) -> None:
    """Refuse weights of another network."""
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    if 2 * sum(sizes[name] for name in drawn) < sum(sizes.values()):
        return
    what = f"has no weights of this network's shape for '{drawn[0]}'"
    if len(drawn) > 1:
        what += f" and {len(drawn) - 1} more of {len(sizes)} parameters"
    raise UserError(what, where=file, fix="give weights of the network that the config builds")
