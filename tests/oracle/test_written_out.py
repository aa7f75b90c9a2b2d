"""Layers written out for second derivatives, against torch's own and dense Hessians, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossatlas.curvature import written_out
from lossatlas.curvature.operator import hessian_of
from lossatlas.curvature.written_out import WrittenOut


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"padding": 1},
        {"padding": (2, 2), "stride": (2, 2)},
        {"stride": 3, "padding": 1},
        {"padding": (1, 0)},
        {"padding": "same"},
        {"dilation": 2, "padding": 2},
        {"stride": (1, 2)},
    ],
)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (3, 1)])
def test_a_convolution(how: dict[str, Any], bias: bool, kernel: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, *kernel, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(3, dtype=torch.float64, requires_grad=True) if bias else None
    expected = F.conv2d(images, weight, shift, **how)
    with WrittenOut():
        found = F.conv2d(images, weight, shift, **how)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    leaves = [one for one in (images, weight, shift) if one is not None]
    for one, other in zip(
        torch.autograd.grad(found.sin().sum(), leaves),
        torch.autograd.grad(expected.sin().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_grouped_convolutions_and_errors_stay() -> None:
    images, weight = torch.randn(2, 4, 5, 5), torch.randn(4, 2, 3, 3)
    with WrittenOut():
        assert torch.equal(
            F.conv2d(images, weight, groups=2), nn.functional.conv2d(images, weight, groups=2)
        )
        with pytest.raises(RuntimeError, match="channels"):
            F.conv2d(images, weight)
        with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
            F.conv2d(torch.randn(2, 2, 2, 2), weight)


@pytest.mark.parametrize("entries", [0, 10**9])
def test_products_are_those_of_the_dense_hessian(
    monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    monkeypatch.setattr(written_out, "DENSE", entries)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.Conv2d(2, 2, 3, stride=2, padding=1, bias=False),
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).double()
    images, labels = torch.randn(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % 3
    net(images)
    net.eval()
    names, shapes = zip(*[(n, p.shape) for n, p in net.named_parameters()], strict=True)
    flat = torch.cat([p.detach().flatten() for p in net.parameters()])

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        named = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(net, named, (images,)), labels)

    dense = torch.autograd.functional.hessian(loss, flat)
    operator = hessian_of(net, images, labels)
    found = torch.stack([operator(unit) for unit in torch.eye(len(flat), dtype=torch.float64)])
    torch.testing.assert_close(found, dense, rtol=1e-9, atol=1e-11)
