"""Compiled kernels and strided slopes against torch's own layers in float64."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import LAST, close, guarded, normal, norms

from lossatlas.kernels import compiled
from lossatlas.models import batch_norm, direct, strided


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
        normal(5, channels, height, width),
        normal(out, channels, 3, 3),
        normal(out),
    )
    slope = normal(5, out, height, width)
    exact = [one.double().requires_grad_() for one in (x, weight, bias)]
    y = F.conv2d(*exact, padding=1)
    expected = torch.autograd.grad(y, exact, slope.double())
    leaves = [one.clone().requires_grad_() for one in (x, weight, bias)]
    found = direct.convolve(*leaves)
    close(found, y)
    assert found.is_contiguous(memory_format=LAST)
    for one, right in zip(torch.autograd.grad(found, leaves, slope), expected, strict=True):
        close(one, right, 1e-5)
    for one, right in zip(direct.taps_slope(x, slope), expected[1:], strict=True):
        close(one, right, 1e-5)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("channels", "out"), [(3, 16), (8, 8), (16, 8)])
@pytest.mark.usefixtures("threads")
def test_a_convolution_with_relu_and_its_slopes(channels: int, out: int, frozen: bool) -> None:
    x, weight, bias = normal(5, channels, 6, 32), normal(out, channels, 3, 3), normal(out)
    weight[0], bias[0] = 0.0, 0.0  # 0 before ReLU: it lets nothing back
    slope = normal(5, out, 6, 32)
    exact = [one.double().requires_grad_() for one in (weight, bias, x)][: 2 if frozen else 3]
    leaves = [one.clone().requires_grad_() for one in (weight, bias, x)][: len(exact)]
    y = F.conv2d(exact[2] if not frozen else x.double(), *exact[:2], padding=1).relu()
    found = direct.convolve(leaves[2] if not frozen else x, *leaves[:2], relu=True)
    close(found, y)
    expected = torch.autograd.grad(y, exact, slope.double())
    for one, right in zip(torch.autograd.grad(found, leaves, slope), expected, strict=True):
        close(one, right, 1e-5)


@pytest.mark.usefixtures("threads")
def test_a_convolution_with_a_rest_and_relu() -> None:
    x, weight, bias, rest = (
        normal(5, 8, 4, 16),
        normal(8, 8, 3, 3),
        normal(8),
        normal(5, 8, 4, 16),
    )
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    close(direct.correlate(x, weight), exact)
    close(direct.correlate(x, weight, bias), exact + bias[:, None, None])
    close(direct.correlate(x, weight, None, rest), exact + rest)
    close(direct.correlate(x, weight, bias, rest, 0.0), (exact + bias[:, None, None] + rest).relu())


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("correlate", (8, 12, 16, 16)),
        ("correlate", (8, 8, 3, 16)),
        ("correlate", (8, 8, 4, 48)),
        ("correlate", (8, 8, 4, 8)),
        ("correlate", (12, 8, 4, 16)),
        ("pool", (8, 4, 4)),
        ("pool", (16, 3, 4)),
        ("pool", (16, 4, 5)),
        ("pool", (16, 4, 126)),
        ("pooled_taps", (16, 8, 4, 4, 1)),
        ("pooled_images", (24, 16, 4, 4)),
    ],
)
def test_a_kernel_that_cannot_be(name: str, sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="places"):
        compiled.kernel(name, *sizes)


@pytest.mark.parametrize("sizes", [(12, 4, 16, 1), (8, 4, 24, 1)])
def test_slopes_of_taps_that_cannot_be(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="places"):
        compiled.kernel("taps_slope", *sizes, relu=False)


@pytest.mark.parametrize("shape", [(8, 8, 16, 16), (3, 16, 4, 32), (16, 8, 2, 16)])
def test_kernels_write_where_they_should(shape: tuple[int, ...]) -> None:
    channels, out, height, width = shape
    sizes = {
        "x": (2, height, width, channels),
        "weight": (out // 8, channels, 9, 8),
        "bias": (out,),
        "y": (2, height, width, out),
        "space": (2, channels, height + 2, width + 2),
        "taps": (out // 8, channels, 3, 8, 3, 16),
        "bias taps": (out, 16),
        "room": (2, out, height * width + 16),
    }
    held = {name: guarded(*size) for name, size in sizes.items()}
    at = {name: inside.data_ptr() for name, (inside, _) in held.items()}
    run = compiled.kernel("correlate", *shape)
    run(*(at[name] for name in ("x", "weight", "bias", "y", "y", "space")), 2, 1, 0.0)
    run = compiled.kernel("taps_slope", channels, height, width, 2, relu=True)
    names = "x", "y", "y", "taps", "bias taps", "space", "room"
    run(*(at[name] for name in names), 1, out // 8)
    for name, (inside, whole) in held.items():
        if name != "room":  # its 16 places more are never written
            assert not inside.any(), name
        assert whole.sum() == 7 * 128 + inside.sum(), name


def test_kernels_of_norms_write_where_they_should() -> None:
    rows, lanes, sums = 24, (16,), (2, 16)
    x, y = guarded(2, rows, 16), guarded(2, rows, 16)
    small = [guarded(*size) for size in (*[lanes] * 5, sums, sums)]
    first, second, *five = x[0].data_ptr(), y[0].data_ptr(), *(one.data_ptr() for one, _ in small)
    compiled.kernel("moments", rows)(first, *five[5:], 2, 1 / rows)
    compiled.kernel("slopes", rows, relu=True)(first, second, *five[:3], *five[5:], 2)
    compiled.kernel("scale", relu=True, more=True)(first, *five[:2], first, second, 2 * rows)
    compiled.kernel("mix", relu=True)(first, first, *five[:5], second, 2 * rows)
    for inside, whole in (x, y, *small):
        assert not inside.any()
        assert whole.sum() == 7 * 128


def test_images_in_any_layout() -> None:
    x, weight = normal(5, 8, 4, 16), normal(8, 8, 3, 3)
    expected = direct.correlate(x.contiguous(memory_format=LAST), weight)
    wide = torch.zeros(5, 16, 4, 16)
    wide[:, 8:] = x
    assert torch.equal(direct.correlate(wide[:, 8:], weight), expected)
    assert torch.equal(direct.correlate(x, weight.permute(0, 1, 3, 2).mT), expected)


def test_what_is_not_finite_stays_in_its_place() -> None:
    x = normal(3, 8, 4, 16)
    x[1, 2, 1, 5] = float("nan")
    y = direct.correlate(x, normal(8, 8, 3, 3), floor=0.0)
    wrong = torch.nonzero(y.isnan().any(dim=1))
    assert wrong[:, 0].unique().tolist() == [1]
    assert wrong[:, 1].unique().tolist() == [0, 1, 2]
    assert wrong[:, 2].unique().tolist() == [4, 5, 6]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize(("channels", "sides"), [(8, (16, 17)), (8, (32, 32)), (16, (19, 23))])
def test_batch_norm(
    channels: int, sides: tuple[int, int], more: bool, relu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_norm, "usable", lambda: True)
    norm, exact = norms(channels)
    x = (normal(5, channels, *sides) * 3 + 50).contiguous(memory_format=LAST)
    slope, rest = normal(6, channels, *sides)[:5], normal(7, channels, *sides)[:5]
    assert batch_norm.fits(norm, x)
    x.requires_grad_()
    rest.requires_grad_()
    wide, wide_rest = x.detach().double().requires_grad_(), rest.detach().double().requires_grad_()
    y = exact(wide) + wide_rest if more else exact(wide)
    y = y.relu() if relu else y
    found = batch_norm.normalise(norm, x, rest if more else None, relu=relu)
    close(found, y, 1e-5)
    inputs, others = [x, *norm.parameters()], [wide, *exact.parameters()]
    if more:
        inputs, others = [*inputs, rest], [*others, wide_rest]
    ours = torch.autograd.grad(found, inputs, slope)
    theirs = torch.autograd.grad(y, others, slope.double())
    for one, right in zip(ours, theirs, strict=True):
        close(one, right, 2e-5)
    for (name, one), right in zip(norm.named_buffers(), exact.buffers(), strict=True):
        assert torch.allclose(one.double(), right.double(), rtol=1e-6), name


def test_batch_norm_is_exact_far_from_zero() -> None:
    norm, exact = norms(8)
    x = (normal(16, 8, 32, 32) + 1000).contiguous(memory_format=LAST)
    batch_norm.normalise(norm, x)
    exact(x.double())
    close(norm.running_var, exact.running_var, 1e-6)


@pytest.mark.parametrize(("channels", "kernel"), [(8, 3), (3, 3), (8, 1), (40, 1)])
@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format])
def test_halving(channels: int, kernel: int, layout: torch.memory_format) -> None:
    x = normal(5, channels, 6, 4).double().contiguous(memory_format=layout).requires_grad_()
    weight = normal(7, channels, kernel, kernel).double().requires_grad_()
    bias = normal(7).double().requires_grad_()
    assert strided.fits(x, weight)
    y = F.conv2d(x, weight, bias, stride=2, padding=kernel // 2)
    found = strided.convolve(x, weight, bias)
    assert torch.equal(found, y)
    slope = normal(*y.shape).double()
    ours, theirs = (torch.autograd.grad(one, [x, weight, bias], slope) for one in (found, y))
    for one, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, right, rtol=1e-12, atol=1e-12)


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
        absent.setitem(sys.modules, "llvmlite", None)
        compiled.kernel.cache_clear()
        assert not usable()
    with monkeypatch.context() as strict:
        strict.setattr(compiled, "_machine", lambda: 1 / 0)  # such as memory that cannot run code
        assert not usable()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not usable()
