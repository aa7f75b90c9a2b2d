"""SWA and SWAG against torch.optim, moments by hand, and covariances by Monte Carlo."""

import numpy as np
import pytest
import torch
from simplex_cases import FAST, split
from torch import Tensor, nn

from lossatlas.data.tensors import TensorData
from lossatlas.metrics.espro import Espro
from lossatlas.metrics.spro import Spro
from lossatlas.models.functional import Functional, flatten, state_of, unflatten
from lossatlas.models.mlp import MLP
from lossatlas.simplex import measure_espro, swag
from lossatlas.spec.parts import Recipe
from lossatlas.store import Record
from lossatlas.training.engine import Engine
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator
from parts import frame

torch.set_num_threads(1)
EPOCHS, RATE = 5, 0.03


def trajectory(module: MLP) -> Tensor:
    """Train with torch.optim and return the weights after each epoch, float64."""
    data, found = split(40, 0), []
    optimiser = torch.optim.SGD(module.parameters(), RATE, momentum=0.9, weight_decay=0.05)
    for epoch in range(EPOCHS):
        order = torch.randperm(40, generator=generator("swag", "some", 3, epoch))
        for index in order.split(16)[:2]:  # 8 images make no batch
            optimiser.zero_grad()
            logits = module(data.images[index])
            nn.functional.cross_entropy(logits, data.labels[index]).backward()
            optimiser.step()
        found.append(flatten(state_of(module)[0]).double())
    return torch.stack(found)


@pytest.mark.parametrize("rank", [2, 5])
def test_moments_of_a_trajectory(rank: int) -> None:
    """The definitions, of all weights at once: means, variances, the last deviations."""
    module = MLP(3, 1, 3, 4, 1)
    params, buffers = state_of(module)
    given = {"epochs": EPOCHS, "rate": RATE, "rank": rank, "batch_size": 16}
    settings, start = Spro(weight_decay=0.05), flatten(params)
    found = swag.collect(
        Functional(module), buffers, start, split(40, 0), **given, settings=settings,
        words=("some", 3),
    )  # fmt: skip
    path = trajectory(module)
    apart = torch.stack([path[i] - path[: i + 1].mean(0) for i in range(EPOCHS)])
    torch.testing.assert_close(found.mean, path.mean(0).float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.deviations, apart[-rank:].float(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.variance, path.var(0, correction=0), rtol=1e-3, atol=1e-9)
    assert float(found.variance.max()) > 1e-4  # there is something to compare


def test_weights_that_are_not_trained_have_no_variance() -> None:
    module = MLP(3, 1, 3, 6, 1)
    module.layers[1].requires_grad_(False)
    params, buffers = state_of(module)
    start = flatten(params)
    fixed = torch.cat([torch.full_like(p, "layers.1" in n).flatten() for n, p in params.items()])
    given = {"epochs": 3, "rate": 0.1, "rank": 3, "batch_size": 16, "settings": Spro()}
    around = swag.collect(Functional(module), buffers, start, split(32, 0), **given)
    draws = around.draw(4, torch.Generator().manual_seed(0))
    assert (draws[:, fixed == 1] == start[fixed == 1]).all()
    assert (draws[:, fixed == 0] != start[fixed == 0]).all()


@pytest.mark.parametrize("rank", [2, 6])
def test_mean_and_covariance_of_draws(rank: int) -> None:
    """1/2 (diag variance + D D^T / (K - 1)) of Maddox et al. (2019), within 5 standard errors.

    Of N Gaussian draws the mean has variance C_ii / N, the covariance
    (C_ii C_jj + C_ij^2) / (N - 1). Of 44 such numbers one beyond 5 has probability 3e-5.
    """
    draw, size, count = torch.Generator().manual_seed(7), 8, 20_000
    mean, deviations = (torch.randn(n, size, generator=draw) for n in (1, rank))
    variance = torch.rand(size, generator=draw, dtype=torch.float64)
    around = swag.Gaussian(mean[0], variance, deviations)
    found = around.draw(count, torch.Generator().manual_seed(1)).double().numpy()
    d = deviations.double().numpy().T
    expected = 0.5 * (np.diag(variance.numpy()) + d @ d.T / (rank - 1))
    spread = np.diag(expected)
    off = np.abs(found.mean(0) - mean[0].numpy()) / np.sqrt(spread / count)
    assert off.max() < 5
    error = np.sqrt((np.outer(spread, spread) + expected**2) / (count - 1))
    assert (np.abs(np.cov(found.T) - expected) / error).max() < 5
    assert np.abs(expected - np.diag(spread)).max() > 10 * error.max()  # the low rank matters


class Normed(nn.Module):
    """Its BatchNorm needs statistics of its own for weights that are averaged or drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(9, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.norm(self.first(x.flatten(1)))))


SETTINGS = Espro(
    **FAST, vertices=1, draws=3, cycles=0, severities=[0.5], components=2,
    swag_epochs=4, swag_rate=0.05, swag_rank=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def networks() -> Networks:
    data = TensorData("toy", split(160, 0), split(90, 1), 3, split(70, 2))
    trained = Engine(Normed, Recipe(epochs=6, batch_size=32), [0, 4], data.train).train()
    params, buffers = trained.checkpoints["final"]
    return Networks(trained.functional, params, buffers, [0, 4], data, epochs=6)


@pytest.fixture(scope="module")
def record(networks: Networks) -> Record:
    return measure_espro.measure(networks, SETTINGS)


def test_norms_of_averaged_and_drawn_networks(
    networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions are those of the weights with the statistics of the whole training set."""
    points: list[dict[int, Tensor]] = []
    made = measure_espro._points

    def keep(*given):
        points.append(made(*given))
        return points[-1]

    monkeypatch.setattr(measure_espro, "_points", keep)
    arrays = measure_espro.measure(networks, SETTINGS).arrays
    functional, data = networks.functional, networks.data
    farthest = 0.0
    for index, own in enumerate(points):
        buffers = networks.one(index)[1]
        for code, name in ((-2, "swa"), (-3, "swag")):
            assert len(own[code]) == (1 if name == "swa" else SETTINGS.draws)
            for sample, point in enumerate(own[code]):
                params = unflatten(point, functional.shapes)
                anew = {key: b.clone() for key, b in buffers.items()}
                with functional.norm_momentum(1.0), torch.no_grad():
                    functional(params, anew, data.train.images, train=True)
                    logits = functional(params, anew, data.test.images, train=False)
                    stale = functional(params, buffers, data.test.images, train=False)
                wanted = torch.log_softmax(logits, 1).numpy()
                found = arrays[f"{name}_test_log_probs"].values[index, sample]
                np.testing.assert_allclose(found, wanted, atol=1e-4)
                farthest = max(farthest, float((stale - logits).abs().max()))
    assert farthest > 1e-2


def test_tables_have_both_methods(record: Record) -> None:
    for name in ("ensembles", "reliability"):
        assert sorted(frame(record, name)["method"].unique()) == [-3, -2, 0, 1]
    assert sorted(frame(record, "corruption", kind="noise")["method"].unique()) == [-3, -2, 0, 1]
    table = frame(record, "ensembles").set_index(["method", "components", "group"])
    for method in (-2, -3):
        assert table.loc[(method, 2, 0), "passes"] == 2 * (6 + 4)  # training, then swag_epochs
    logs = record.arrays["swag_test_log_probs"].values.astype(float)
    assert logs.shape == (2, 3, 90, 3)
    labels = record.arrays["test_labels"].values
    mean = np.exp(logs).reshape(6, 90, 3).mean(0)
    expected = -np.log(mean[np.arange(90), labels]).mean()
    assert table.loc[(-3, 2, 0), "nll"] == pytest.approx(expected, rel=1e-5)


def test_draws_differ_between_replicas_and_seeds(networks: Networks, record: Record) -> None:
    other = measure_espro.measure(networks, SETTINGS.model_copy(update={"seed": 1}))
    first, second = (r.arrays["swag_test_log_probs"].values for r in (record, other))
    assert np.unique(first.reshape(6, -1), axis=0).shape[0] == 6
    assert not np.isclose(first, second).all()


def test_without_swag_all_else_is_the_same(networks: Networks, record: Record) -> None:
    """Bit for bit: baselines have random numbers of their own."""
    bare = measure_espro.measure(networks, SETTINGS.model_copy(update={"swag_epochs": 0}))
    assert {name for name in record.arrays if "swa" in name} == set(record.arrays) - set(
        bare.arrays
    )
    for name, array in bare.arrays.items():
        np.testing.assert_array_equal(array.values, record.arrays[name].values)
