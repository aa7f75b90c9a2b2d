"""The Gauss-Newton matrix against J^T B J written out, Fisher matrices and Hessians."""

from __future__ import annotations

import pytest
import torch
from curvature_cases import (
    columns,
    images_and_labels,
    random,
    small_mlp,
    small_resnet,
)
from torch import Tensor, nn
from torch.func import functional_call

import task_cases
from lossatlas.curvature import GaussNewtonOperator, hessian_of
from lossatlas.errors import UserError
from lossatlas.measuring import measure_networks
from lossatlas.metrics.gauss_newton import GaussNewton
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.training.networks import Networks

torch.set_num_threads(1)


def gauss_newton(*given, **settings):
    return hessian_of(*given, kind=GaussNewtonOperator, **settings)


def written_out(network: nn.Module, call, loss) -> Tensor:
    """Return J^T B J with the Jacobian and the Hessian of the loss in the outputs, in float64."""
    shapes = {name: p.shape for name, p in network.named_parameters()}
    start = torch.cat([p.detach().reshape(-1) for p in network.parameters()])

    def outputs(vector: Tensor) -> Tensor:
        pieces = vector.split([shape.numel() for shape in shapes.values()])
        named = {n: p.view(s) for (n, s), p in zip(shapes.items(), pieces, strict=True)}
        return call(named)

    place = outputs(start).detach()
    jacobian = torch.autograd.functional.jacobian(outputs, start).reshape(place.numel(), -1)
    bend = torch.autograd.functional.hessian(
        lambda flat: loss(flat.view(place.shape)), place.flatten()
    )
    return jacobian.T @ bend @ jacobian


@pytest.mark.parametrize("chunk", [100, 7])
@pytest.mark.parametrize("task", task_cases.ALL)
def test_of_each_task(task, chunk):
    torch.manual_seed(0)
    network = task_cases.module(task).double()
    split = task_cases.data(task, torch.float64).train

    def call(named: dict[str, Tensor]) -> Tensor:
        if isinstance(split.images, Tensor):
            return functional_call(network, named, (split.images,))
        return functional_call(network, named, (), split.images.tensors)

    wanted = written_out(network, call, lambda out: split.task.mean(out, split.labels))
    found = columns(gauss_newton(network, split.images, split.labels, loss=split.task, chunk=chunk))
    torch.testing.assert_close(found, wanted)
    values = torch.linalg.eigvalsh(found)
    assert values[0] > -1e-12 * values[-1]  # all these losses are convex in the outputs


@pytest.mark.parametrize("network", [small_mlp, small_resnet])
def test_is_the_fisher_matrix_of_the_networks_own_predictions(network):
    """The mean over images, and over labels drawn from the softmax, of squares of gradients."""
    module = network()
    images, labels = images_and_labels(5, size=4 if network is small_mlp else 8)
    leaves = list(module.parameters())
    operator = gauss_newton(module, images, labels)
    vector = torch.randn(operator.size, generator=random(), dtype=torch.float64)
    expected = torch.zeros_like(vector)
    for row in torch.log_softmax(module(images), dim=1):
        for log in row:
            parts = torch.autograd.grad(log, leaves, retain_graph=True, materialize_grads=True)
            gradient = torch.cat([part.reshape(-1) for part in parts])
            expected += log.detach().exp() * gradient * (gradient @ vector) / len(images)
    torch.testing.assert_close(operator(vector), expected)


def test_is_the_hessian_where_the_network_is_linear_or_fits_exactly():
    images, labels = images_and_labels(9, size=2)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 4)).double()
    torch.testing.assert_close(
        columns(gauss_newton(linear, images, labels)), columns(hessian_of(linear, images, labels))
    )
    curved = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    exact = curved(images).detach()
    for targets, same in ((exact, True), (exact + 1, False)):
        pair = [
            columns(of(curved, images, targets, loss=squares)) for of in (gauss_newton, hessian_of)
        ]
        assert torch.allclose(*pair, atol=1e-12) is same


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).sum(1).mean()


def test_the_metric():
    """Trace and eigenvalues of each replica against the dense matrix; names of its own."""
    images, labels = images_and_labels(20, size=4)
    module = small_mlp()
    dense = written_out(
        module,
        lambda named: functional_call(module, named, (images,)),
        lambda out: nn.functional.cross_entropy(out, labels),
    )
    values = torch.linalg.eigvalsh(dense)
    split = task_cases.data("classification").train
    split = type(split)(images, labels, split.task)
    data = task_cases.TensorData("noise", split, split, classes=4)
    params, buffers = (stack([part]) for part in state_of(module))
    networks = Networks(Functional(module), params, buffers, [3], data)
    record = measure_networks(GaussNewton(eigenvalues=2, probes=400, samples=20), networks)
    rows = {row.name: row for row in record.scalars}
    assert rows["gauss_newton_eigenvalue"].value == pytest.approx(float(values[-1]), rel=1e-6)
    assert rows["gauss_newton_eigenvalue_2"].value == pytest.approx(float(values[-2]), rel=1e-4)
    assert rows["gauss_newton_trace"].value == pytest.approx(float(values.sum()), rel=0.02)
    assert {one.name for one in record.series} == {"gauss_newton_density", "gauss_newton_ritz"}
    assert record.kind == "gauss_newton"


def test_bad_input():
    images, labels = images_and_labels(6, size=4)

    class Pair(nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            out = super().forward(x.flatten(1))
            return out, out

    with pytest.raises(UserError, match="Gauss-Newton: the network returns a tuple"):
        gauss_newton(Pair(16, 4).double(), images, labels, loss=lambda out, y: out[0].mean())(
            torch.zeros(68, dtype=torch.float64)
        )

    linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).double()
    flat = gauss_newton(linear, images, labels, loss=lambda out, y: out.mean())
    assert flat(torch.ones(flat.size, dtype=torch.float64)).abs().max() == 0
