"""Initial weights as the papers' codes draw them."""

from __future__ import annotations

from torch import nn


def draw(module: nn.Module, linear_std: float) -> None:
    """Draw convolutions from He's normal distribution (fan-in), linear layers on request.

    As Chen et al. (2022) do.

    Args:
        module: Changed in place. BatchNorm and parameters of its own are left as they are.
        linear_std: Standard deviation of the weights of every linear layer (the paper: 0.001,
            whatever the layer's size, which is why its deep fully connected networks cannot
            start); 0: PyTorch's own initialisation. Biases of what is drawn are 0.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
        elif isinstance(part, nn.Linear) and linear_std:
            nn.init.normal_(part.weight, std=linear_std)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)


def draw_by_outputs(module: nn.Module) -> None:
    """Draw convolutions from He's normal distribution (fan-out), with biases 0, in place.

    As Benton et al. (2021) do for the modes that they connect.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
