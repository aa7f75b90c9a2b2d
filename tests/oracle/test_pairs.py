"""Convolutions two places at a time against torch's own, and networks that use them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models import pairs
from lossatlas.models.folded import evaluator
from lossatlas.models.functional import Functional, state_of
from lossatlas.models.resnet18 import ResNet18


@pytest.fixture
def avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


@pytest.mark.parametrize("size", [(1, 2), (3, 4), (8, 8), (5, 6)])
@pytest.mark.parametrize("channels", [(1, 1), (3, 8), (8, 5)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution(size: tuple[int, int], channels: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    images = torch.randn(9, channels[0], *size, dtype=torch.float64)
    weight = torch.randn(channels[1], channels[0], 3, 3, dtype=torch.float64)
    shift = torch.randn(channels[1], dtype=torch.float64) if bias else None
    last = images.contiguous(memory_format=torch.channels_last)
    found = pairs.convolve(last, weight, shift)
    expected = F.conv2d(images, weight, shift, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("avx512")
@pytest.mark.parametrize("size", [8, 9, 12])
@pytest.mark.parametrize("width", [5, 8])
def test_a_network(size: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    convolve = pairs.convolve

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen.append(len(weight))
        return convolve(x, weight, bias)

    monkeypatch.setattr(pairs, "convolve", counted)
    torch.manual_seed(0)
    network = ResNet18(10, 1, width)
    network(torch.randn(64, 1, size, size))
    network.eval()
    images = torch.randn(40, 1, size, size)
    quick = evaluator(Functional(network), *state_of(network))
    torch.testing.assert_close(quick(images), network(images), rtol=1e-4, atol=1e-5)
    stem_and_stage = 5 if width == 8 and size % 2 == 0 else 0
    assert seen == [width] * 2 * stem_and_stage  # once to compare, once in earnest


def test_which_convolutions_it_does() -> None:
    convolutions = [
        nn.Conv2d(2, 8, 3, padding=1),
        nn.Conv2d(2, 5, 3, padding=1),
        nn.Conv2d(2, 4, 3, padding=1),
        nn.Conv2d(2, 9, 3, padding=1),
        nn.Conv2d(2, 8, 3, padding=1, stride=2),
        nn.Conv2d(2, 8, 3),
        nn.Conv2d(2, 8, 1),
        nn.Conv2d(2, 8, 3, padding=1, groups=2),
        nn.Conv2d(2, 8, 3, padding=1, padding_mode="reflect"),
        nn.Linear(2, 8),
    ]
    assert [pairs.can_be(conv) for conv in convolutions] == [True] * 2 + [False] * 8


@pytest.mark.parametrize(("capability", "changed"), [("AVX512", True), ("AVX2", False)])
def test_elsewhere_vectors_are_full(
    capability: str, changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1))
    pairs.quicken(network)
    assert ("forward" in vars(network[0])) == changed


def test_on_another_device_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "convolve", None)
    conv = nn.Conv2d(2, 8, 3, padding=1, device="meta")
    assert pairs.forward(conv, torch.empty(3, 2, 4, 4, device="meta")).shape == (3, 8, 4, 4)


@pytest.mark.parametrize(
    "images",
    [
        torch.randn(3, 2, 4, 5),
        torch.randn(2, 4, 4),
        torch.randn(3, 2, 4, 4),
        torch.randn(3, 2, 4, 4).double(),
    ],
)
def test_any_images_give_what_torch_gives(images: Tensor) -> None:
    conv = nn.Conv2d(2, 8, 3, padding=1).to(images.dtype)
    with torch.no_grad():
        found = pairs.forward(conv, images)
        torch.testing.assert_close(found, conv(images), rtol=1e-5, atol=1e-5)
