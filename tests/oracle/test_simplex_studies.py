"""The two studies: their data and optimiser against naive ones, and what they find."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from lossatlas.models.functional import Functional, flatten, state_of, unflatten
from lossatlas.simplex import sampling, sampling_bias, spirals
from lossatlas.simplex.strength import random_squared_edge
from lossatlas.store import Record, Rows
from lossatlas.training.engine import initialise
from lossatlas.training.seeds import generator
from parts import frame

torch.set_num_threads(1)


def test_spirals_mirror_each_other() -> None:
    split = spirals.spirals(500, generator("test spirals"))
    points = split.images[:, :, 0, 0]
    torch.testing.assert_close(points[:500], -points[500:])
    assert split.labels.bincount().tolist() == [500, 500]
    clean = spirals.spirals(500, generator("test spirals"), noise=0.0).images[:, :, 0, 0]
    radius = clean.norm(dim=1)
    largest = 1.5 * 600 * 2 * math.pi / 360
    assert float(radius.max()) <= largest
    assert float((radius < largest / 2).double().mean()) == pytest.approx(0.25, abs=0.06)
    assert float((points - clean).std()) == pytest.approx(1.0, abs=0.1)


def test_binary_is_cross_entropy_with_logits() -> None:
    module = initialise(spirals.Binary, 0)
    assert sum(p.numel() for p in module.parameters()) == 4_001
    x, labels = torch.randn(9, 2, 1, 1), torch.randint(0, 2, (9,))
    logits = module(x)
    two = torch.nn.functional.cross_entropy(logits, labels)
    one = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1], labels.float())
    torch.testing.assert_close(two, one)


def test_adam_is_that_of_torch() -> None:
    start = torch.randn(7)
    ours, theirs = spirals.Adam(start.clone()), torch.nn.Parameter(start.clone())
    peer = torch.optim.Adam([theirs], lr=spirals.RATE, weight_decay=spirals.WEIGHT_DECAY)
    for step in range(20):
        gradient = torch.randn(7, generator=generator("adam", step))
        ours.move(gradient)
        theirs.grad = gradient.clone()
        peer.step()
    torch.testing.assert_close(ours.theta, theirs.detach())


def test_a_simplex_grows_from_a_spiral_network() -> None:
    data = [spirals.spirals(n, generator("spirals", 0, n)) for n in (50, 100)]
    toy = spirals.Toy(Functional(spirals.Binary()), data[0], data[1], 0)
    base = flatten(state_of(initialise(spirals.Binary, 0))[0])
    vertices = toy.grow(base, 3.0)
    assert vertices.shape == (4, 4001)
    assert torch.equal(vertices[0], base)
    assert torch.isfinite(vertices).all()


def test_kolmogorov_test_and_mean_tell_as_well() -> None:
    record = sampling_bias.study()
    tests = frame(record, "tests")
    assert tests["p_kolmogorov"][:2].min() > 1e-3
    assert tests["p_kolmogorov"][2:].max() < 1e-100
    weights = sampling_bias.draws(False, 0)
    p = [stats.kstest(w, lambda x: 1 - (1 - x) ** 2).pvalue for w in weights.T]
    assert tests["p_kolmogorov"][0] == pytest.approx(min(p), rel=1e-6)


def small_toy(monkeypatch: pytest.MonkeyPatch) -> spirals.Toy:
    monkeypatch.setattr(spirals, "MEMBERS", 6)
    data = [spirals.spirals(n, generator("spirals", 0, n)) for n in (10, 15)]
    return spirals.Toy(Functional(spirals.Binary()), data[0], data[1], 0)


def test_summary_of_a_simplex_of_spirals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Network by network, as plain modules."""
    toy, module = small_toy(monkeypatch), spirals.Binary()
    base = flatten(state_of(initialise(spirals.Binary, 3))[0])
    noise = torch.randn(3, len(base), generator=generator("noise"))
    vertices = 2 * torch.cat([base[None], base + 0.2 * noise])
    rows = Rows()
    spirals._summarise(rows, toy, vertices, 0.5)
    (found,) = rows.rows

    def probabilities(point: torch.Tensor, images: torch.Tensor) -> np.ndarray:
        torch.nn.utils.vector_to_parameters(point, module.parameters())
        return module(images).double().softmax(1).detach().numpy()

    def nll(p: np.ndarray, labels: torch.Tensor) -> float:
        return float(-np.log(p[np.arange(len(labels)), labels.numpy()]).mean())

    points = spirals._points(toy, vertices, 6)
    train = [nll(probabilities(p, toy.train.images), toy.train.labels) for p in points]
    members = np.array([probabilities(p, toy.test.images) for p in points])
    mixed, labels = members.mean(axis=0), toy.test.labels
    logits = np.exp(np.log(members).mean(axis=0))
    first = probabilities(vertices[0], toy.test.images)
    edges = (vertices[1:] - vertices[0]).double()
    volumes = [
        float(torch.linalg.det(edges[:n] @ edges[:n].T)) / math.factorial(n) ** 2 for n in (1, 2, 3)
    ]
    votes = members.argmax(axis=2)
    apart = [np.mean(votes[i] != votes[j]) for i in range(6) for j in range(i)]
    wanted = {
        "seed": 0,
        "regularisation": 0.5,
        "train_loss": np.mean(train),
        "train_loss_max": np.max(train),
        "nll_base": nll(first, labels),
        "nll_sample": np.mean([nll(p, labels) for p in members]),
        "nll_ensemble": nll(mixed, labels),
        "nll_logits": nll(logits / logits.sum(axis=1, keepdims=True), labels),
        "accuracy_base": 100 * np.mean(first.argmax(axis=1) == labels.numpy()),
        "accuracy_ensemble": 100 * np.mean(mixed.argmax(axis=1) == labels.numpy()),
        "disagreement": 100 * np.mean(apart),
        **{f"squared_volume_{n}": v for n, v in enumerate(volumes, 1)},
    }
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name
    assert found["nll_logits"] != pytest.approx(found["nll_ensemble"], rel=1e-3)


def test_fields_are_probabilities_of_the_second_class(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = small_toy(monkeypatch)
    base = flatten(state_of(initialise(spirals.Binary, 3))[0])
    vertices = base.repeat(4, 1)
    vertices[1:, :3] += 0.1 * torch.eye(3)
    record = Record("two_spirals", tables=spirals._pictures(toy, vertices))
    assert {t.index["plane"] for t in record.tables if t.index} >= {"w0 w1 w2", "w1 w2 w3"}
    table = frame(record, "fields")
    places = torch.from_numpy(table[["x", "y"]].to_numpy()).float()
    p = torch.sigmoid(_logit(base, places)).detach().numpy()
    for name in ("ensemble", "sample0"):
        np.testing.assert_allclose(table[name], p, atol=0.02)


def _logit(point: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    module = spirals.Binary()
    torch.nn.utils.vector_to_parameters(point, module.parameters())
    return module(places[:, :, None, None])[:, 1]


@pytest.mark.parametrize("regularisation", [0.0, 3.0])
def test_vertices_of_spirals_are_trained_by_adam(
    regularisation: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses summed over samples, less strength times log(V^2 + 1e-4), by torch.optim."""
    monkeypatch.setattr(spirals, "VERTICES", 1)
    monkeypatch.setattr(spirals, "VERTEX_STEPS", 4)
    toy = small_toy(monkeypatch)
    base = flatten(state_of(initialise(spirals.Binary, 0))[0])
    found = toy.grow(base, regularisation)[1]
    edge = random_squared_edge(spirals.Binary())
    strength = regularisation / math.log(edge + 1e-4)
    theta = torch.nn.Parameter(base.clone())
    peer = torch.optim.Adam([theta], lr=0.01, weight_decay=1e-4)
    draw = generator("spirals", 0, 0)
    for _ in range(4):
        weights = sampling.uniform(5, 2, draw).float()
        total = -strength * torch.log((theta - base).square().sum() + 1e-4)
        for a, b in weights:
            params = unflatten(a * base + b * theta, toy.functional.shapes)
            logits = toy.functional(params, {}, toy.train.images, train=True)
            total = total + torch.nn.functional.cross_entropy(logits, toy.train.labels)
        peer.zero_grad()
        total.backward()
        peer.step()
    torch.testing.assert_close(found, theta.detach(), rtol=0, atol=2e-4)
    assert float((found - base).abs().max()) > 0.02


def test_quarters_have_equal_shares() -> None:
    weights = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6], [0.4, 0.3, 0.3]])
    assert sampling_bias.quarters(weights).tolist() == [0, 1, 2, 3]


def test_bias_study_tells_right_from_wrong() -> None:
    record = sampling_bias.study()
    tests, points = frame(record, "tests"), frame(record, "points")
    assert tests["wrong"].tolist() == [0, 0, 1, 1]
    assert tests["p_chi_square"][:2].min() > 1e-3
    assert tests["p_chi_square"][2:].max() < 1e-100
    assert tests["quarter3"][2] == pytest.approx(0.5, abs=0.01)
    assert tests["mean"][:2].tolist() == pytest.approx([1 / 3] * 2, abs=0.01)
    # The long axis of a uniform triangle: P(X > L / 2) = 1/4.
    chosen = (points["wrong"] == 0) & (points["elongated"] == 1)
    assert np.mean(points["x"][chosen] > 50) == pytest.approx(0.25, abs=0.1)
