"""The metric `alignment`: barriers and distances modulo permutations, beside those of others."""

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import lossatlas
import task_cases
from lossatlas.connectivity.curves import straight_line
from lossatlas.connectivity.evaluate import evaluate_path, shuffled
from lossatlas.data.tensors import Split, TensorData
from lossatlas.measuring import measure_networks
from lossatlas.metrics.alignment import Alignment
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.metrics.distance import Distance
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.permutation.trace import find
from lossatlas.store import Record
from lossatlas.training.networks import Networks
from permuted import built, images, labelled, moved, moves, networks

torch.set_num_threads(1)


def values(record: Record, pair: tuple[int, int] = (0, 1)) -> dict[str, float]:
    return {r.name: r.value for r in record.scalars if (r.replica, r.partner) == pair}


def copies(name: str, **arguments: object) -> Networks:
    """A network and two copies of it with permuted units."""
    module, x = built(name, **arguments), images(48)
    state = state_of(module)
    groups = find(Functional(module), state, x).groups
    others = [moved(state, groups, moves(groups, seed)) for seed in (1, 2)]
    return networks(module, others, labelled(x))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mlp", {"width": 24}),
        ("vgg9", {"width": 3}),
        ("resnet18", {"width": 3}),
        ("densenet40", {"width": 2}),
        ("vit", {"width": 4, "depth": 1}),
    ],
)
def test_permuted_copies_have_no_barrier_and_no_distance(
    name: str, arguments: dict[str, object]
) -> None:
    found = copies(name, **arguments)
    record = measure_networks(Alignment(points=3), found)
    assert {(r.replica, r.partner) for r in record.scalars} == {(0, 1), (1, 2)}
    for pair in ((0, 1), (1, 2)):
        got = values(record, pair)
        assert got["distance_before"] > 0.2
        assert got["distance_after"] == 0
        assert got["barrier_after"] == 0
        assert abs(got["loss_barrier_after"]) < 1e-5
        assert 0.5 < got["moved_share"] <= 1
        assert got["permuted_units"] == record.arrays["group_sizes"].values.sum()
        assert got["permuted_groups"] == len(record.arrays["group_sizes"].values)
    assert record.arrays["permutations"].values.shape == (2, int(got["permuted_units"]))


@cache
def digits() -> tuple[Split, Split]:
    found = load_digits()
    x = torch.tensor(found.data, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    y = torch.tensor(found.target)
    return Split(x[:1200], y[:1200]), Split(x[1200:], y[1200:])


def trained(seed: int, width: int) -> nn.Module:
    train, _ = digits()
    torch.manual_seed(seed)
    middle = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), *middle)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(15):
        for some in torch.randperm(len(train)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(train.tensor[some]), train.labels[some]).backward()
            optimiser.step()
    return model.eval()


@cache
def wide() -> Networks:
    ends = [trained(seed, 256) for seed in (0, 1)]
    params, buffers = (stack([state_of(end)[part] for end in ends]) for part in (0, 1))
    data = TensorData("digits", *digits(), 10)
    return Networks(Functional(ends[0]), params, buffers, [0, 1], data)


@pytest.mark.parametrize("matching", ["weights", "activations"])
def test_wide_networks_of_two_seeds_are_connected_modulo_permutations(matching: str) -> None:
    got = values(measure_networks(Alignment(points=7, matching=matching), wide()))
    assert got["loss_barrier_before"] > 0.05
    assert got["loss_barrier_after"] < got["loss_barrier_before"] / 4
    assert got["barrier_after"] <= got["barrier_before"]
    assert got["distance_after"] < got["distance_before"] - 0.1


def test_weights_come_nearer_than_activations_bring_them() -> None:
    one, other = (
        values(measure_networks(Alignment(points=3, matching=matching), wide()))["distance_after"]
        for matching in ("weights", "activations")
    )
    assert one < other


def test_repair_lowers_the_barrier_of_the_plain_line() -> None:
    """As in figure 1 of Jordan et al.: without it features between the ends fade."""
    plain, repaired = (
        values(measure_networks(Alignment(points=5, repair=repair), wide()))
        for repair in (False, True)
    )
    assert repaired["loss_barrier_before"] < plain["loss_barrier_before"]
    for name in ("distance_before", "distance_after", "moved_share"):
        assert repaired[name] == plain[name]


def test_before_is_what_other_metrics_say() -> None:
    module = built("resnet18", width=2)
    others = [state_of(built("resnet18", width=2))]
    others = [
        ({n: p + 0.3 * p.std() for n, p in others[0][0].items() if p.numel() > 1}, others[0][1])
    ]
    found = networks(module, others, labelled(images(48)))
    got = values(measure_networks(Alignment(points=5), found))
    apart = values(measure_networks(Distance(), found))
    assert got["distance_before"] == apart["normalised_distance"]
    curve = measure_networks(Connectivity(points=5, epochs=1), found)
    assert got["barrier_before"] == values(curve)["linear_barrier"]


def test_series_are_the_two_lines() -> None:
    found = wide()
    record = measure_networks(Alignment(points=5), found)
    train = shuffled(found.data.train, "connectivity", 0)
    line = straight_line(found.one(0), found.one(1))
    t = np.linspace(0, 1, 5)
    path = evaluate_path(found.functional, line, train, found.data.test, t)
    series = {(s.name, s.index["path"]): s for s in record.series}
    assert len(series) == 8
    for name in ("train_loss", "train_error", "test_loss", "test_error"):
        assert series[name, "before"].y.tolist() == path.values(name).tolist()
        ends = [series[name, which].y[[0, -1]] for which in ("before", "after")]
        assert ends[1] == pytest.approx(ends[0], rel=1e-5)
    y = series["train_loss", "before"].y
    rise = max(y - ((1 - t) * y[0] + t * y[-1]))
    assert values(record)["loss_barrier_before"] == pytest.approx(rise)


def test_batch_norm_is_estimated_anew_whatever_repair_says() -> None:
    found = copies("vgg9", width=3)
    one, other = (
        measure_networks(Alignment(points=3, repair=repair), found) for repair in (False, True)
    )
    assert values(one) == values(other)


@pytest.mark.parametrize("task", task_cases.ALL)
def test_every_task(task: str) -> None:
    ends = [task_cases.module(task) for _ in range(2)]
    for seed, end in enumerate(ends):
        torch.manual_seed(seed)
        for p in end.parameters():
            p.data = torch.randn_like(p) * 0.3
    params, buffers = (stack([state_of(end.eval())[part] for end in ends]) for part in (0, 1))
    data = task_cases.data(task, torch.float32, 0)
    found = Networks(Functional(ends[0]), params, buffers, [0, 1], data)
    for settings in ({}, {"matching": "activations"}, {"repair": True}):
        record = measure_networks(Alignment(points=3, samples=16, **settings), found)
        got, units = values(record), {r.name: r.unit for r in record.scalars}
        assert got["permuted_units"] > 0
        assert np.isfinite(got["loss_barrier_after"])
        scored = data.task.scored
        assert units["loss_barrier_before"] == data.task.unit
        assert units["barrier_before"] == ("percent" if scored else data.task.unit)
        if not scored:
            assert got["barrier_before"] == got["loss_barrier_before"]


def test_in_a_notebook() -> None:
    found, data = wide(), digits()
    one, two = (trained(seed, 256) for seed in (0, 1))
    got = lossatlas.align(one, two, (data[0].tensor, data[0].labels), points=7, progress=False)
    wanted = values(measure_networks(Alignment(points=7), found))
    assert {row.name: row.value for row in got.record.scalars} == wanted
    assert set(got.curves["series"]) == {"train_loss", "train_error"}
    x = data[1].tensor
    with torch.no_grad():
        torch.testing.assert_close(got.model(x), two(x), rtol=1e-4, atol=1e-4)
    assert not torch.equal(got.model[1].weight, two[1].weight)
    assert torch.equal(got.model[1].weight, two[1].weight[got.permutations[0]])
    assert ("1.weight", 0) in got.places[0]
    assert ("3.weight", 1) in got.places[0]
    got.plot()
    same = lossatlas.align(one, got.model, (x, data[1].labels), points=3)
    assert same["moved_share"].value == 0
