"""The fast evaluation forward against the network as it is."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas import models
from lossatlas.models.folded import _rewritten, evaluator
from lossatlas.models.functional import Functional, state_of


def trained(network: nn.Module, images: Tensor) -> nn.Module:
    """Return the network with biases, BatchNorm and its statistics that are not the first ones."""
    for conv in (m for m in network.modules() if isinstance(m, nn.Conv2d)):
        if conv.bias is not None:
            nn.init.normal_(conv.bias)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    with torch.no_grad():
        network.train()(images)
    return network


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(12, 3, 16, 16)


def compare(network: nn.Module, images: Tensor) -> Functional:
    """Check the logits of both forms, and return the network as a function."""
    functional = Functional(trained(network, images))
    state = state_of(network)
    with torch.no_grad():
        expected = functional(*state, images, train=False)
    found = evaluator(functional, *state)(images)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    return functional


@pytest.mark.parametrize(
    ("name", "arguments", "folded"),
    [
        ("resnet18", {"width": 3}, 20),
        ("preresnet", {"width": 4}, 9),  # the other half comes before its convolution
        ("resnet_cifar", {"width": 4}, 15),
        ("vgg9", {}, 7),
        ("convnet", {}, 0),
        ("mlp", {}, 0),
        ("vit", {}, 0),
    ],
)
def test_built_in_networks_are_rewritten(
    name: str, arguments: dict[str, int], folded: int, images: Tensor
) -> None:
    shape = {"num_classes": 5, "in_channels": 3, "image_size": 16}
    functional = compare(models.build(name, arguments, **shape), images)
    rewritten = _rewritten(functional)
    assert rewritten is not None
    assert rewritten.right
    assert len(rewritten.folded) == folded


class Shared(nn.Module):
    """Two convolutions before one BatchNorm, and one convolution before two."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4, affine=False) for _ in range(3))
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.tied = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.tied.weight = self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.relu(x) + x  # both read what the stem gave
        y = self.norms[1](self.conv(self.norms[0](self.conv(y)).relu()))
        return self.norms[2](self.tied(y)).mean((2, 3))


class Branches(Shared):
    """Looks at values, which no graph can."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.mean() > 100 else -x)


class Counts(Shared):
    """Gives something else every time that Python runs through it."""

    calls = itertools.count(1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * next(self.calls)


class Views(nn.Module):
    """Asks for the usual memory layout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).view(len(x.shape) * 3, -1)


@pytest.mark.parametrize("network", [Shared, Branches, Views])
def test_whatever_a_module_does_the_logits_are_its_own(
    network: type[nn.Module], images: Tensor
) -> None:
    compare(network(), images)


def test_what_several_read_is_not_overwritten(images: Tensor) -> None:
    rewritten = _rewritten(compare(Shared(), images))
    assert rewritten is not None
    assert rewritten.right


def test_relu_overwrites_what_nothing_else_reads(images: Tensor) -> None:
    shape = {"num_classes": 10, "in_channels": 3, "image_size": 16}
    functional = compare(models.build("resnet18", {"width": 4}, **shape), images)
    rewritten = _rewritten(functional)
    assert rewritten is not None
    targets = [node.target for node in rewritten.module.graph.nodes]
    assert targets.count(torch.relu_) == 17
    assert F.relu not in targets


def test_a_graph_that_gives_something_else_is_not_used(images: Tensor) -> None:
    network = trained(Counts(), images)
    functional = Functional(network)
    forward = evaluator(functional, *state_of(network))
    first, second = forward(images), forward(images)
    assert not torch.allclose(first, second)
    rewritten = _rewritten(functional)
    assert rewritten is not None
    assert rewritten.right is False


def test_hooks_of_the_module_run(images: Tensor) -> None:
    network = trained(Shared(), images)
    network.conv.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    compare(network, images)


def test_modes_do_not_mix(images: Tensor) -> None:
    shape = {"num_classes": 5, "in_channels": 3, "image_size": 16}
    network = trained(models.build("vgg16_bn", {"width": 8}, **shape), images)
    functional, state = Functional(network), state_of(network)
    forward = evaluator(functional, *state)
    before = forward(images)
    for _ in range(2):
        noisy = [functional(*state_of(network), images, train=True) for _ in range(2)]
        assert not torch.equal(*noisy)  # dropout is on
        torch.testing.assert_close(forward(images), before, rtol=0, atol=0)


def test_weights_that_are_not_finite(images: Tensor) -> None:
    network = trained(Shared(), images)
    functional, (params, buffers) = Functional(network), state_of(network)
    broken = {name: p * float("nan") for name, p in params.items()}
    assert evaluator(functional, broken, buffers)(images).isnan().all()
    rewritten = _rewritten(functional)
    assert rewritten is not None
    assert rewritten.right is None
    assert evaluator(functional, params, buffers)(images).isfinite().all()
    assert rewritten.right
