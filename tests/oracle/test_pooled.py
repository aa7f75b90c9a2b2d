"""A convolution, a max-pool and ReLU as one, against torch's three layers in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import LAST, both_ways, close, guarded, normal
from torch import Tensor, nn

from lossatlas.kernels import LISTS, compiled
from lossatlas.models import batch_norm, build, direct, pooled, winograd
from lossatlas.models.functional import Functional, state_of
from lossatlas.models.quick import quicken

SHAPES = [  # images, channels, outputs, height, width
    (5, 16, 16, 8, 8),
    (2, 32, 16, 2, 34),
    (3, 16, 48, 6, 10),
    (9, 48, 32, 4, 2),
    (1, 16, 64, 16, 16),
    (2, 16, 16, 4, 124),
]


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the kernels on any processor: elsewhere they are slow, not wrong."""
    for module in (batch_norm, direct, pooled, winograd):
        monkeypatch.setattr(module, "usable", lambda: True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return which ways were taken, in turn."""
    seen: list[str] = []

    def counted(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*given: object, **named: object) -> Tensor:
            seen.append(f"{name} with ReLU" if named else name)
            return function(*given, **named)

        return call

    for module in (batch_norm, direct, pooled, winograd):
        name = module.__name__.rsplit(".", 1)[1]
        what = "normalise" if module is batch_norm else "convolve"
        monkeypatch.setattr(module, what, counted(name, getattr(module, what)))
    return seen


def _torch(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.relu(F.max_pool2d(F.conv2d(x, weight, bias, padding=1), 2))


def _given(shape: tuple[int, ...], scale: float = 1.0) -> list[Tensor]:
    images, channels, out, height, width = shape
    return [
        normal(images, channels, height, width) * scale,
        normal(out, channels, 3, 3) * scale,
        normal(out) * scale,
        normal(images, out, height // 2, width // 2) * scale,
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("threads")
def test_values_and_slopes(shape: tuple[int, ...]) -> None:
    given = _given(shape)
    exact = [one.double().requires_grad_() for one in given[:3]]
    leaves = [one.clone().requires_grad_() for one in given[:3]]
    y, found = _torch(*exact), pooled.convolve(*leaves)
    close(found, y)
    assert found.is_contiguous(memory_format=LAST)
    expected = torch.autograd.grad(y, exact, given[3].double())
    for one, right in zip(torch.autograd.grad(found, leaves, given[3]), expected, strict=True):
        close(one, right, 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_whole_numbers_are_exact_and_the_first_of_equals_counts(shape: tuple[int, ...]) -> None:
    given = [one.round() for one in _given(shape)]
    given[1].clamp_(-1, 1)
    leaves = [one.clone().requires_grad_() for one in given[:3]]
    exact = [one.double().requires_grad_() for one in given[:3]]
    before = F.conv2d(*exact, padding=1)
    corners = before.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert float((corners == corners.amax(4, keepdim=True)).sum(4).max()) > 1, "none are equal"
    y, found = _torch(*exact), pooled.convolve(*leaves)
    assert torch.equal(found.double(), y)
    expected = torch.autograd.grad(y, exact, given[3].double())
    for one, right in zip(torch.autograd.grad(found, leaves, given[3]), expected, strict=True):
        assert torch.equal(one.double(), right)


def test_only_what_is_asked_for() -> None:
    x, weight, bias, slope = _given(SHAPES[0])
    full = [one.clone().requires_grad_() for one in (x, weight, bias)]
    expected = torch.autograd.grad(pooled.convolve(*full), full, slope)
    for asked in range(3):
        leaves = [one.clone().requires_grad_(k == asked) for k, one in enumerate((x, weight, bias))]
        found = torch.autograd.grad(pooled.convolve(*leaves), leaves[asked], slope)
        assert torch.equal(found[0], expected[asked])
    alone = weight.clone().requires_grad_()
    y = pooled.convolve(x, alone)
    close(y, _torch(x.double(), weight.double(), None))
    torch.autograd.grad(y, alone, slope)


def test_second_derivatives_are_those_of_torch() -> None:
    results = []
    for way, dtype in ((pooled.convolve, torch.float32), (_torch, torch.float64)):
        *given, slope = (one.to(dtype) for one in _given(SHAPES[0]))
        leaves = [one.requires_grad_() for one in given]
        first = torch.autograd.grad(way(*leaves), leaves, slope, create_graph=True)
        some = first[0].square().sum() + first[1].square().sum()
        results.append(torch.autograd.grad(some, leaves[:2]))
    for one, right in zip(*results, strict=True):
        close(one, right, 1e-5)


def test_what_is_not_finite_is_the_largest() -> None:
    y = normal(2, 16, 4, 4).contiguous(memory_format=LAST)
    y[0, 3, 1, 0] = float("nan")
    y[1, 5, 2, 2] = float("inf")
    out = torch.empty(2, 16, 2, 2).contiguous(memory_format=LAST)
    choice = torch.zeros(2, 16, 2, 2, dtype=torch.uint8).contiguous(memory_format=LAST)
    compiled.kernel("pool", 16, 4, 4)(y.data_ptr(), out.data_ptr(), choice.data_ptr(), 2)
    expected = F.relu(F.max_pool2d(y, 2))
    assert torch.equal(out.nan_to_num(-1.0), expected.nan_to_num(-1.0))
    assert int(choice[0, 3, 0, 0]) == 6, "one row of 4 + 2 places further"
    assert int(choice[1, 5, 1, 1]) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_write_where_they_should(shape: tuple[int, ...]) -> None:
    images, channels, out, height, width = shape
    sizes = {
        "x": (images, height, width, channels),
        "y": (images, height, width, out),
        "slope": (images, height // 2, width // 2, out),
        "weight": (channels // 16, out, 9, 16),
        "bias": (out,),
        "space": (images, channels, height + 2, width + 2),
        "room": (images, height // 2, width // 2, out),
    }
    held = {name: guarded(*size) for name, size in sizes.items()}
    at = {name: inside.data_ptr() for name, (inside, _) in held.items()}
    chosen, around = guarded(*sizes["slope"], dtype=torch.uint8)
    compiled.kernel("pool", out, height, width)(at["y"], at["slope"], chosen.data_ptr(), images)
    assert (chosen == 128).all(), "ReLU lets none of them through"
    run = compiled.kernel("pooled_taps", channels, out, height, width, images)
    names = "weight", "bias", "space", "room"
    run(at["x"], at["slope"], chosen.data_ptr(), *(at[name] for name in names), 1)
    for places in (0, 1, width + 2, width + 3, 128 + width + 3):
        chosen.fill_(places)
        lists, lists_around = guarded(LISTS)
        run = compiled.kernel("pooled_images", channels, out, height, width)
        given = at["slope"], chosen.data_ptr(), at["weight"], at["x"], at["space"]
        run(*given, lists.data_ptr(), images)
        assert (lists_around[:64] == 7).all()
        assert (lists_around[-64:] == 7).all()
    assert (around[:64] == 7).all()
    assert (around[-64:] == 7).all()
    for name, (inside, whole) in held.items():
        assert not inside.any(), name
        assert whole.sum() == 7 * 128, name


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("first", ["pool", "relu"])
def test_a_sequence_of_layers(first: str, inplace: bool, calls: list[str]) -> None:
    behind = [nn.MaxPool2d(2), nn.ReLU(inplace=inplace)]
    if first == "relu":
        behind.reverse()
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(inplace=inplace)]
    layers += [nn.Conv2d(16, 16, 3, padding=1), *behind, nn.Conv2d(16, 16, 3, padding=1)]
    plain = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 3))
    quick, (ours, theirs) = both_ways(plain, normal(4, 3, 16, 16).contiguous(memory_format=LAST))
    assert calls == ["direct with ReLU", "pooled"]
    for one, right in zip(ours, theirs, strict=True):
        close(one, right.double(), 1e-4)
    calls.clear()
    x = normal(4, 3, 16, 16).contiguous(memory_format=LAST)
    with torch.no_grad():
        torch.testing.assert_close(quick.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-5)
    quick(x)
    assert "pooled" not in calls
    assert list(quick.state_dict()) == list(plain.state_dict())


def test_a_norm_and_relu(calls: list[str]) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
    quick, (ours, theirs) = both_ways(plain, normal(4, 3, 16, 16).contiguous(memory_format=LAST))
    assert calls == ["direct", "batch_norm with ReLU"]
    for number in (0, 2, 3):  # the norm leaves nothing of the bias
        close(ours[number], theirs[number].double(), 1e-4)
    assert torch.allclose(quick[1].running_var, plain[1].running_var)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2)],
        [nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2), nn.Tanh()],
        [nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.ReLU()],
        [nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2, stride=1), nn.ReLU()],
        [nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()],
        [nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2, dilation=2), nn.ReLU()],
        [nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24), nn.MaxPool2d(2), nn.ReLU()],
        [nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular"), nn.MaxPool2d(2), nn.ReLU()],
        [nn.Conv2d(16, 24, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()],
        [nn.Conv2d(16, 16, 3), nn.MaxPool2d(2), nn.ReLU()],
        [nn.Conv2d(16, 16, 3, padding=1, dtype=torch.float64), nn.MaxPool2d(2), nn.ReLU()],
    ],
)
def test_other_sequences_are_left_to_torch(layers: list[nn.Module], calls: list[str]) -> None:
    plain = nn.Sequential(*layers)
    quick = copy.deepcopy(plain)
    quicken(quick)
    weight = next(plain.parameters())
    x = normal(2, weight.shape[1], 12, 12).to(weight.dtype).contiguous(memory_format=LAST)
    assert torch.equal(quick(x), plain(x))
    assert calls == []


def test_many_channels_over_small_planes_go_by_winograd(calls: list[str]) -> None:
    network = nn.Sequential(nn.Conv2d(96, 96, 3, padding=1), nn.MaxPool2d(2), nn.ReLU())
    quicken(network)
    for side in (8, 16):
        network(normal(16, 96, side, side).contiguous(memory_format=LAST))
    assert calls == ["winograd", "pooled"]


def test_hooks_see_what_every_layer_makes(calls: list[str]) -> None:
    network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU())
    quicken(network)
    seen: list[Tensor] = []
    x = normal(2, 16, 12, 12).contiguous(memory_format=LAST)
    handle = network[1].register_forward_hook(lambda _module, _given, y: seen.append(y))
    y = network(x)
    assert (len(seen), calls) == (1, [])
    handle.remove()
    torch.testing.assert_close(network(x), y)
    assert (len(seen), calls) == (1, ["pooled"])


def test_vgg16_trains_the_same(calls: list[str]) -> None:
    torch.manual_seed(0)
    network = build(
        "vgg16", {"width": 16, "he_init": True}, num_classes=10, in_channels=3, image_size=32
    )
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    images = normal(17, 3, 32, 32).contiguous(memory_format=LAST)
    results = []
    for dtype in (torch.float32, torch.float64):
        params, buffers = state_of(network)
        leaves = {name: p.to(dtype).requires_grad_() for name, p in params.items()}
        logits = Functional(network)(leaves, buffers, images.to(dtype), train=True)
        grads = torch.autograd.grad(logits.square().sum(), list(leaves.values()))
        results.append((logits, *grads))
        if dtype == torch.float32:
            assert [call.split()[0] for call in calls].count("pooled") == 3
            assert len(calls) >= 8
    for one, right in zip(*results, strict=True):
        close(one, right, 1e-2 if one.dim() > 2 else 1e-3)  # few ReLUs and pools choose otherwise
