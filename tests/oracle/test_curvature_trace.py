"""The trace and its standard error, and the paper's stopping rule."""

from __future__ import annotations

import math
from pathlib import Path

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

from lossatlas.curvature import Lanczos, hessian_of, hutchinson_paper, top_eigenvalues, trace
from lossatlas.curvature.lanczos import gaussian, rademacher
from lossatlas.curvature.progress import Progress
from lossatlas.training.state import State

torch.set_num_threads(1)


def test_is_unbiased_and_its_standard_error_is_calibrated():
    matrix = spectrum_like_a_network(200)
    exact = matrix.trace().item()
    found = [trace(Dense(matrix), 40, generator=random(seed)) for seed in range(300)]
    z = np.array([(one.value - exact) / one.stderr for one in found])
    assert abs(np.mean([one.value - exact for one in found])) < 4 * np.std(
        [one.value for one in found]
    ) / math.sqrt(300)
    # Student's t with 19 degrees of freedom: s.d. 1.057, and 95 % within 2.093
    assert 0.95 < z.std() < 1.2
    assert 0.91 < np.mean(np.abs(z) < 2.093) < 0.985
    assert all(one.products == 40 and len(one.probes) == 20 for one in found)


def test_is_what_its_parts_say():
    found = trace(Dense(spectrum_like_a_network(50)), 11, generator=random())
    assert found.products == 11
    assert len(found.probes) == 6
    assert found.value == pytest.approx(found.exact + found.probes.mean().item())
    assert found.stderr == pytest.approx(found.probes.std().item() / math.sqrt(6))


def test_beats_plain_probes_on_a_spectrum_with_outliers():
    matrix = spectrum_like_a_network(300)
    exact, ours, plain = matrix.trace().item(), [], []
    for seed in range(40):
        ours.append(abs(trace(Dense(matrix), 40, generator=random(seed)).value - exact))
        all_40 = hutchinson_paper(Dense(matrix), 40, tolerance=0.0, generator=random(seed))
        assert all_40.products == 40
        plain.append(abs(all_40.value - exact))
    assert np.median(plain) > 5 * np.median(ours)


def test_goes_on_from_a_basis():
    matrix = spectrum_like_a_network(100)
    operator = Dense(matrix)
    lanczos = Lanczos(operator, gaussian(operator, random()), 10 + 5, random())
    for _ in range(10):
        lanczos.step()
    found = trace(operator, 10, generator=random(1), lanczos=lanczos)
    assert (lanczos.steps, operator.products, found.products) == (15, 20, 10)
    inside = (lanczos.basis @ matrix @ lanczos.basis.T).trace().item()
    assert found.exact == pytest.approx(inside)


@pytest.mark.parametrize("size", [1, 2, 12])
def test_is_exact_where_the_basis_spans_everything(size):
    matrix = spectrum_like_a_network(30)[:size, :size]
    found = trace(Dense(matrix), 60, generator=random())
    assert found.value == pytest.approx(matrix.trace().item(), rel=1e-10)
    assert found.stderr == 0.0
    assert found.products == size


def test_of_a_network():
    network = small_mlp()
    images, labels = images_and_labels(10, size=4)
    operator = hessian_of(network, images, labels)
    exact = dense_hessian(network, images, labels, operator.names).trace().item()
    found = trace(operator, 60, generator=random())
    assert abs(found.value - exact) < 4 * found.stderr
    assert found.stderr < 0.1 * exact


def test_a_product_that_is_not_finite():
    matrix = spectrum_like_a_network(50)
    matrix[3, 3] = float("nan")
    assert math.isnan(trace(Dense(matrix), 10, generator=random()).value)


def test_refuses_too_few_products():
    with pytest.raises(ValueError, match="at least 3"):
        trace(Dense(torch.eye(3)), 2, generator=random())


def _paper_by_hand(matrix: np.ndarray, probes: list[np.ndarray], tolerance: float):
    estimates: list[float] = []
    mean = 0.0
    for z in probes:
        estimates.append(z @ matrix @ z)
        if abs(np.mean(estimates) - mean) / (mean + 1e-6) < tolerance:
            return estimates, True
        mean = np.mean(estimates)
    return estimates, False


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
def test_paper_rule(seed, tolerance):
    matrix = spectrum_like_a_network(100)
    generator = random(seed)
    probes = [rademacher(Dense(matrix), generator).numpy() for _ in range(100)]
    estimates, converged = _paper_by_hand(matrix.numpy(), probes, tolerance)
    found = hutchinson_paper(Dense(matrix), 100, tolerance=tolerance, generator=random(seed))
    np.testing.assert_allclose(found.probes.numpy(), estimates)
    assert found.converged == converged
    assert found.products == len(estimates)
    assert found.value == pytest.approx(np.mean(estimates))


def test_paper_rule_stops_at_once_on_a_negative_mean():
    matrix = spectrum_like_a_network(100, sign=-1.0)
    found = hutchinson_paper(Dense(matrix), 100, generator=random())
    assert found.value < 0
    assert found.products == 2
    assert found.converged
    assert trace(Dense(matrix), 40, generator=random()).products == 40


def test_paper_rule_says_when_it_ran_out():
    found = hutchinson_paper(
        Dense(spectrum_like_a_network(100)), 5, tolerance=1e-9, generator=random()
    )
    assert not found.converged
    assert found.products == 5


def test_probes_are_independent_signs():
    draws = torch.stack([rademacher(Dense(torch.eye(400)), random(s)) for s in range(50)])
    assert set(draws.unique().tolist()) == {-1.0, 1.0}
    assert abs(draws.mean().item()) < 4 / math.sqrt(draws.numel())
    assert not torch.equal(draws[0], draws[1])


@pytest.mark.parametrize("products", range(1, 28, 3))
def test_eigenvalues_and_trace_share_one_progress(tmp_path: Path, products: int) -> None:
    """Killed after any product, each finds its own notes again, and no product is repeated."""

    class Killed(Dense):
        left = products

        def __call__(self, vector: torch.Tensor) -> torch.Tensor:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return super().__call__(vector)

    def both(operator: Dense, progress: Progress) -> list[float]:
        top = top_eigenvalues(
            operator, 2, iterations=12, tolerance=1e-12, generator=random(1), progress=progress
        )
        total = trace(operator, 16, generator=random(2), progress=progress)
        return [*top.values.tolist(), total.value, total.stderr]

    matrix = spectrum_like_a_network(60)
    whole = both(Dense(matrix), Progress())
    operator = Killed(matrix)
    with pytest.raises(KeyboardInterrupt):
        both(operator, Progress(State(tmp_path / "state", "key", every=0.0)))
    operator.left = 28 - products
    operator.products = 0
    assert both(operator, Progress(State(tmp_path / "state", "key", every=0.0))) == whole
    assert operator.left == 0
