"""Convolutions to eight channels on the CPU, without gradients, two places at a time.

A vector of AVX-512 holds 16 numbers, and libraries fill it with channels. Two neighbours of a row
have 16 channels together, and need four columns of inputs: they are one place of a convolution with
kernels of 3 x 4 and stride 2 along the row. So 12 steps replace 2 times 9.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models.layout import fast
from lossatlas.models.winograd import is_common

LANES = 16


def quicken(network: nn.Module) -> None:
    """Let the convolutions of a network go the faster of two ways, in place; weights stay.

    Measured on one CPU core with AVX-512, 8 channels: 1.2 times as fast on 32 x 32 images, 1.1 on
    16 x 16. Elsewhere vectors are full.
    """
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and can_be(module):
                module.forward = partial(forward, module)  # type: ignore[method-assign]


def can_be(conv: nn.Module) -> bool:
    """Say whether a module is a convolution that can be done so, if images are of a size."""
    if type(conv) is not nn.Conv2d or not is_common(conv):
        return False
    return LANES // 4 < conv.out_channels <= LANES // 2


def forward(conv: nn.Conv2d, input: Tensor) -> Tensor:  # noqa: A002 (as torch names it)
    """Do what a convolution does that `can_be` done so: (N, C, H, W) to (N, O, H, W)."""
    if _fits(input, conv.weight):
        return convolve(fast(input), conv.weight, conv.bias)
    return nn.Conv2d.forward(conv, input)


def _fits(x: Tensor, weight: Tensor) -> bool:
    """Say whether these are images for which pairs are faster, and of even width."""
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return plain and x.dim() == 4 and x.shape[3] % 2 == 0


@torch.no_grad()
def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return a convolution with one row of zeros around the images.

    Args:
        x: (N, C, H, W), W even, channels last.
        weight: (O, C, 3, 3).
        bias: (O,).

    Returns:
        (N, O, H, W), channels last.
    """
    images, _, height, width = x.shape
    both = torch.cat([F.pad(weight, (0, 1)), F.pad(weight, (1, 0))])
    twice = None if bias is None else bias.repeat(2)
    y = F.conv2d(x, both, twice, stride=(1, 2), padding=1)
    y = y.permute(0, 2, 3, 1).reshape(images, height, width, len(weight))
    return y.permute(0, 3, 1, 2)
