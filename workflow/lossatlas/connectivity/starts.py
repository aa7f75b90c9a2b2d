"""Random starts of bends, as the authors' twin layers draw them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossatlas.models.functional import Functional, flatten, unflatten

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)  # noqa: SLF001


def random_vector(functional: Functional, line: Tensor, random: torch.Generator) -> Tensor:
    """Return a bend (P,) that has nothing to do with the ends.

    Convolutions and linear layers, weights and biases: U(-1, 1) / sqrt(fan-in). Norms: weights
    U(0, 1), biases 0 (Yang et al., 2021, code). Other parameters of two axes or more are drawn
    like weights; what is left, and what the module does not train, stays on the line.

    Args:
        functional: The network.
        line: The point (P,) on the straight line, for what is not drawn.
        random: Where the numbers come from; they are drawn on the CPU.
    """
    values = {name: p.clone() for name, p in unflatten(line, functional.shapes).items()}
    for prefix, module in functional.module.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if name in values and parameter.requires_grad:
                drawn = _draw(module, name.rpartition(".")[2], parameter, random)
                if drawn is not None:
                    values[name].copy_(drawn)
    return flatten(values)


def _draw(
    module: nn.Module, name: str, parameter: nn.Parameter, random: torch.Generator
) -> Tensor | None:
    if isinstance(module, _NORMS):
        shape = parameter.shape
        return torch.zeros(shape) if name == "bias" else torch.rand(shape, generator=random)
    weight = getattr(module, "weight", None)
    like = weight if name == "bias" and isinstance(weight, Tensor) else parameter
    if like.dim() < 2:
        return None
    bound = like[0].numel() ** -0.5
    return torch.empty(parameter.shape).uniform_(-bound, bound, generator=random)
