"""The tables of ensembles against plain arithmetic on the stored log-probabilities."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lossatlas.data.tensors import Split, TensorData
from lossatlas.metrics.espro import Espro
from lossatlas.models.functional import unflatten
from lossatlas.simplex import measure_espro
from lossatlas.simplex.points import rows
from lossatlas.simplex.shifts import Shifts
from lossatlas.spec.parts import Recipe
from lossatlas.store import Record
from lossatlas.training.engine import Engine
from lossatlas.training.networks import Networks
from parts import frame

torch.set_num_threads(1)
SETTINGS = {"epochs": 2, "batch_size": 32, "samples": 2, "vertices": 1, "draws": 3}
NAMES = {-1: "fge", 0: "simplex0", 1: "simplex1"}


class Normed(nn.Module):
    """Its BatchNorm needs statistics of its own at every point."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(9, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.first(x.flatten(1)))))


def split(count: int, seed: int) -> Split:
    images = torch.randn(count, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    flat = images.flatten(1)
    return Split(images, (flat[:, :3] * flat[:, 3:6]).argmax(1))


@pytest.fixture(scope="module")
def networks() -> Networks:
    data = TensorData("toy", split(160, 0), split(90, 1), 3, split(70, 2))
    trained = Engine(Normed, Recipe(epochs=12, batch_size=32), [0, 1, 4, 5], data.train).train()
    params, buffers = trained.checkpoints["final"]
    return Networks(trained.functional, params, buffers, [0, 1, 4, 5], data, epochs=12)


@pytest.fixture(scope="module")
def espro(networks: Networks) -> Record:
    more = {"severities": [0.3, 0.9], "cycles": 1, "cycle_epochs": 2, "components": 3}
    return measure_espro.measure(networks, Espro(learning_rate=0.05, **more, **SETTINGS))


def stored(record: Record, method: float, what: str) -> np.ndarray:
    """Return probabilities in float64: (component, sample or severity, image, class)."""
    return np.exp(record.arrays[f"{NAMES[int(method)]}_{what}_log_probs"].values.astype(float))


def mean(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.reshape(-1, *probabilities.shape[-2:]).mean(axis=0)


def tempered(probabilities: np.ndarray, t: float) -> np.ndarray:
    powers = probabilities ** (1 / t)
    return powers / powers.sum(axis=1, keepdims=True)


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Error, NLL, calibration error and Brier score, by their definitions."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    calibration = 0.0
    for k in range(15):
        here = (confidence >= k / 15) & ((confidence < (k + 1) / 15) | (k == 14))
        if here.any():
            calibration += here.mean() * abs(right[here].mean() - confidence[here].mean())
    return {
        "error": 100 * (1 - right.mean()),
        "nll": -np.log(probabilities[np.arange(len(labels)), labels]).mean(),
        "ece": calibration,
        "brier": np.square(probabilities - np.eye(3)[labels]).sum(axis=1).mean(),
    }


def is_best(t: float, probabilities: np.ndarray, labels: np.ndarray) -> bool:
    """At the best temperature the mean log-probability equals that of the labels."""
    logs = np.log(probabilities)
    expected = (tempered(probabilities, t) * logs).sum(axis=1).mean()
    slope = expected - logs[np.arange(len(labels)), labels].mean()
    return abs(slope) < 1e-3 or not np.exp(-2.99) < t < np.exp(2.99)


CIRCLES = {  # of 4 components: the groups, and which of them share none
    1: [([0], 1), ([1], 1), ([2], 1), ([3], 1)],
    2: [([0, 1], 1), ([1, 2], 0), ([2, 3], 1), ([3, 0], 0)],
    3: [([0, 1, 2], 1), ([1, 2, 3], 0), ([2, 3, 0], 0), ([3, 0, 1], 0)],
}


def test_every_ensemble(networks: Networks, espro: Record) -> None:
    """Temperatures are those of the held-out images, and what they scale is the test's."""
    table = frame(espro, "ensembles")
    labels, held = networks.data.test.labels.numpy(), networks.data.held_out.labels.numpy()
    assert len(table) == 3 * 3 * 4
    for row in table.to_dict("records"):
        chosen, apart = CIRCLES[int(row["components"])][int(row["group"])]
        assert row["disjoint"] == apart
        test = mean(stored(espro, row["method"], "test")[chosen])
        assert is_best(
            row["temperature"], mean(stored(espro, row["method"], "held_out")[chosen]), held
        )
        for name, value in scores(test, labels).items():
            assert row[name] == pytest.approx(value, rel=1e-5, abs=1e-7)
        for name, value in scores(tempered(test, row["temperature"]), labels).items():
            assert row[f"{name}_scaled"] == pytest.approx(value, rel=1e-5, abs=1e-7)


def test_reliability_by_bins(networks: Networks, espro: Record) -> None:
    table, labels = frame(espro, "reliability"), networks.data.test.labels.numpy()
    held = networks.data.held_out.labels.numpy()
    temperatures = frame(espro, "ensembles").query("components == 3 and group == 0")
    for method, t in zip(temperatures["method"], temperatures["temperature"], strict=True):
        assert is_best(t, mean(stored(espro, method, "held_out")[:3]), held)
        plain = mean(stored(espro, method, "test")[:3])
        for scaled, probabilities in ((0, plain), (1, tempered(plain, t))):
            rows_ = table[(table["method"] == method) & (table["scaled"] == scaled)]
            confidence = probabilities.max(axis=1)
            right = probabilities.argmax(axis=1) == labels
            expected = []
            for k in range(15):
                here = (confidence >= k / 15) & ((confidence < (k + 1) / 15) | (k == 14))
                if here.any():
                    expected.append([k, here.mean(), confidence[here].mean(), right[here].mean()])
            found = rows_[["bin", "share", "confidence", "accuracy"]].to_numpy()
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_reliability_in_bins_of_equally_many_images(networks: Networks, espro: Record) -> None:
    table, labels = frame(espro, "reliability_by_mass"), networks.data.test.labels.numpy()
    for method in table["method"].unique():
        plain = mean(stored(espro, method, "test")[:3])
        rows_ = table[(table["method"] == method) & (table["scaled"] == 0)].sort_values("bin")
        assert rows_["images"].sum() == len(labels)
        assert rows_["images"].max() - rows_["images"].min() <= 1
        confidence = np.sort(plain.max(axis=1))
        ends = np.cumsum([0, *rows_["images"]])
        wanted = [confidence[a:b].mean() for a, b in itertools.pairwise(ends)]
        np.testing.assert_allclose(rows_["confidence"], wanted, rtol=1e-5)
        assert rows_["right"].sum() == (plain.argmax(axis=1) == labels).sum()


def test_shifted_images(networks: Networks, espro: Record) -> None:
    table, labels = frame(espro, "corruption"), networks.data.test.labels.numpy()
    assert len(table) == 3 * 4 * 3
    for row in table.to_dict("records"):
        chosen, apart = CIRCLES[2][int(row["group"])]
        assert (row["components"], row["disjoint"]) == (2, apart)
        place = [0.0, 0.3, 0.9].index(row["severity"])
        noisy = stored(espro, row["method"], "noise")[chosen][:, max(place - 1, 0)]
        test = mean(noisy) if place else mean(stored(espro, row["method"], "test")[chosen])
        ensembles = frame(espro, "ensembles").query("components == 2")
        same = ensembles.query(f"method == {row['method']} and group == {row['group']}")
        calm = scores(tempered(test, float(same["temperature"].iloc[0])), labels)
        for name, value in scores(test, labels).items():
            assert row[name] == pytest.approx(value, rel=1e-5, abs=1e-7)
        assert row["nll_scaled"] == pytest.approx(calm["nll"], rel=1e-5)
        assert row["ece_scaled"] == pytest.approx(calm["ece"], rel=1e-4)


def test_noise_has_its_severity_and_is_the_same_for_all(networks: Networks) -> None:
    clean = networks.data.test.images
    one, two = ([x - clean for x in Shifts(networks.data, s).images("noise")]
                for s in ([0.5, 2.0], [0.5, 4.0]))  # fmt: skip
    assert [float(x.std()) for x in one] == pytest.approx([0.5, 2.0], rel=0.1)
    torch.testing.assert_close(one[0], two[0])
    torch.testing.assert_close(2 * one[1], two[1], rtol=1e-4, atol=1e-5)
    together = np.corrcoef(one[0].flatten(), one[1].flatten())[0, 1]
    assert abs(together) < 4 / np.sqrt(clean.numel())  # each severity has noise of its own


def test_disagreement_of_samples_and_of_modes(espro: Record) -> None:
    def apart(votes: np.ndarray) -> float:
        pairs = [(i, j) for i in range(len(votes)) for j in range(i)]
        return 100 * np.mean([np.mean(votes[i] != votes[j]) for i, j in pairs])

    inside = stored(espro, 1, "test").argmax(axis=-1)
    found = [s.value for s in espro.scalars if s.name == "simplex_disagreement"]
    assert found == pytest.approx([apart(votes) for votes in inside])
    modes = stored(espro, 0, "test").argmax(axis=-1)[:, 0]
    seeds = [0, 1, 4, 5]
    between = {(s.replica, s.partner): s.value for s in espro.scalars if "mode" in s.name}
    assert between == {
        (seeds[i], seeds[j]): pytest.approx(apart(modes[[i, j]]))
        for j in range(4)
        for i in range(j)
    }


def test_norms_are_estimated_anew_but_for_the_replicas(networks: Networks) -> None:
    """A simplex of one point is the replica, with the statistics of the whole training set."""
    still = {"learning_rate": 1e-12, "weight_decay": 0.0, "jitter": 0.0, "regularisation": 0.0}
    settings = Espro(**still, **SETTINGS, cycles=0, severities=[], components=1)
    record = measure_espro.measure(networks, settings)
    functional, data = networks.functional, networks.data
    for index, point in enumerate(rows(networks.params, functional.shapes)):
        params, buffers = unflatten(point, functional.shapes), networks.one(index)[1]
        own = {name: b.clone() for name, b in buffers.items()}
        with functional.norm_momentum(1.0):
            functional(params, own, data.train.images, train=True)
        for what, images in (("test", data.test.images), ("held_out", data.held_out.images)):
            for method, chosen in ((0, buffers), (1, own)):
                logits = functional(params, chosen, images, train=False)
                wanted = torch.log_softmax(logits, 1).detach().numpy()
                found = record.arrays[f"simplex{method}_{what}_log_probs"].values[index]
                for sample in found:
                    np.testing.assert_allclose(sample, wanted, atol=1e-4)
        gap = functional(params, own, data.test.images, train=False)
        gap = gap - functional(params, buffers, data.test.images, train=False)
        assert float(gap.detach().abs().max()) > 1e-2


def test_each_simplex_has_draws_of_its_own() -> None:
    settings = Espro(draws=2000)
    corners = torch.eye(3)
    weights = {
        key: measure_espro.sample(corners, settings.model_copy(update={"seed": key[0]}), key[1])
        for key in ((0, 0), (0, 1), (1, 0))
    }
    for one in weights.values():
        torch.testing.assert_close(one.sum(1), torch.ones(2000))
        assert float((one > 0.5).any(1).float().mean()) == pytest.approx(0.75, abs=0.04)
    for key in ((0, 1), (1, 0)):
        assert abs(np.corrcoef(weights[0, 0][:, 0], weights[key][:, 0])[0, 1]) < 0.1
