"""Networks whose layers go the fastest of several ways, against those that go torch's."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import LAST, both_ways, close, normal, norms
from torch import Tensor, nn

from lossatlas.models import batch_norm, direct, fused, pooled, strided, winograd
from lossatlas.models.folded import evaluator
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.models.quick import activated, quicken
from lossatlas.models.resnet18 import ResNet18


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the kernels on any processor: elsewhere they are slow, not wrong."""
    for module in (direct, batch_norm, pooled, winograd):
        monkeypatch.setattr(module, "usable", lambda: True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return which ways were taken, in turn."""
    seen: list[str] = []

    def counted(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*given: object, **named: object) -> Tensor:
            seen.append(name)
            return function(*given, **named)

        return call

    for module, name in (
        (direct, "convolve"),
        (direct, "correlate"),
        (batch_norm, "normalise"),
        (strided, "convolve"),
    ):
        own = f"{module.__name__.rsplit('.', 1)[1]}.{name}"
        monkeypatch.setattr(module, name, counted(own, getattr(module, name)))
    return seen


def _network(width: int = 8) -> tuple[ResNet18, Functional, Tensor]:
    torch.manual_seed(0)
    network = ResNet18(10, 3, width)
    return network, Functional(network), normal(9, 3, 32, 32).contiguous(memory_format=LAST)


def test_a_network_trains_the_same(calls: list[str]) -> None:
    network, functional, images = _network()
    params, buffers = state_of(network)
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    ours = functional(leaves, buffers, images, train=True)
    assert calls.count("direct.convolve") == 8  # stem, first stage, three of the second
    assert calls.count("batch_norm.normalise") == 10
    assert calls.count("strided.convolve") == 6
    found = torch.autograd.grad(ours.square().sum(), list(leaves.values()))
    exact = network.double()
    logits = exact(images.double())
    expected = torch.autograd.grad(logits.square().sum(), list(exact.parameters()))
    assert len([call for call in calls if call != "direct.correlate"]) == 24, "the user's stays"
    close(ours, logits, 1e-4)
    for one, right in zip(found, expected, strict=True):
        close(one, right, 1e-3)
    for one, right in zip(buffers.values(), exact.buffers(), strict=True):
        torch.testing.assert_close(one.double(), right.double(), rtol=1e-4, atol=1e-5)


def test_the_same_run_gives_the_same_bits() -> None:
    network, functional, images = _network()
    runs = []
    for _ in range(2):
        params, buffers = state_of(network)
        leaves = {name: p.requires_grad_() for name, p in params.items()}
        y = functional(leaves, buffers, images, train=True)
        runs.append([y, *torch.autograd.grad(y.sum(), list(leaves.values())), *buffers.values()])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_second_derivatives_are_those_of_torch() -> None:
    norm, exact = norms(8)
    conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    halve = nn.Conv2d(8, 8, 3, stride=2, padding=1)
    net = nn.Sequential(conv, norm, halve)
    wide = copy.deepcopy(nn.Sequential(conv, exact, halve)).double()
    quicken(net)

    def second(network: nn.Sequential, dtype: torch.dtype) -> list[Tensor]:
        x = normal(4, 8, 16, 16).to(dtype).contiguous(memory_format=LAST).requires_grad_()
        y = network[2](activated(network[1], network[0](x))) ** 2
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return list(torch.autograd.grad(first.square().sum(), list(network.parameters())[:-1]))

    found, expected = second(net, torch.float32), second(wide, torch.float64)
    for one, right in zip(found, expected, strict=True):
        close(one, right, 1e-3)


@pytest.mark.parametrize("width", [8, 16])
def test_evaluation_folds_relu_and_sums_into_it(width: int, calls: list[str]) -> None:
    network, functional, images = _network(width)
    network(normal(64, 3, 32, 32))
    network.eval()
    with torch.no_grad():
        expected = network(images)
        found = evaluator(functional, *state_of(network))(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    known = {8: 8, 16: 5}[width]  # 32 channels are torch's
    assert calls.count("direct.correlate") == 3 * known  # the first images twice, to compare


def test_evaluation_of_a_network_with_sums_of_all_kinds() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = x.repeat(1, 2, 1, 1)
            y = F.relu(x + self.a(x))  # the convolution comes second
            z = self.b(y)
            z = self.act(z) + torch.relu(z)  # used twice
            w = torch.add(self.a(z), 1.0)  # a is called twice, and 1 is no image
            return F.relu(w + w).mean((2, 3))

    torch.manual_seed(0)
    net = Net()
    images = normal(6, 4, 16, 16)
    with torch.no_grad():
        found = evaluator(Functional(net), *state_of(net))(images)
        torch.testing.assert_close(found, net(images), rtol=1e-4, atol=1e-5)


def test_a_fused_convolution_that_does_not_fit() -> None:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    x, rest = normal(2, 8, 5, 5), normal(3, 8, 5, 5)[:2]
    with torch.no_grad():
        found = fused.forward(conv, x, rest, relu=True)
        torch.testing.assert_close(found, F.relu(conv(x) + rest))


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv2d(8, 8, 3, padding=1), (2, 8, 16, 15)),
        (nn.Conv2d(8, 8, 3, padding=1), (2, 8, 3, 16)),
        (nn.Conv2d(8, 8, 3, padding=1), (2, 8, 4, 48)),
        (nn.Conv2d(8, 12, 3, padding=1), (2, 8, 16, 16)),
        (nn.Conv2d(6, 8, 3, padding=1), (2, 6, 16, 16)),
        (nn.Conv2d(8, 40, 3, padding=1), (2, 8, 16, 16)),
        (nn.Conv2d(24, 24, 3, padding=1), (2, 24, 16, 16)),
        (nn.Conv2d(16, 16, 3, padding=1), (2, 16, 32, 32)),
        (nn.Conv2d(8, 8, 3, padding=1).double(), (2, 8, 16, 16)),
        (nn.Conv2d(8, 8, 3, padding=2), (2, 8, 16, 16)),
        (nn.Conv2d(8, 8, 3, padding=1, groups=2), (2, 8, 16, 16)),
        (nn.BatchNorm2d(8), (2, 8, 15, 15)),
        (nn.BatchNorm2d(24), (2, 24, 16, 16)),
        (nn.BatchNorm2d(8, affine=False), (2, 8, 16, 16)),
        (nn.BatchNorm2d(8, momentum=None), (2, 8, 16, 16)),
        (nn.BatchNorm2d(8, track_running_stats=False), (2, 8, 16, 16)),
        (nn.BatchNorm2d(8).eval(), (2, 8, 16, 16)),
        (nn.BatchNorm2d(8).double(), (2, 8, 16, 16)),
        (nn.Conv2d(8, 8, 3, stride=2, padding=1), (2, 8, 5, 6)),
        (nn.Conv2d(40, 8, 3, stride=2, padding=1), (2, 40, 6, 6)),
        (nn.Conv2d(8, 8, 3, stride=2), (2, 8, 6, 6)),
    ],
)
def test_what_does_not_fit_is_left_to_torch(
    conv: nn.Module, shape: tuple[int, ...], calls: list[str]
) -> None:
    quick = copy.deepcopy(conv)
    quicken(quick)
    some = next(iter(conv.parameters()), torch.zeros(1))
    x = normal(*shape).to(some.dtype).requires_grad_()
    assert torch.equal(quick(x), conv(x))
    assert calls == []


def test_what_comes_out_may_be_written_into(calls: list[str]) -> None:
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)]
    layers.append(nn.Conv2d(8, 8, 3, stride=2, padding=1))
    net = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU(inplace=True))))
    _, (ours, theirs) = both_ways(net, normal(4, 3, 16, 16).contiguous(memory_format=LAST))
    assert len([call for call in calls if call != "direct.correlate"]) == 4
    for one, right in zip(ours, theirs, strict=True):
        close(one, right.double(), 1e-4)


def test_more_channels_gain_without_gradients_only(calls: list[str]) -> None:
    conv = nn.Conv2d(16, 16, 3, padding=1)
    quicken(conv)
    x = normal(2, 16, 32, 32)
    with torch.no_grad():
        y = conv(x)
    assert calls == ["direct.convolve", "direct.correlate"]
    torch.testing.assert_close(conv(x), y, rtol=1e-4, atol=1e-5)
    assert len(calls) == 2


def test_hooks_see_what_a_norm_makes(calls: list[str]) -> None:
    norm, _ = norms(8)
    quicken(norm)
    seen: list[Tensor] = []
    x = normal(4, 8, 16, 16).contiguous(memory_format=LAST)
    handle = norm.register_forward_hook(lambda _module, _given, y: seen.append(y))
    y = activated(norm, x)
    assert len(seen) == 1
    assert float(seen[0].detach().min()) < 0, "before ReLU"
    handle.remove()
    torch.testing.assert_close(activated(norm, x), y)
    assert (len(seen), calls) == (1, ["batch_norm.normalise"] * 2)


def test_under_vmap_torch_does_it(calls: list[str]) -> None:
    network, functional, images = _network()
    params, buffers = (stack([state] * 2) for state in state_of(network))
    both = functional._vectorised(params, buffers, torch.stack([images] * 2), train=True)
    assert calls == []
    expected = functional(*state_of(network), images, train=True)
    torch.testing.assert_close(both[1], expected, rtol=1e-3, atol=1e-4)
