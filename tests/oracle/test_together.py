"""Networks run layer by layer, all at once, against torch's own layers, one by one, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models import layers
from lossatlas.models.functional import Functional, Tensors, one_of, stack, state_of
from lossatlas.models.mlp import MLP
from lossatlas.models.preresnet import PreResNet
from lossatlas.models.resnet18 import ResNet18

GROUPS = 3
UNUSED: Any = {"allow_unused": True, "materialize_grads": True}


@pytest.fixture(autouse=True)
def _float64() -> Any:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("ways", [0, 10**9], ids=["grouped", "dense"])
@pytest.mark.parametrize("first", [False, True], ids=["images first", "images last"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_a_convolution(
    monkeypatch: pytest.MonkeyPatch, ways: int, first: bool, kernel: int, stride: int, padding: int
) -> None:
    monkeypatch.setattr(layers, "DENSE", ways)
    monkeypatch.setattr(layers, "ALWAYS", ways)
    x = torch.randn(GROUPS, 2, 6, 7, 5)
    if first:
        x = x.permute(4, 2, 3, 0, 1).contiguous().permute(3, 4, 1, 2, 0)
    given = [x, torch.randn(GROUPS, 4, 2, kernel, kernel), torch.randn(GROUPS, 4)]
    ours, theirs = ([one.clone().requires_grad_() for one in given] for _ in range(2))
    found = layers.convolve(*ours, stride, padding)
    expected = torch.stack(
        [
            F.conv2d(images.permute(3, 0, 1, 2), weight, bias, stride, padding).permute(1, 2, 3, 0)
            for images, weight, bias in zip(*theirs, strict=True)
        ]
    )
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, ours, slope),
        torch.autograd.grad(expected, theirs, slope),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("first", [False, True], ids=["images first", "images last"])
@pytest.mark.parametrize("affine", [False, True])
def test_a_norm(first: bool, affine: bool) -> None:
    x = 3 + torch.randn(GROUPS, 2, 4, 3, 5)
    if first:
        x = x.permute(4, 2, 3, 0, 1).contiguous().permute(3, 4, 1, 2, 0)
    norms = [nn.BatchNorm2d(2, affine=affine, momentum=0.3, eps=0.01) for _ in range(GROUPS)]
    if affine:
        for norm in norms:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    ours = [x.clone().requires_grad_()]
    if affine:
        ours += [
            torch.stack([getattr(norm, part) for norm in norms]).detach().requires_grad_()
            for part in ("weight", "bias")
        ]
    mean, variance = torch.zeros(GROUPS, 2), torch.ones(GROUPS, 2)
    own = ours[1:] if affine else [None, None]
    found = layers.normalise(ours[0], own[0], own[1], mean, variance, 0.3, 0.01)
    other = x.clone().requires_grad_()
    expected = torch.stack(
        [
            norm(images.permute(3, 0, 1, 2)).permute(1, 2, 3, 0)
            for norm, images in zip(norms, other, strict=True)
        ]
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(mean, torch.stack([norm.running_mean for norm in norms]))
    torch.testing.assert_close(variance, torch.stack([norm.running_var for norm in norms]))
    slope = torch.randn_like(expected)
    gradients = torch.autograd.grad(found, ours, slope)
    torch.testing.assert_close(gradients[0], torch.autograd.grad(expected, other, slope)[0])
    if affine:
        for part, gradient in zip(("weight", "bias"), gradients[1:], strict=True):
            norm_of = torch.autograd.grad(
                torch.stack(
                    [
                        norm(images.permute(3, 0, 1, 2)).permute(1, 2, 3, 0)
                        for norm, images in zip(norms, x, strict=True)
                    ]
                ),
                [getattr(norm, part) for norm in norms],
                slope,
            )
            torch.testing.assert_close(gradient, torch.stack(norm_of))


class Usual(nn.Module):
    """As networks are often written: in place, with biases, pooled to one place and flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3, affine=False)
        self.conv2 = nn.Conv2d(3, 3, 5, padding=2)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(3, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv1(x)))
        y = self.conv2(x)
        y += x
        return self.fc(torch.flatten(self.pool(F.relu(y)), 1))


def both_ways(build: Callable[[], nn.Module], size: int, count: int) -> Functional:
    """Compare logits, gradients and buffers of networks together with each alone; return them."""
    states = [state_of(build()) for _ in range(GROUPS)]
    functional = Functional(build())
    params, buffers = stack([p for p, _ in states]), stack([b for _, b in states])
    images = torch.randn(GROUPS, count, 1, size, size)
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    changed = {name: b.clone() for name, b in buffers.items()}
    logits = functional.many(leaves, changed, images, train=True)
    slope = torch.randn_like(logits)
    gradients = torch.autograd.grad(logits, list(leaves.values()), slope, **UNUSED)
    for index in range(GROUPS):
        own: Tensors = {name: p[index].clone().requires_grad_() for name, p in params.items()}
        after = {name: b[index].clone() for name, b in buffers.items()}
        expected = functional(own, after, images[index], train=True)
        torch.testing.assert_close(logits[index], expected)
        one_by_one = torch.autograd.grad(expected, list(own.values()), slope[index], **UNUSED)
        for found, other in zip(gradients, one_by_one, strict=True):
            torch.testing.assert_close(found[index], other, rtol=1e-7, atol=1e-9)
        for name, b in one_of(changed, index).items():
            torch.testing.assert_close(b, after[name])
    return functional


@pytest.mark.parametrize(
    ("build", "size", "count"),
    [
        (lambda: ResNet18(10, 1, width=2), 8, 6),
        (lambda: ResNet18(10, 1, width=4), 16, 5),
        (lambda: PreResNet(10, 1, depth=8, width=4), 8, 6),
        (lambda: MLP(10, 1, 8, width=5), 8, 4),
        (Usual, 6, 3),
    ],
    ids=["resnet18", "resnet18, larger", "preresnet", "mlp", "usual"],
)
def test_a_network_of_ordinary_layers(
    build: Callable[[], nn.Module], size: int, count: int
) -> None:
    assert both_ways(build, size, count)._layered


class Odd(nn.Module):
    def __init__(self, forward: Callable[[Odd, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu, self.grouped = nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.mean, self.fc = nn.BatchNorm2d(4, momentum=None), nn.Linear(4, 3)
        self.how = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.how(self, self.conv(x)).mean(dim=(2, 3)))


def after_relu(net: Odd, x: Tensor) -> Tensor:
    return net.relu(x) + x  # x has changed


@pytest.mark.parametrize(
    "forward",
    [
        after_relu,
        lambda net, x: net.grouped(x),
        lambda net, x: net.mean(x),
        lambda net, x: torch.add(x, x, alpha=2),
        lambda net, x: F.leaky_relu(x),
        lambda net, x: x + 1,
        lambda net, x: F.pad(x, (1, 1)),
        lambda net, x: x * net.conv.bias.view(1, -1, 1, 1),
    ],
)
def test_other_networks_go_another_way(forward: Callable[[Odd, Tensor], Tensor]) -> None:
    assert not both_ways(lambda: Odd(forward), 4, 6)._layered


class Frozen(Odd):
    """Keeps its BatchNorm in evaluation mode while it is trained."""

    def __init__(self) -> None:
        super().__init__(lambda net, x: net.norm(x))

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.norm.eval()
        return self


def test_a_norm_in_evaluation_mode_stays_so() -> None:
    assert not both_ways(Frozen, 4, 6)._layered


def test_hooks_are_not_passed_by() -> None:
    seen = []

    def build() -> nn.Module:
        net = Odd(lambda net, x: net.norm(x))
        net.norm.register_forward_hook(lambda *_: seen.append(1))
        return net

    assert not both_ways(build, 4, 6)._layered
    assert seen


def test_one_value_per_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layers.normalise(torch.ones(2, 3, 1, 1, 1), None, None, None, None, 0.1, 1e-5)


def test_the_way_is_chosen_whatever_the_weights_are() -> None:
    """A training that is resumed after a replica has diverged goes on as it began."""
    torch.set_default_dtype(torch.float32)
    functional = Functional(ResNet18(10, 1, width=2))
    params, buffers = (stack([one] * 2) for one in state_of(ResNet18(10, 1, width=2)))
    params["stem.weight"][1] = float("nan")
    logits = functional.many(params, buffers, torch.randn(2, 4, 1, 8, 8), train=True)
    assert functional._layered
    assert logits[0].isfinite().all()
    assert logits[1].isnan().all()


def test_trying_changes_nothing() -> None:
    functional = Functional(ResNet18(10, 1, width=2))
    params, buffers = (stack([one] * 2) for one in state_of(ResNet18(10, 1, width=2)))
    images, found = torch.randn(2, 4, 1, 8, 8), []
    for _ in range(2):  # the first call tries
        fresh = {name: b.clone() for name, b in buffers.items()}
        state = torch.random.get_rng_state()
        found.append((functional.many(params, fresh, images, train=True), fresh))
        assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(b, found[1][1][name]) for name, b in found[0][1].items())


def test_matrices_made_without_gradients_serve_those_who_want_them() -> None:
    layers._taps.cache_clear()
    weight = torch.randn(1, 2, 2, 3, 3, requires_grad=True)
    with torch.inference_mode():
        layers.plane_matrix(weight, 4, 4, 1, 1)
    layers.plane_matrix(weight, 4, 4, 1, 1).sum().backward()
    assert weight.grad is not None
