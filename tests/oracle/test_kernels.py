"""Compiled kernels against torch's own layers in float64, and networks that use them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.kernels import compiled
from lossatlas.models import batch_norm, direct, fused, strided
from lossatlas.models.folded import evaluator
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.models.quick import activated, quicken
from lossatlas.models.resnet18 import ResNet18

LAST = torch.channels_last


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the kernels on any processor: elsewhere they are slow, not wrong."""
    for module in (direct, batch_norm):
        monkeypatch.setattr(module, "usable", lambda: True)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


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


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _close(found: Tensor | None, exact: Tensor, bound: float = 2e-6) -> None:
    """Compare with float64: to a few roundings of the largest number."""
    assert found is not None
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    apart = (found - exact).detach().abs().max()
    assert float(apart) <= bound * float(exact.detach().abs().max())


@pytest.mark.parametrize(
    ("channels", "out", "height", "width"),
    [
        (1, 8, 2, 16),
        (2, 8, 6, 16),
        (3, 16, 5, 32),
        (4, 24, 1, 32),
        (8, 8, 32, 32),
        (16, 32, 16, 16),
        (24, 8, 4, 64),
        (8, 16, 7, 64),
    ],
)
@pytest.mark.usefixtures("threads")
def test_a_convolution_and_its_slopes(channels: int, out: int, height: int, width: int) -> None:
    x, weight, bias = (
        _normal(5, channels, height, width),
        _normal(out, channels, 3, 3),
        _normal(out),
    )
    slope = _normal(5, out, height, width)
    exact = [one.double().requires_grad_() for one in (x, weight, bias)]
    y = F.conv2d(*exact, padding=1)
    expected = torch.autograd.grad(y, exact, slope.double())
    leaves = [one.clone().requires_grad_() for one in (x, weight, bias)]
    found = direct.convolve(*leaves)
    _close(found, y)
    assert found.is_contiguous(memory_format=LAST)
    for one, right in zip(torch.autograd.grad(found, leaves, slope), expected, strict=True):
        _close(one, right, 1e-5)
    _close(direct._slope_of_taps(x, slope), expected[1], 1e-5)


@pytest.mark.usefixtures("threads")
def test_a_convolution_with_a_rest_and_relu() -> None:
    x, weight, bias, rest = (
        _normal(5, 8, 4, 16),
        _normal(8, 8, 3, 3),
        _normal(8),
        _normal(5, 8, 4, 16),
    )
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    _close(direct.correlate(x, weight), exact)
    _close(direct.correlate(x, weight, bias), exact + bias[:, None, None])
    _close(direct.correlate(x, weight, None, rest), exact + rest)
    _close(
        direct.correlate(x, weight, bias, rest, 0.0), (exact + bias[:, None, None] + rest).relu()
    )


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("correlate", (8, 12, 16, 16)),
        ("correlate", (8, 8, 3, 16)),
        ("correlate", (8, 8, 4, 48)),
        ("correlate", (8, 8, 4, 8)),
        ("correlate", (12, 8, 4, 16)),
        ("taps_slope", (12, 4, 16, 1)),
        ("taps_slope", (8, 4, 24, 1)),
    ],
)
def test_a_kernel_that_cannot_be(name: str, sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="places"):
        compiled.kernel(name, *sizes)


def _guarded(*shape: int) -> tuple[Tensor, Tensor]:
    """Return a tensor of zeros, and the tensor around it, which is 7 before and behind."""
    size, edge = torch.Size(shape).numel(), 64
    whole = torch.full((size + 2 * edge,), 7.0)
    inside = whole[edge:-edge].zero_()
    return inside.view(shape), whole


@pytest.mark.parametrize("shape", [(8, 8, 16, 16), (3, 16, 4, 32), (16, 8, 2, 16)])
def test_kernels_write_where_they_should(shape: tuple[int, ...]) -> None:
    channels, out, height, width = shape
    sizes = {
        "x": (2, height, width, channels),
        "weight": (out // 8, channels, 9, 8),
        "bias": (out,),
        "y": (2, height, width, out),
        "space": (2, channels, height + 2, width + 2),
        "sums": (out // 8, channels, 3, 8, 3, 16),
        "room": (2, out, height * width + 16),
    }
    held = {name: _guarded(*size) for name, size in sizes.items()}
    at = {name: inside.data_ptr() for name, (inside, _) in held.items()}
    run = compiled.kernel("correlate", *shape)
    run(*(at[name] for name in ("x", "weight", "bias", "y", "y", "space")), 2, 1, 0.0)
    run = compiled.kernel("taps_slope", channels, height, width, 2)
    run(*(at[name] for name in ("x", "y", "sums", "space", "room")), 1, out // 8)
    for name, (inside, whole) in held.items():
        if name != "room":  # its 16 places more are never written
            assert not inside.any(), name
        assert whole.sum() == 7 * 128 + inside.sum(), name


def test_images_in_any_layout() -> None:
    x, weight = _normal(5, 8, 4, 16), _normal(8, 8, 3, 3)
    expected = direct.correlate(x.contiguous(memory_format=LAST), weight)
    wide = torch.zeros(5, 16, 4, 16)
    wide[:, 8:] = x
    assert torch.equal(direct.correlate(wide[:, 8:], weight), expected)
    assert torch.equal(direct.correlate(x, weight.permute(0, 1, 3, 2).mT), expected)


def test_what_is_not_finite_stays_in_its_place() -> None:
    x = _normal(3, 8, 4, 16)
    x[1, 2, 1, 5] = float("nan")
    y = direct.correlate(x, _normal(8, 8, 3, 3), floor=0.0)
    wrong = torch.nonzero(y.isnan().any(dim=1))
    assert wrong[:, 0].unique().tolist() == [1]
    assert wrong[:, 1].unique().tolist() == [0, 1, 2]
    assert wrong[:, 2].unique().tolist() == [4, 5, 6]


def _norms(channels: int) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    norm = nn.BatchNorm2d(channels, momentum=0.3)
    with torch.no_grad():
        norm.weight.copy_(_normal(channels))
        norm.bias.copy_(_normal(channels + 1)[:channels])
    return norm, copy.deepcopy(norm).double()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize(("channels", "sides"), [(8, (16, 17)), (8, (32, 32)), (16, (19, 23))])
def test_batch_norm(channels: int, sides: tuple[int, int], more: bool, relu: bool) -> None:
    norm, exact = _norms(channels)
    x = (_normal(5, channels, *sides) * 3 + 50).contiguous(memory_format=LAST)
    slope, rest = _normal(6, channels, *sides)[:5], _normal(7, channels, *sides)[:5]
    assert batch_norm.fits(norm, x)
    x.requires_grad_()
    rest.requires_grad_()
    wide, wide_rest = x.detach().double().requires_grad_(), rest.detach().double().requires_grad_()
    y = exact(wide) + wide_rest if more else exact(wide)
    y = y.relu() if relu else y
    found = batch_norm.normalise(norm, x, rest if more else None, relu=relu)
    _close(found, y, 1e-5)
    inputs, others = [x, *norm.parameters()], [wide, *exact.parameters()]
    if more:
        inputs, others = [*inputs, rest], [*others, wide_rest]
    ours = torch.autograd.grad(found, inputs, slope)
    theirs = torch.autograd.grad(y, others, slope.double())
    for one, right in zip(ours, theirs, strict=True):
        _close(one, right, 2e-5)
    for (name, one), right in zip(norm.named_buffers(), exact.buffers(), strict=True):
        assert torch.allclose(one.double(), right.double(), rtol=1e-6), name


def test_batch_norm_is_exact_far_from_zero() -> None:
    norm, exact = _norms(8)
    x = (_normal(16, 8, 32, 32) + 1000).contiguous(memory_format=LAST)
    batch_norm.normalise(norm, x)
    exact(x.double())
    _close(norm.running_var, exact.running_var, 1e-6)


@pytest.mark.parametrize(("channels", "kernel"), [(8, 3), (3, 3), (8, 1), (40, 1)])
@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format])
def test_halving(channels: int, kernel: int, layout: torch.memory_format) -> None:
    x = _normal(5, channels, 6, 4).double().contiguous(memory_format=layout).requires_grad_()
    weight = _normal(7, channels, kernel, kernel).double().requires_grad_()
    bias = _normal(7).double().requires_grad_()
    assert strided.fits(x, weight)
    y = F.conv2d(x, weight, bias, stride=2, padding=kernel // 2)
    found = strided.convolve(x, weight, bias)
    assert torch.equal(found, y)
    slope = _normal(*y.shape).double()
    ours, theirs = (torch.autograd.grad(one, [x, weight, bias], slope) for one in (found, y))
    for one, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, right, rtol=1e-12, atol=1e-12)


def _network(width: int = 8) -> tuple[ResNet18, Functional, Tensor]:
    torch.manual_seed(0)
    network = ResNet18(10, 3, width)
    return network, Functional(network), _normal(9, 3, 32, 32).contiguous(memory_format=LAST)


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
    _close(ours, logits, 1e-4)
    for one, right in zip(found, expected, strict=True):
        _close(one, right, 1e-3)
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
    norm, exact = _norms(8)
    conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    halve = nn.Conv2d(8, 8, 3, stride=2, padding=1)
    net = nn.Sequential(conv, norm, halve)
    wide = copy.deepcopy(nn.Sequential(conv, exact, halve)).double()
    quicken(net)

    def second(network: nn.Sequential, dtype: torch.dtype) -> list[Tensor]:
        x = _normal(4, 8, 16, 16).to(dtype).contiguous(memory_format=LAST).requires_grad_()
        y = network[2](activated(network[1], network[0](x))) ** 2
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return list(torch.autograd.grad(first.square().sum(), list(network.parameters())[:-1]))

    found, expected = second(net, torch.float32), second(wide, torch.float64)
    for one, right in zip(found, expected, strict=True):
        _close(one, right, 1e-3)


@pytest.mark.parametrize("width", [8, 16])
def test_evaluation_folds_relu_and_sums_into_it(width: int, calls: list[str]) -> None:
    network, functional, images = _network(width)
    network(_normal(64, 3, 32, 32))
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
    images = _normal(6, 4, 16, 16)
    with torch.no_grad():
        found = evaluator(Functional(net), *state_of(net))(images)
        torch.testing.assert_close(found, net(images), rtol=1e-4, atol=1e-5)


def test_a_fused_convolution_that_does_not_fit() -> None:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    x, rest = _normal(2, 8, 5, 5), _normal(3, 8, 5, 5)[:2]
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
    x = _normal(*shape).to(some.dtype).requires_grad_()
    assert torch.equal(quick(x), conv(x))
    assert calls == []


def test_what_comes_out_may_be_written_into(calls: list[str]) -> None:
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)]
    layers.append(nn.Conv2d(8, 8, 3, stride=2, padding=1))
    net = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU(inplace=True))))
    quick = copy.deepcopy(net)
    quicken(quick)
    x = _normal(4, 3, 16, 16).contiguous(memory_format=LAST)
    ours, theirs = (
        torch.autograd.grad(one(x).square().sum(), list(one.parameters())) for one in (quick, net)
    )
    assert len([call for call in calls if call != "direct.correlate"]) == 4
    for one, right in zip(ours, theirs, strict=True):
        _close(one, right.double(), 1e-4)


def test_more_channels_gain_without_gradients_only(calls: list[str]) -> None:
    conv = nn.Conv2d(16, 16, 3, padding=1)
    quicken(conv)
    x = _normal(2, 16, 32, 32)
    with torch.no_grad():
        y = conv(x)
    assert calls == ["direct.convolve", "direct.correlate"]
    torch.testing.assert_close(conv(x), y, rtol=1e-4, atol=1e-5)
    assert len(calls) == 2


def test_hooks_see_what_a_norm_makes(calls: list[str]) -> None:
    norm, _ = _norms(8)
    quicken(norm)
    seen: list[Tensor] = []
    x = _normal(4, 8, 16, 16).contiguous(memory_format=LAST)
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


def test_when_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def usable() -> bool:
        return compiled.usable.__wrapped__()

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.delenv("LOSSATLAS_KERNELS", raising=False)
    assert usable()
    monkeypatch.setenv("LOSSATLAS_KERNELS", "off")
    assert not usable()
    monkeypatch.delenv("LOSSATLAS_KERNELS")
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "llvmlite.binding", None)
        assert not usable()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not usable()
