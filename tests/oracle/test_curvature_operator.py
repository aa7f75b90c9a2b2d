"""Hessian-vector products against closed forms, dense autodiff, differences and curvlinops."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from curvature_cases import (
    columns,
    dense_hessian,
    images_and_labels,
    loss_of,
    random,
    small_mlp,
    small_resnet,
)
from torch import nn

from lossatlas.curvature import GaussNewtonOperator, HessianOperator, hessian_of
from lossatlas.errors import UserError

torch.set_num_threads(1)


def _names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


def test_of_least_squares_is_the_normal_matrix():
    x = torch.randn(9, 3, generator=random(), dtype=torch.float64)
    network = nn.Linear(3, 1, bias=False).double()

    def loss(outputs, targets):
        return ((outputs[:, 0] - targets) ** 2).mean()

    found = columns(hessian_of(network, x, torch.zeros(9), loss=loss))
    torch.testing.assert_close(found, 2 * x.T @ x / 9)


def test_of_softmax_regression_is_the_fisher_matrix():
    x = torch.randn(11, 4, generator=random(), dtype=torch.float64)
    network = nn.Linear(4, 3, bias=False).double()
    p = torch.softmax(network(x), dim=1).detach()
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("nij,na,nb->iajb", inner, x, x).reshape(12, 12) / 11
    labels = torch.randint(3, (11,), generator=random(1))
    torch.testing.assert_close(columns(hessian_of(network, x, labels)), expected)


def test_of_an_mlp_is_the_dense_hessian():
    network = small_mlp()
    images, labels = images_and_labels(10, size=4)
    expected = dense_hessian(network, images, labels, _names(network))
    torch.testing.assert_close(columns(hessian_of(network, images, labels)), expected)


@pytest.mark.parametrize("width", [1, 2])
def test_of_a_resnet_is_the_dense_hessian_of_some_layers(width):
    network = small_resnet(width)
    images, labels = images_and_labels(6)
    pattern = r"^norm\.|^blocks\.2\.(norm1|shortcut)|^head\.bias"
    operator = hessian_of(network, images, labels, parameters=pattern)
    assert len(operator.names) == 8
    expected = dense_hessian(network, images, labels, operator.names)
    torch.testing.assert_close(columns(operator), expected)


def test_of_a_resnet_is_forward_over_reverse():
    network = small_resnet(2)
    images, labels = images_and_labels(6)
    loss, start = loss_of(network, images, labels, _names(network))
    operator = hessian_of(network, images, labels)
    for seed in range(3):
        vector = torch.randn(operator.size, generator=random(seed), dtype=torch.float64)
        _, expected = torch.func.jvp(torch.func.grad(loss), (start,), (vector,))
        torch.testing.assert_close(operator(vector), expected)
    torch.testing.assert_close(operator.gradient(), torch.func.grad(loss)(start))
    assert operator.products == 3


@pytest.mark.parametrize("make", [small_mlp, small_resnet])
def test_agrees_with_central_differences(make):
    network = make()
    images, labels = images_and_labels(6, size=4 if make is small_mlp else 8)
    vector = None
    products = []
    for differences in (False, True):
        operator = hessian_of(network, images, labels, differences=differences)
        if vector is None:
            vector = torch.randn(operator.size, generator=random(), dtype=torch.float64)
        products.append(operator(vector))
    assert (products[0] - products[1]).norm() < 1e-4 * products[0].norm()
    assert not operator(torch.zeros_like(vector)).any()


@pytest.mark.parametrize(
    ("kind", "name"),
    [(HessianOperator, "HessianLinearOperator"), (GaussNewtonOperator, "GGNLinearOperator")],
)
def test_agrees_with_curvlinops(kind, name):
    curvlinops = pytest.importorskip("curvlinops")
    network = small_resnet(2)
    images, labels = images_and_labels(6)
    peer = getattr(curvlinops, name)(
        network, nn.CrossEntropyLoss(), list(network.parameters()), [(images, labels)]
    )
    operator = hessian_of(network, images, labels, kind=kind)
    vector = torch.randn(operator.size, generator=random(), dtype=torch.float64)
    torch.testing.assert_close(operator(vector), peer @ vector)


@pytest.mark.parametrize("chunk", [1, 3, 4, 10, 50])
def test_does_not_depend_on_the_chunk(chunk):
    network = small_resnet()
    images, labels = images_and_labels(10)
    vector = torch.randn(
        sum(p.numel() for p in network.parameters()), generator=random(), dtype=torch.float64
    )
    whole = hessian_of(network, images, labels)
    parts = hessian_of(network, images, labels, chunk=chunk)
    torch.testing.assert_close(parts(vector), whole(vector))
    torch.testing.assert_close(parts(vector), whole(vector))  # once more: nothing is left over
    torch.testing.assert_close(parts.gradient(), whole.gradient())


def test_float32_is_near_float64_and_leaves_the_module_alone():
    network = small_resnet(2).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = images_and_labels(6)
    exact = hessian_of(network, images, labels)
    vector = torch.randn(exact.size, generator=random(), dtype=torch.float64)
    rough = hessian_of(network, images, labels, dtype=torch.float32)(vector)
    assert rough.dtype == torch.float32
    assert (rough - exact(vector)).norm() < 1e-5 * exact(vector).norm()
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


class _Odd(nn.Module):
    """A layer that is never used, one used twice, and a `view` of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1)
        self.unused = nn.Linear(3, 3)
        self.middle = nn.Linear(12, 12)
        self.again = self.middle
        self.head = nn.Linear(12, 4)
        self.again.weight = self.middle.weight

    def forward(self, x):
        x = torch.tanh(self.first(x)).view(len(x), -1)
        return self.head(torch.tanh(self.again(torch.tanh(self.middle(x)))))


def _odd() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    images = torch.randn(5, 2, 2, 2, generator=random(), dtype=torch.float64)
    return _Odd().double(), images, torch.tensor([0, 1, 2, 3, 0])


def test_unused_layers_have_no_curvature_and_tied_ones_count_once():
    network, images, labels = _odd()
    operator = hessian_of(network, images, labels)
    assert operator.size == sum(p.numel() for p in network.parameters())
    found = columns(operator)
    used = [name for name in operator.names if "unused" not in name]
    expected = dense_hessian(network, images, labels, used)
    sizes = [dict(network.named_parameters())[name].numel() for name in operator.names]
    keep = torch.cat(
        [torch.full((n,), name in used) for n, name in zip(sizes, operator.names, strict=True)]
    )
    torch.testing.assert_close(found[keep][:, keep], expected)
    assert not found[~keep].any()
    assert not found[:, ~keep].any()


def test_only_unused_layers():
    network, images, labels = _odd()
    operator = hessian_of(network, images, labels, parameters="unused")
    assert not operator(torch.ones(operator.size)).any()
    assert not operator.gradient().any()


def test_frozen_layers_are_constants():
    network, images, labels = _odd()
    network.first.requires_grad_(requires_grad=False)
    operator = hessian_of(network, images, labels, parameters="first|head")
    assert operator.names == ["head.weight", "head.bias"]
    expected = dense_hessian(network, images, labels, operator.names)
    torch.testing.assert_close(columns(operator), expected)


def test_a_filter_that_picks_nothing_or_is_no_expression():
    network, images, labels = _odd()
    with pytest.raises(UserError, match=r"picks no trainable parameter.*head\.weight"):
        hessian_of(network, images, labels, parameters="haed.weight")
    with pytest.raises(UserError, match="not a regular expression"):
        hessian_of(network, images, labels, parameters="head(")


def test_a_loss_without_curvature():
    network = nn.Linear(3, 2).double()
    operator = hessian_of(
        network, torch.ones(4, 3).double(), torch.zeros(4), loss=lambda z, _: z.abs().mean()
    )
    assert not operator(torch.ones(operator.size)).any()


def test_refuses_wrong_shapes():
    network, images, labels = _odd()
    operator = hessian_of(network, images, labels)
    with pytest.raises(ValueError, match="expected a vector"):
        operator(torch.zeros(operator.size + 1))
    with pytest.raises(ValueError, match="must be one number"):
        hessian_of(network, images, labels, loss=lambda z, _: z.sum(dim=1))(
            torch.zeros(operator.size)
        )


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(4, 24)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        q, k, v = self.read(x[:, 0]).reshape(len(x), -1, 3, 1, 8).permute(2, 0, 3, 1, 4)
        return self.head(F.scaled_dot_product_attention(q, k, v)[:, 0].mean(dim=1))


def test_fused_attention_has_a_hessian():
    torch.manual_seed(4)
    network = _Attention().double()
    images, labels = images_and_labels(3, size=4)
    found = columns(hessian_of(network, images, labels))
    approximate = columns(hessian_of(network, images, labels, differences=True))
    assert found.abs().max() > 1e-3
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(found, approximate, atol=1e-6, rtol=1e-4)


class _Normed(nn.Module):
    """Weight norm as its definition says: w = g v / |v|."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        parts = layer.parametrizations.weight
        self.g = nn.Parameter(parts.original0.detach().clone())
        self.v = nn.Parameter(parts.original1.detach().clone())

    def forward(self, x):
        axes = tuple(range(1, self.v.dim())) if self.g.dim() else None
        length = self.v.square().sum(axes, keepdim=axes is not None).sqrt()
        return F.conv2d(x, self.g * self.v / length)


@pytest.mark.parametrize("dim", [0, None])
def test_weight_norm_has_the_hessian_of_its_definition(dim):
    torch.manual_seed(6)
    made = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 2, bias=False), dim=dim)
    head = nn.Sequential(nn.Tanh(), nn.Flatten(), nn.Linear(3, 4))
    fused, plain = (nn.Sequential(layer, head).double() for layer in (made, _Normed(made)))
    images, labels = torch.randn(5, 2, 2, 2, generator=random()).double(), torch.arange(5) % 4
    found = columns(hessian_of(fused, images, labels))
    expected = columns(hessian_of(plain, images, labels))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, found.T)


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


class _Once(nn.Module):
    def __init__(self, act) -> None:
        super().__init__()
        self.head = nn.Linear(16, 4)
        self.act = act

    def forward(self, x):
        return self.act(self.head(x.flatten(1)))


def test_an_operation_that_can_be_differentiated_once_is_named():
    network = _Once(lambda z: _Square.apply(z)).double()
    images, labels = images_and_labels(3, size=4)
    operator = hessian_of(network, images, labels)
    with pytest.raises(UserError, match="_Square can be differentiated only once"):
        operator(torch.ones(operator.size))
    approximate = hessian_of(network, images, labels, differences=True)
    network.act = torch.square
    exact = hessian_of(network, images, labels)
    vector = torch.randn(exact.size, generator=random(), dtype=torch.float64)
    torch.testing.assert_close(approximate(vector), exact(vector), atol=1e-6, rtol=1e-5)


def test_an_operation_without_second_derivative_is_named():
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def act(z):
        z = z.reshape(1, 1, -1, 4)
        return fused(z, z, z)[0].reshape(-1, 4)

    images, labels = images_and_labels(3, size=4)
    operator = hessian_of(_Once(act).double(), images, labels)
    with pytest.raises(UserError, match=r"flash_attention.* has no second derivative"):
        operator(torch.ones(operator.size))


def test_other_errors_stay_as_they_are():
    def fail(_):
        raise RuntimeError("of the user's own")

    images, labels = images_and_labels(3, size=4)
    with pytest.raises(RuntimeError, match="of the user's own"):
        hessian_of(_Once(fail).double(), images, labels).gradient()


def test_jobs_do_not_import_the_compiler():
    code = """
import sys, torch
from lossatlas.curvature import density, hessian_of, top_eigenvalues, trace
network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten())
h = hessian_of(network, torch.randn(4, 1, 4, 4), torch.zeros(4, dtype=torch.int64))
random = torch.Generator()
top_eigenvalues(h, generator=random), trace(h, 6, generator=random)
density(h, 1, 5, generator=random)
assert not [m for m in sys.modules if m.split(".")[:2] == ["torch", "_dynamo"] or m == "sympy"]
"""
    environment = {"PYTHONPATH": "workflow", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
