"""Planes against direct evaluation; ensembles and temperature against closed forms."""

import math

import numpy as np
import pytest
import torch
from test_simplex_spro import setting, split_of

from lossatlas.errors import UserError
from lossatlas.models.functional import unflatten
from lossatlas.similarity import predictions
from lossatlas.simplex import ensembles, planes


def test_raster_recovers_the_corners() -> None:
    a, b, c = torch.tensor([[1.0, 0, 2, 0], [3, 1, 2, 0], [2, 2, 1, 2]]).double()
    plane = planes.raster(torch.stack([a, b, c]), 5)
    lengths = [float((x - y).norm()) for x, y in ((a, b), (a, c), (b, c))]
    flat = [
        np.linalg.norm(plane.corners[i] - plane.corners[j]) for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert flat == pytest.approx(lengths)
    # Distances on the raster are those in parameter space: the picture is not distorted.
    points = torch.from_numpy(plane.weights) @ torch.stack([a, b, c])
    step = float((points[0, 1] - points[0, 0]).norm())
    assert step == pytest.approx(plane.u[1] - plane.u[0])
    assert float((points[1, 0] - points[0, 0]).norm()) == pytest.approx(plane.v[1] - plane.v[0])
    assert plane.weights.sum(2) == pytest.approx(1.0)
    assert plane.inside.any()
    assert not plane.inside[0, 0]


@pytest.mark.parametrize("size", [1, 8])
def test_plane_is_exact(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossatlas.simplex.points.group_size", lambda *_: size)
    monkeypatch.setattr(planes, "group_size", lambda *_: size)
    functional, corners, buffers = setting(count=3)
    split = split_of()
    plane = planes.raster(corners, 4)
    losses, errors = planes.evaluate(
        functional, corners, plane.weights, buffers, split, split.images
    )
    assert losses.shape == errors.shape == (4, 4)
    for place in ((0, 0), (2, 1), (3, 3)):
        point = torch.from_numpy(plane.weights[place]).float() @ corners
        params = unflatten(point, functional.shapes)
        own = {name: b.clone() for name, b in buffers.items()}
        with functional.norm_momentum(1.0):
            functional(params, own, split.images, train=True)
        logits = functional(params, own, split.images, train=False)
        loss = torch.nn.functional.cross_entropy(logits, split.labels)
        assert losses[place] == pytest.approx(float(loss), abs=1e-5)
        wrong = 100 * float((logits.argmax(1) != split.labels).float().mean())
        assert errors[place] == pytest.approx(wrong)


def test_bad_planes() -> None:
    line = torch.tensor([[0.0, 0, 0], [1, 1, 1], [3, 3, 3]])
    with pytest.raises(UserError, match="lie on one line"):
        planes.raster(line, 5)
    with pytest.raises(UserError, match="lie on one line"):
        planes.raster(line[[0, 0, 1]], 5)
    with pytest.raises(UserError, match="not finite"):
        planes.raster(line * math.nan, 5)
    with pytest.raises(ValueError, match="2 points a side"):
        planes.raster(torch.eye(3), 1)


A = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
B = np.log([[0.5, 0.4, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8]])
LABELS = np.array([0, 1, 0])


def test_mixture_of_two() -> None:
    found = ensembles.assess(ensembles.mixture(np.stack([A, B])), LABELS)
    assert found["nll"] == pytest.approx(0.8770297200, abs=1e-9)
    assert found["error"] == pytest.approx(100 / 3)
    nested = np.stack([A, B, A, B]).reshape(2, 2, 3, 3)
    np.testing.assert_allclose(ensembles.mixture(nested), ensembles.mixture(np.stack([A, B])))
    singles = (predictions.nll(A, LABELS) + predictions.nll(B, LABELS)) / 2
    assert found["nll"] <= singles  # Jensen


def test_diversity() -> None:
    votes = np.log(np.array([[[0.9, 0.1]] * 4, [[0.1, 0.9]] * 4, [[0.9, 0.1]] * 4]))
    assert ensembles.diversity(votes) == pytest.approx(100 * 2 / 3)
    assert math.isnan(ensembles.diversity(votes[:1]))


def test_temperature_is_recovered() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)) * 2
    labels = np.array([rng.choice(4, p=p) for p in np.exp(predictions.log_softmax(logits))])
    sharp = predictions.log_softmax(logits * 2.5)
    t = ensembles.temperature(sharp, labels)
    assert t == pytest.approx(2.5, rel=0.05)
    better = ensembles.scaled(sharp, t)
    assert predictions.nll(better, labels) < predictions.nll(sharp, labels)
    np.testing.assert_allclose(np.exp(better).sum(1), 1.0)


def test_a_member_of_nan_has_no_numbers() -> None:
    broken = np.stack([A, A])
    broken[1, 1, 1] = np.nan
    numbers = [ensembles.diversity(broken), ensembles.temperature(broken[1], LABELS)]
    numbers += ensembles.assess(ensembles.mixture(broken), LABELS).values()
    assert np.isnan(numbers).all()


def test_temperature_is_bounded() -> None:
    """Of predictions that are always right, and of those that say nothing."""
    assert ensembles.temperature(np.log([[0.6, 0.4]] * 3), np.zeros(3, int)) < np.exp(-2.99)
    assert ensembles.temperature(np.log([[0.6, 0.4]] * 3), np.ones(3, int)) > np.exp(2.99)


def test_empty_ensembles_and_splits() -> None:
    with pytest.raises(UserError, match="no held-out images"):
        ensembles.temperature(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(UserError, match="without members"):
        ensembles.mixture(np.zeros((0, 5, 3)))
