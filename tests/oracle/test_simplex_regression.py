"""The regression study: data, bands, the posterior in a plane, and where predictions are unsure."""

import math

import numpy as np
import pytest
import torch

from lossatlas.models.mlp import MLP
from lossatlas.simplex import regression
from lossatlas.training.seeds import generator
from parts import frame

torch.set_num_threads(1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few modes, vertices and steps."""
    for name, value in {"REPEATS": 1, "MODES": 3, "VERTICES": 1, "DRAWS": 6, "GRID": 15}.items():
        monkeypatch.setattr(regression, name, value)
    for name, epochs in {"BASE": 400, "GROW": 60, "CURVE": 100}.items():
        less = getattr(regression, name).model_copy(update={"epochs": epochs})
        monkeypatch.setattr(regression, name, less)


@pytest.fixture
def toy(quick: None) -> regression.Toy:
    return regression.Toy.trained(0)


def test_data_lie_in_the_clusters() -> None:
    split = regression.data(generator("test"))
    x, y = (t[:, 0].double().numpy() for t in (split.images, split.labels))
    inside = [(x >= low) & (x <= high) for low, high in regression.CLUSTERS]
    assert [int(some.sum()) for some in inside] == [regression.PER_CLUSTER] * 2
    curve = x + 0.3 * np.sin(2 * np.pi * x) + 0.3 * np.sin(4 * np.pi * x)
    assert float(np.std(y - curve)) == pytest.approx(regression.NOISE, rel=0.25)


def test_predictions_are_those_of_the_module(toy: regression.Toy) -> None:
    x = np.linspace(-1, 1, 7)
    module = MLP(num_classes=1, in_channels=1, image_size=1, width=32, depth=2)
    for point, found in zip(toy.modes, toy.predict(toy.modes, x), strict=True):
        torch.nn.utils.vector_to_parameters(point, module.parameters())
        wanted = module(torch.from_numpy(x).float()[:, None])[:, 0].detach()
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_bands_are_weighted_moments() -> None:
    predictions = np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 8.0]])
    mean, sd = regression.bands(predictions)
    np.testing.assert_allclose(mean, predictions.mean(0))
    np.testing.assert_allclose(sd, predictions.std(0))
    mean, sd = regression.bands(predictions, np.array([0.5, 0.5, 0.0]))
    np.testing.assert_allclose([*mean, *sd], [2, 2, 1, 0])


def test_posterior_in_the_plane_of_a_curve(toy: regression.Toy) -> None:
    """Point by point: the plane goes through both modes, the bend, and Bayes' rule is exact."""
    points, found = toy.plane()
    controls = toy.curve().double()
    torch.testing.assert_close(controls[[0, 2]].float(), toy.modes[:2])
    middle = controls.mean(0)
    edges = (controls[1:] - controls[0]).numpy()
    off = (points.double() - controls[0]).numpy()
    inside = off @ np.linalg.pinv(edges) @ edges
    np.testing.assert_allclose(inside, off, atol=1e-5)
    distances = (points.double() - middle).norm(dim=1).numpy()
    corner = distances.max() / math.sqrt(2)  # half a side of the grid
    x, y = (t[:, 0].double().numpy() for t in (toy.train.images, toy.train.labels))
    logs = []
    for point, distance in zip(points, distances, strict=True):
        misses = toy.predict(point[None], x)[0] - y
        scale = corner / regression.REACH
        prior = -0.5 * (distance / scale) ** 2
        logs.append(prior - (misses**2).sum() / (2 * regression.NOISE**2 * regression.TEMPERATURE))
    wanted = np.exp(np.array(logs) - max(logs))
    np.testing.assert_allclose(found, wanted / wanted.sum(), rtol=1e-3, atol=1e-9)


def test_predictions_are_less_sure_away_from_the_data(quick: None) -> None:
    record = regression.study()
    table = frame(record, "summary")
    assert len(table) == len(regression.METHODS)
    assert (table["sd_outside"] > 2 * table["sd_inside"]).all()
    assert (table["train_loss"] < 0.05).all()  # of values with a variance of 0.3
    bands = frame(record, "bands")
    for _, rows in bands.groupby("method"):
        ends = rows.sort_values("x")["sd"].to_numpy()
        middle = rows.loc[(rows["x"] > 0.4) & (rows["x"] < 0.7), "sd"].mean()
        assert min(ends[0], ends[-1]) > 1.5 * middle
