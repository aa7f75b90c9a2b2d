"""Stochastic Lanczos quadrature: moments, and the curve that is drawn of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from curvature_cases import (
    Dense,
    dense_hessian,
    images_and_labels,
    random,
    small_mlp,
    spectrum_like_a_network,
)

from lossatlas.curvature import density, hessian_of
from lossatlas.curvature.density import quadrature, smooth
from lossatlas.curvature.lanczos import rademacher

torch.set_num_threads(1)


def test_moments_over_a_whole_basis_of_starts_are_exact():
    matrix = spectrum_like_a_network(12)
    found = [quadrature(Dense(matrix), start, 3, random()) for start in torch.eye(12).double()]
    nodes, weights = (torch.stack(part) for part in zip(*found, strict=True))
    power = matrix.clone()
    for order in range(1, 6):  # 3 steps: exact up to order 5
        moment = (weights * nodes**order).sum(dim=1).mean().item()
        assert moment == pytest.approx(power.trace().item() / 12, rel=1e-9)
        power = power @ matrix


def test_each_quadrature_has_the_moments_of_its_start():
    matrix = spectrum_like_a_network(60)
    start = rademacher(Dense(matrix), random())
    nodes, weights = quadrature(Dense(matrix), start, 5, random())
    vector = start
    for order in range(10):
        assert (weights @ nodes**order).item() == pytest.approx((start @ vector).item() / 60)
        vector = matrix @ vector


def test_moments_of_a_network():
    network = small_mlp()
    images, labels = images_and_labels(10, size=4)
    operator = hessian_of(network, images, labels)
    matrix = dense_hessian(network, images, labels, operator.names)
    found = density(operator, 60, 6, generator=random())
    assert found.products == operator.products == 360
    for order, exact in ((1, matrix.trace()), (2, (matrix @ matrix).trace())):
        each = (found.weights * found.nodes**order).sum(dim=1)
        error = each.std().item() / np.sqrt(60)
        assert abs(found.moment(order) - exact.item() / len(matrix)) < 4 * error
        assert error < 0.25 * abs(exact.item()) / len(matrix)
    assert found.moment(0) == pytest.approx(1.0)


def test_all_steps_give_all_eigenvalues():
    matrix = spectrum_like_a_network(15)
    found = density(Dense(matrix), 1, 40, generator=random())
    assert found.products == 15
    torch.testing.assert_close(found.nodes[0], torch.linalg.eigvalsh(matrix))


def test_the_curve_integrates_to_one_and_has_the_mean_of_the_nodes():
    found = density(Dense(spectrum_like_a_network(300)), 3, 20, generator=random())
    x, y = found.x.numpy(), found.y.numpy()
    assert len(x) == len(y) == 512
    assert (y >= 0).all()
    assert np.trapezoid(y, x) == pytest.approx(1.0, abs=1e-4)
    assert np.trapezoid(x * y, x) == pytest.approx(found.moment(1), rel=1e-3)
    spread = np.trapezoid((x - found.moment(1)) ** 2 * y, x)
    expected = found.moment(2) - found.moment(1) ** 2 + found.width**2
    assert spread == pytest.approx(expected, rel=1e-2)
    assert found.width == pytest.approx(0.01 * (found.nodes.max() - found.nodes.min()).item())


def test_exhausted_and_single_spectra():
    low_rank = torch.zeros(40, 40, dtype=torch.float64)
    low_rank[0, 0] = 5.0
    found = density(Dense(low_rank), 4, 10, generator=random())
    torch.testing.assert_close(found.weights.sum(dim=1), torch.ones(4).double())
    assert found.moment(1) == pytest.approx(5 / 40)
    assert found.moment(2) == pytest.approx(25 / 40)
    for value in (0.0, 2.0):
        x, y, width = smooth(torch.full((1, 3), value), torch.full((1, 3), 1 / 3), 0.01)
        assert width > 0
        assert np.trapezoid(y.numpy(), x.numpy()) == pytest.approx(1.0, abs=1e-4)
        assert x[y.argmax()].item() == pytest.approx(value, abs=width)


def test_a_product_that_is_not_finite():
    matrix = torch.full((5, 5), float("nan"), dtype=torch.float64)
    found = density(Dense(matrix), 2, 3, generator=random())
    assert found.y.isnan().all()


@pytest.mark.parametrize(("probes", "steps"), [(0, 3), (1, 0)])
def test_refuses_no_probe_or_no_step(probes, steps):
    with pytest.raises(ValueError, match="at least one"):
        density(Dense(torch.eye(3)), probes, steps, generator=random())
