"""Inner products of gradients from those of steps: against SGD run on given gradients."""

import numpy as np
import pytest

from lossatlas.diffusion.gradient_gram import Optimiser, gradient_products, noise_norms
from lossatlas.diffusion.gram import path_of_points

STEPS, SIZE = 150, 40


def run(optimiser: Optimiser) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (T, P), gradients (T - 1, P) and rates of SGD as its definition has it."""
    random = np.random.default_rng(3)
    gradients = random.standard_normal((STEPS, SIZE))
    rate = np.where(np.arange(STEPS) < 80, 0.1, 0.01)
    point, velocity, points = np.zeros(SIZE), np.zeros(SIZE), [np.zeros(SIZE)]
    for gradient, size in zip(gradients, rate, strict=True):
        whole = gradient + optimiser.weight_decay * point
        velocity = optimiser.momentum * velocity + whole
        move = whole + optimiser.momentum * velocity if optimiser.nesterov else velocity
        point = point - size * move
        points.append(point)
    return np.array(points), gradients, rate


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("first", [0, 20])
def test_products_are_those_of_the_gradients(
    momentum: float, nesterov: bool, decay: float, first: int
) -> None:
    optimiser = Optimiser(momentum, nesterov, decay)
    points, gradients, rate = run(optimiser)
    found, known = gradient_products(
        path_of_points(points[first:]), rate[first:], optimiser, from_start=first == 0
    )
    assert known == (0 if first == 0 or momentum == 0 else 60 if nesterov else 1)
    # with decay all have the same vector more
    wanted = gradients[first + known :] + decay * points[first]
    np.testing.assert_allclose(found, wanted @ wanted.T, atol=1e-6)
    epoch = np.arange(len(found)) // 7
    centred = [wanted[epoch == e] - wanted[epoch == e].mean(axis=0) for e in np.unique(epoch)]
    norms = np.linalg.norm(np.concatenate(centred), axis=1)
    if (epoch == epoch[-1]).sum() == 1:
        norms[-1] = np.nan
    np.testing.assert_allclose(noise_norms(found, epoch), norms, atol=1e-7)


def test_a_step_alone_in_its_epoch_has_no_noise() -> None:
    assert np.isnan(noise_norms(np.eye(3), np.array([0, 0, 1]))).tolist() == [False, False, True]


@pytest.mark.parametrize("rate", [np.ones(3), np.zeros(2)])
def test_each_step_needs_a_rate(rate: np.ndarray) -> None:
    path = path_of_points(np.arange(3.0))
    with pytest.raises(ValueError, match="2 steps need 2 positive learning rates"):
        gradient_products(path, rate, Optimiser(), from_start=True)
