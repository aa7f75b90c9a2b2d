"""What tests of the kernels and of the layers that take them share."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lossatlas.models.quick import quicken

LAST = torch.channels_last


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def close(found: Tensor | None, exact: Tensor, bound: float = 2e-6) -> None:
    """Compare with float64: to a few roundings of the largest number."""
    assert found is not None
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    apart = (found - exact).detach().abs().max()
    assert float(apart) <= bound * float(exact.detach().abs().max())


def norms(channels: int) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    norm = nn.BatchNorm2d(channels, momentum=0.3)
    with torch.no_grad():
        norm.weight.copy_(normal(channels))
        norm.bias.copy_(normal(channels + 1)[:channels])
    return norm, copy.deepcopy(norm).double()


def both_ways(plain: nn.Module, x: Tensor) -> tuple[nn.Module, list[tuple[Tensor, ...]]]:
    """Return a network that goes the fastest ways, and its gradients beside those of the plain."""
    quick = copy.deepcopy(plain)
    quicken(quick)
    slopes = [
        torch.autograd.grad(one(x).square().sum(), list(one.parameters())) for one in (quick, plain)
    ]
    return quick, slopes


def guarded(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return a tensor of zeros, and the tensor around it, which is 7 before and behind."""
    size, edge = torch.Size(shape).numel(), 64
    whole = torch.full((size + 2 * edge,), 7, dtype=dtype)
    inside = whole[edge:-edge].zero_()
    return inside.view(shape), whole
