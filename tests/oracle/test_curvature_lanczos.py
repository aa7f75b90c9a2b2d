"""Eigenvalues by Lanczos and by the paper's power iteration."""

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
    small_resnet,
    spectrum_like_a_network,
)

from lossatlas.curvature import Lanczos, hessian_of, power_iteration, top_eigenvalues
from lossatlas.curvature.lanczos import gaussian

torch.set_num_threads(1)


def _by_modulus(matrix: torch.Tensor) -> torch.Tensor:
    values = torch.linalg.eigvalsh(matrix)
    return values[values.abs().argsort(descending=True)]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("count", [1, 5])
def test_lanczos_finds_the_largest_in_modulus(sign, count):
    matrix = spectrum_like_a_network(300, sign=sign)
    operator = Dense(matrix)
    found = top_eigenvalues(operator, count, tolerance=1e-8, generator=random())
    expected = _by_modulus(matrix)[:count]
    torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=0)
    assert found.converged.all()
    assert found.products == operator.products < 60


def test_residuals_bound_the_errors_and_decide():
    matrix = spectrum_like_a_network(300)
    expected = _by_modulus(matrix)[:4]
    for iterations in range(4, 14):
        found = top_eigenvalues(Dense(matrix), 4, iterations=iterations, generator=random(3))
        nearest = (found.values[:, None] - torch.linalg.eigvalsh(matrix)).abs().min(dim=1).values
        assert (nearest <= found.residuals * (1 + 1e-6)).all()
        assert torch.equal(found.converged, found.residuals <= 1e-3 * found.values.abs())
    assert not top_eigenvalues(Dense(matrix), 4, iterations=5, generator=random(3)).converged.all()
    done = top_eigenvalues(Dense(matrix), 4, generator=random(3))
    assert done.converged.all()
    torch.testing.assert_close(done.values, expected, rtol=1e-3, atol=0)


def test_stops_as_soon_as_the_tolerance_is_met():
    matrix = spectrum_like_a_network(300)
    used = [
        top_eigenvalues(Dense(matrix), tolerance=t, generator=random()).products
        for t in (0.3, 1e-2, 1e-4, 1e-8)
    ]
    assert used == sorted(used)
    assert len(set(used)) == 4
    earlier = top_eigenvalues(
        Dense(matrix), iterations=used[2] - 1, tolerance=1e-4, generator=random()
    )
    assert not earlier.converged.any()


def test_more_eigenvalues_than_rows_and_repeated_ones():
    matrix = torch.diag(torch.tensor([3.0, 3.0, -3.0, 3.0, 0.0], dtype=torch.float64))
    found = top_eigenvalues(Dense(matrix), 7, generator=random())
    assert len(found.values) == 5
    torch.testing.assert_close(found.values.sort().values, torch.diagonal(matrix).sort().values)


def test_goes_on_until_there_are_as_many_as_asked_for():
    """Two values converge as soon as the Krylov space is exhausted; their copies come later."""
    matrix = torch.diag(torch.tensor([3.0, 3.0, 2.0, 2.0], dtype=torch.float64))
    found = top_eigenvalues(Dense(matrix), 4, generator=random())
    assert found.values.tolist() == pytest.approx([3, 3, 2, 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_goes_on_orthogonally_where_the_krylov_space_is_exhausted(dtype):
    matrix = torch.zeros(40, 40, dtype=dtype)
    matrix[0, 0] = 5.0
    lanczos = Lanczos(Dense(matrix), gaussian(Dense(matrix), random()), 20, random())
    for _ in range(20):
        lanczos.step()
    tolerance = 100 * torch.finfo(dtype).eps
    eye = torch.eye(20, dtype=dtype)
    torch.testing.assert_close(lanczos.basis @ lanczos.basis.T, eye, atol=tolerance, rtol=0)
    assert lanczos.trace == pytest.approx(5.0, rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_and_identity(dtype):
    nothing = top_eigenvalues(Dense(torch.zeros(6, 6, dtype=dtype)), generator=random())
    assert nothing.values.tolist() == [0.0]
    assert nothing.converged.all()
    one = top_eigenvalues(Dense(torch.eye(6, dtype=dtype)), generator=random())
    assert one.values.item() == pytest.approx(1.0)
    assert one.converged.all()


def test_a_tolerance_below_rounding_is_never_met():
    matrix = spectrum_like_a_network(100).float()
    found = top_eigenvalues(Dense(matrix), tolerance=1e-12, generator=random())
    assert not found.converged.any()


def test_a_product_that_is_not_finite():
    matrix = spectrum_like_a_network(20)
    matrix[3, 3] = float("inf")
    found = top_eigenvalues(Dense(matrix), 2, generator=random())
    assert found.values.isnan().all()
    assert not found.converged.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_basis_stays_orthonormal_and_gives_t(dtype):
    matrix = spectrum_like_a_network(120).to(dtype)
    operator = Dense(matrix)
    lanczos = Lanczos(operator, gaussian(operator, random()), 80, random())
    for _ in range(80):
        lanczos.step()
    basis, tolerance = lanczos.basis, 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(basis @ basis.T, torch.eye(80, dtype=dtype), atol=tolerance, rtol=0)
    values, _, weights = lanczos.ritz()
    inside = torch.linalg.eigvalsh((basis @ matrix @ basis.T).double())
    torch.testing.assert_close(values, inside, atol=100 * tolerance, rtol=0)
    assert weights.sum().item() == pytest.approx(1.0)
    assert lanczos.trace == pytest.approx(inside.sum().item(), abs=100 * tolerance)
    with pytest.raises(ValueError, match="capacity"):
        lanczos.step()


@pytest.mark.parametrize("make", [small_mlp, small_resnet])
def test_of_a_network(make):
    network = make()
    images, labels = images_and_labels(6, size=4 if make is small_mlp else 8)
    pattern = "" if make is small_mlp else r"^norm\.|^blocks\.2\.(norm1|shortcut)|^head\.bias"
    operator = hessian_of(network, images, labels, parameters=pattern)
    expected = _by_modulus(dense_hessian(network, images, labels, operator.names))[:3]
    found = top_eigenvalues(operator, 3, tolerance=1e-6, generator=random())
    assert found.converged.all()
    torch.testing.assert_close(found.values, expected, rtol=1e-6, atol=0)


def _power_iteration_by_hand(matrix: np.ndarray, start: np.ndarray, most: int, tolerance: float):
    """The rule of the authors' code, written down from its specification."""
    history: list[float] = []
    v = start / (np.sqrt(start @ start) + 1e-6)
    for _ in range(most):
        v = v / (np.sqrt(v @ v) + 1e-6)
        product = matrix @ v
        history.append(product @ v)
        rest = product - history[-1] * v
        v = product / (np.sqrt(product @ product) + 1e-6)
        if len(history) > 1:
            old = history[-2]
            if abs(old - history[-1]) / (abs(old) + 1e-6) < tolerance:
                return old, np.sqrt(rest @ rest), len(history), True
    return history[-1], np.sqrt(rest @ rest), len(history), False


@pytest.mark.parametrize(("most", "tolerance"), [(100, 1e-3), (100, 1e-6), (4, 1e-3), (1, 1e-3)])
def test_power_iteration_follows_the_rule(most, tolerance):
    matrix = spectrum_like_a_network(200, sign=-1.0)
    operator = Dense(matrix)
    start = gaussian(operator, random(5))
    value, residual, products, converged = _power_iteration_by_hand(
        matrix.numpy(), start.numpy(), most, tolerance
    )
    found = power_iteration(operator, iterations=most, tolerance=tolerance, generator=random(5))
    assert found.values.item() == pytest.approx(value, rel=1e-12)
    assert found.residuals.item() == pytest.approx(residual, rel=1e-9)
    assert (found.products, found.converged.item()) == (products, converged)
    assert value < 0


def test_power_iteration_returns_the_estimate_before_the_last():
    operator = Dense(torch.eye(3, dtype=torch.float64) * 2)
    found = power_iteration(operator, generator=random())
    assert found.products == 2
    assert found.values.item() == pytest.approx(2.0, rel=1e-5)
    assert found.values.item() != 2.0  # vectors are divided by their norm plus 1e-6


def test_power_iteration_deflates():
    matrix = spectrum_like_a_network(200)
    found = power_iteration(Dense(matrix), 3, iterations=500, tolerance=1e-9, generator=random())
    torch.testing.assert_close(found.values, _by_modulus(matrix)[:3], rtol=1e-4, atol=0)
    assert found.converged.all()


@pytest.mark.parametrize(
    ("spectrum", "expected"),
    [
        ([5.0, 5, 5, 3, 3], [5.0, 5, 5, 3]),
        ([5.0, 5, 5, 5, 5], [5.0, 5, 5, 5]),
        ([5.0, 4, 3, 2, 1], [5.0, 4, 3, 2]),
        ([-5.0, -5, 4, 4, 3], [-5.0, -5, 4, 4]),
    ],
)
def test_repeated_eigenvalues_are_all_found(spectrum: list[float], expected: list[float]) -> None:
    """Of a repeated eigenvalue a Krylov space holds one vector; numpy knows them all."""
    rng = np.random.default_rng(3)
    basis, _ = np.linalg.qr(rng.standard_normal((60, 60)))
    values = np.concatenate([spectrum, rng.uniform(-1, 1, 55)])
    matrix = torch.from_numpy(basis * values @ basis.T)

    class Operator:
        size, dtype, device, products = 60, torch.float64, torch.device("cpu"), 0

        def __call__(self, vector: torch.Tensor) -> torch.Tensor:
            self.products += 1
            return matrix @ vector

    operator = Operator()
    draw = torch.Generator().manual_seed(1)
    found = top_eigenvalues(operator, 4, iterations=40, tolerance=1e-6, generator=draw)
    assert bool(found.converged.all())
    assert found.values.tolist() == pytest.approx(expected, abs=1e-5)
    assert found.products == operator.products
