"""Convolutions by sums and fewer products, against torch's own in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import close, guarded, normal
from torch import Tensor, nn

from lossatlas.kernels.compiled import kernel
from lossatlas.kernels.toom import matrices
from lossatlas.models import build, winograd
from lossatlas.models.folded import evaluator
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.models.quick import quicken

PLANES = [(1, 1), (1, 2), (2, 2), (3, 3), (2, 4), (4, 4), (5, 6), (7, 8), (8, 8), (9, 3), (16, 16)]


def _tensors(shape: tuple[int, int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    draw = torch.Generator().manual_seed(sum(shape))
    sizes = [(5, 3, *shape), (4, 3, 3, 3), (4,), (5, 4, *shape)]
    return [torch.randn(size, generator=draw, dtype=torch.float64).to(dtype) for size in sizes]


def _with_gradients(
    convolve: Callable[[Tensor, Tensor, Tensor], Tensor], given: list[Tensor]
) -> list[Tensor]:
    leaves = [one.clone().requires_grad_() for one in given[:3]]
    y = convolve(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, given[3])]


def _torch(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=1)


@pytest.mark.parametrize("plane", PLANES)
def test_values_and_gradients_are_those_of_torch(plane: tuple[int, int]) -> None:
    given = _tensors(plane)
    found = _with_gradients(winograd.convolve, given)
    for ours, theirs in zip(found, _with_gradients(_torch, given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    assert found[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("plane", [(1, 1), (2, 2), (1, 4), (4, 4), (3, 5), (7, 8), (8, 8)])
def test_float32_rounds_to_a_hundred_thousandth(
    plane: tuple[int, int], compiled: bool, relu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "usable", lambda: compiled)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(16, 128, *plane, generator=draw)
    weight = torch.randn(128, 128, 3, 3, generator=draw)
    given = [x, weight, torch.randn(128, generator=draw)]
    given.append(torch.randn(16, 128, *plane, generator=draw))
    if relu:  # slopes are those where it is open, so that no place is open in one of them only
        given[3] *= _torch(*given[:3]) > 1e-3
    exact = _with_gradients(_torch, [one.double() for one in given])
    exact[0] = exact[0].relu() if relu else exact[0]
    ours = _with_gradients(partial(winograd.convolve, relu=relu), given)
    for found, right in zip(ours, exact, strict=True):
        assert found.dtype == torch.float32
        assert (found - right).abs().max() < 1e-5 * right.abs().max()


@pytest.mark.parametrize("side", range(1, 20))
def test_an_axis_is_a_convolution(side: int) -> None:
    """Back (taps w * into x) against the sum that defines it."""
    into, back, taps = matrices(side)
    x, w = torch.randn(side).double().numpy(), torch.randn(3).double().numpy()
    products = (taps @ w)[:, None] * (into @ x)
    found = (back * products).sum((1, 2))
    expected = [
        sum(w[k] * x[i + k - 1] for k in range(3) if 0 <= i + k - 1 < side) for i in range(side)
    ]
    assert abs(found - expected).max() < 1e-12


def test_fewer_products_than_places_times_taps() -> None:
    counts = {side: matrices(side)[0][..., 0].size for side in (1, 2, 4, 8)}
    assert counts == {1: 1, 2: 3, 4: 6, 8: 12}


class Net(nn.Module):
    """Two wide convolutions over 8 x 8 and 4 x 4, ReLU in place, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 128, 3, padding=1)
        self.second = nn.Conv2d(128, 128, 3, padding=1)
        self.third = nn.Conv2d(128, 128, 3, padding=1, bias=False)
        self.head = nn.Linear(128, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 2, 8, 8) to (N, 3)."""
        x = F.relu_(self.second(F.relu(self.first(x))))
        return self.head(F.relu(self.third(F.max_pool2d(x, 2))).mean((2, 3)))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    seen: list[tuple[int, ...]] = []
    convolve = winograd.convolve

    def counted(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False
    ) -> Tensor:
        seen.append(tuple(x.shape))
        return convolve(x, weight, bias, relu=relu)

    monkeypatch.setattr(winograd, "convolve", counted)
    return seen


def _net() -> tuple[nn.Module, Functional, dict[str, Tensor], dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    net = Net().double()
    params, buffers = state_of(net)
    return net, Functional(net), params, buffers, torch.randn(16, 2, 8, 8).double()


def test_training_takes_it_and_gives_the_same_gradients(calls: list[tuple[int, ...]]) -> None:
    net, functional, params, buffers, x = _net()
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    found = torch.autograd.grad(
        functional(leaves, buffers, x, train=True).square().sum(), list(leaves.values())
    )
    assert calls == [(16, 128, 8, 8), (16, 128, 4, 4)]
    expected = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    assert len(calls) == 2, "the user's module stays as it is"
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_evaluation_takes_it_without_gradients_only(calls: list[tuple[int, ...]]) -> None:
    net, functional, params, buffers, x = _net()
    with torch.no_grad():
        torch.testing.assert_close(functional(params, buffers, x, train=False), net(x))
        torch.testing.assert_close(evaluator(functional, params, buffers)(x), net(x))
    assert len(calls) == 4
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    logits = functional(leaves, buffers, x, train=False)
    first = torch.autograd.grad(logits.square().sum(), leaves["third.weight"], create_graph=True)
    torch.autograd.grad(first[0].square().sum(), leaves["second.weight"])  # twice is possible
    assert len(calls) == 4


def test_second_derivatives_in_training_mode_are_those_of_torch(
    calls: list[tuple[int, ...]],
) -> None:
    net, functional, params, buffers, x = _net()
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    x.requires_grad_()
    found, expected = (
        torch.autograd.grad(
            torch.autograd.grad(run().sum(), x, create_graph=True)[0].square().sum(),
            list(weights),
            materialize_grads=True,
            allow_unused=True,
        )
        for run, weights in (
            (lambda: functional(leaves, buffers, x, train=True), leaves.values()),
            (lambda: net(x), net.parameters()),
        )
    )
    assert len(calls) == 2
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("plane", [(1, 1), (2, 2), (4, 4), (7, 8), (8, 8)])
@pytest.mark.parametrize("slopes", [False, True])
def test_kernels_write_where_they_should(plane: tuple[int, int], slopes: bool) -> None:
    tiles = []
    for side in plane:
        into, _, _ = matrices(side)
        tiles.append(into.shape[0] * into.shape[1])
    sizes = {
        "x": (3, *plane, 32),
        "y": (*tiles, 3, 32),
        "bias": (32,),
        "spread": (tiles[0], plane[1], 16),
        "gather": (plane[0], tiles[1], 16),
    }
    held = {name: guarded(*size) for name, size in sizes.items()}
    at = {name: inside.data_ptr() for name, (inside, _) in held.items()}
    run = kernel("spread", *plane, slopes=slopes, relu=True)
    run(at["x"], at["x"], at["y"], at["bias"], at["spread"], 3, 2, 3)
    run = kernel("gather", *plane, slopes=slopes)
    run(at["y"], at["bias"], at["x"], at["gather"], 3, 2, 3, 0.0)
    for name, (inside, whole) in held.items():
        assert not inside.any(), name
        assert whole.sum() == 7 * 128, name


@pytest.mark.usefixtures("threads")
def test_threads_share_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "usable", lambda: True)
    given = [normal(17, 32, 4, 4), normal(48, 32, 3, 3), normal(48), normal(17, 48, 4, 4)]
    exact = _with_gradients(_torch, [one.double() for one in given])
    found = _with_gradients(winograd.convolve, given)
    for one, right in zip(found, exact, strict=True):
        close(one, right, 1e-5)


def test_what_is_not_finite_stays_in_its_image() -> None:
    x = torch.randn(16, 128, 8, 8)
    x[3, 5, 2, 2] = float("nan")
    x[7, 5, 2, 2] = float("inf")
    y = winograd.convolve(x, torch.randn(128, 128, 3, 3))
    wrong = ~y.isfinite().all(dim=3).all(dim=2).all(dim=1)
    assert torch.nonzero(wrong).flatten().tolist() == [3, 7]


def test_several_networks_at_once_give_the_same(calls: list[tuple[int, ...]]) -> None:
    net, functional, params, buffers, x = _net()
    both = functional.many(
        stack([params] * 2), stack([buffers] * 2), torch.stack([x] * 2), train=True
    )
    torch.testing.assert_close(both[1], net(x))


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv2d(64, 64, 3, padding=1), (15, 64, 4, 4)),
        (nn.Conv2d(64, 64, 3, padding=1), (16, 64, 9, 4)),
        (nn.Conv2d(64, 63, 3, padding=1), (16, 64, 4, 4)),
        (nn.Conv2d(64, 64, 3, padding=1, stride=2), (16, 64, 4, 4)),
        (nn.Conv2d(64, 64, 3, padding=2, dilation=2), (16, 64, 4, 4)),
        (nn.Conv2d(64, 64, 3, padding=1, groups=2), (16, 64, 4, 4)),
        (nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"), (16, 64, 4, 4)),
        (nn.Conv2d(64, 64, 3, padding="same"), (16, 64, 4, 4)),
        (nn.Conv2d(64, 64, 1), (16, 64, 4, 4)),
        (nn.Conv2d(64, 64, 3, padding=1).bfloat16(), (16, 64, 4, 4)),
        (nn.Conv2d(64, 64, 3, padding=1), (64, 4, 4)),
    ],
)
def test_what_does_not_fit_is_left_to_torch(
    conv: nn.Conv2d, shape: tuple[int, ...], calls: list[tuple[int, ...]]
) -> None:
    quick = copy.deepcopy(conv)
    quicken(quick)
    x = torch.randn(shape).to(conv.weight.dtype)
    assert torch.equal(quick(x), conv(x))
    assert calls == []


def test_a_wrong_number_of_channels_is_torchs_complaint() -> None:
    conv = nn.Conv2d(64, 64, 3, padding=1)
    quicken(conv)
    with pytest.raises(RuntimeError, match="channels"):
        conv(torch.randn(16, 65, 4, 4))


def test_a_copy_uses_its_own_weights(calls: list[tuple[int, ...]]) -> None:
    conv = nn.Conv2d(64, 64, 3, padding=1)
    quicken(conv)
    other = copy.deepcopy(conv)
    with torch.no_grad():
        other.weight.zero_()
        other.bias.zero_()  # type: ignore[union-attr]
    x = torch.randn(16, 64, 4, 4)
    assert other(input=x).abs().max() == 0
    assert conv(x).abs().max() > 0
    assert len(calls) == 2
    assert type(conv) is nn.Conv2d
    assert set(conv.state_dict()) == {"weight", "bias"}


def test_under_autocast_and_vmap_torch_does_it(calls: list[tuple[int, ...]]) -> None:
    conv = nn.Conv2d(64, 64, 3, padding=1)
    quicken(conv)
    x = torch.randn(2, 16, 64, 4, 4)
    with torch.autocast("cpu"):
        assert conv(x[0]).dtype == torch.bfloat16
    each = torch.stack([conv(one) for one in x])
    assert len(calls) == 2
    torch.testing.assert_close(torch.vmap(conv)(x), each)
    assert len(calls) == 2


def test_vgg16_trains_the_same(calls: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    net = build("vgg16", {"width": 8}, num_classes=10, in_channels=3, image_size=32).double()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    params, buffers = state_of(net)
    x = torch.randn(16, 3, 32, 32).double()
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    loss = Functional(net)(leaves, buffers, x, train=True).square().sum()
    found = torch.autograd.grad(loss, list(leaves.values()))
    assert calls == [(16, 64, 4, 4)] * 2 + [(16, 64, 2, 2)] * 3
    expected = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
