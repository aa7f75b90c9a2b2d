"""Convolutions of few channels against torch's own, in float64, and networks that use them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossatlas.models.folded import evaluator
from lossatlas.models.functional import Functional, state_of
from lossatlas.models.resnet18 import ResNet18
from lossatlas.models.slabs import FEW, MANY, can_be, convolve, forward

EVEN, ODD = [(8, 8), (6, 4), (2, 2), (2, 6)], [(1, 1), (1, 5), (3, 1)]


@pytest.mark.parametrize(
    ("stride", "size"),
    [*((s, size) for s in (1, 2) for size in EVEN), *((1, size) for size in ODD)],
)
@pytest.mark.parametrize("channels", [(1, 1), (3, 5), (16, 2)])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution(
    size: tuple[int, int], channels: tuple[int, int], kernel: int, stride: int, bias: bool
) -> None:
    torch.manual_seed(0)
    images = torch.randn(9, channels[0], *size, dtype=torch.float64)
    weight = torch.randn(channels[1], channels[0], kernel, kernel, dtype=torch.float64)
    shift = torch.randn(channels[1], dtype=torch.float64) if bias else None
    expected = F.conv2d(images, weight, shift, stride, kernel // 2)
    found = convolve(images, weight, shift, stride)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    again = convolve(found, weight[:, :1].expand(-1, channels[1], -1, -1), None, 1)
    whole = F.conv2d(expected, weight[:, :1].expand(-1, channels[1], -1, -1), padding=kernel // 2)
    torch.testing.assert_close(again, whole, rtol=1e-12, atol=1e-11)  # from its own layout


@pytest.mark.parametrize("size", [7, 8, 12])
@pytest.mark.parametrize("width", [2, 8, 32])
@pytest.mark.parametrize("count", [3, 40])
def test_a_network(size: int, width: int, count: int) -> None:
    torch.manual_seed(0)
    network = ResNet18(10, 1, width)
    network(torch.randn(64, 1, size, size))
    network.eval()
    images = torch.randn(count, 1, size, size)
    quick = evaluator(Functional(network), *state_of(network))
    for _ in range(2):  # the first call compares
        torch.testing.assert_close(quick(images), network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("conv", "can"),
    [
        (nn.Conv2d(2, 4, 3, padding=1), True),
        (nn.Conv2d(2, 4, 3, padding=1, stride=2), True),
        (nn.Conv2d(2, 4, 1, stride=2), True),
        (nn.Conv2d(2, FEW + 1, 1), False),
        (nn.Conv2d(2, 4, 3), False),
        (nn.Conv2d(2, 4, 5, padding=1), False),
        (nn.Conv2d(2, 4, 3, padding="same"), False),
        (nn.Conv2d(2, 4, 3, padding=1, stride=3), False),
        (nn.Conv2d(2, 4, 3, padding=1, dilation=2), False),
        (nn.Conv2d(2, 4, 3, padding=1, groups=2), False),
        (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), False),
        (nn.Linear(2, 4), False),
    ],
)
def test_which_convolutions_it_does(conv: nn.Module, can: bool) -> None:
    assert can_be(conv) == can
    if can:
        assert isinstance(conv, nn.Conv2d)
        for images in (
            torch.randn(MANY, 2, 6, 6),
            torch.randn(MANY, 2, 5, 6),
            torch.randn(1, 2, 6, 6),
        ):
            torch.testing.assert_close(forward(conv, images), conv(images), rtol=1e-5, atol=1e-5)
