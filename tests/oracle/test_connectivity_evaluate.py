"""Values along a path, against plain PyTorch loops; the adapter's record."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from connectivity_cases import network, networks_of, random_split
from torch import nn

from lossatlas import store
from lossatlas.connectivity import (
    evaluate_path,
    evaluate_point,
    extremes,
    fit_curves,
    linear_barrier,
    shuffled,
    straight_line,
)
from lossatlas.connectivity.curves import Curve
from lossatlas.connectivity.measure import measure
from lossatlas.data.tensors import Split
from lossatlas.differences import differences
from lossatlas.errors import UserError
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.models.functional import Functional, state_of
from parts import curve

torch.set_num_threads(1)
T5 = np.linspace(0, 1, 5)
TRAIN, TEST = random_split(70, 1), random_split(30, 2)
QUICK = Connectivity(epochs=2, batch_size=16, learning_rate=0.1, points=5)


@torch.no_grad()
def plain(module: nn.Module, split: Split) -> tuple[float, float]:
    module.eval()
    logits = module(split.images)
    loss = F.cross_entropy(logits.double(), split.labels).item()
    return loss, 100 - 100 * (logits.argmax(1) == split.labels).double().mean().item()


@torch.no_grad()
def update_norms(module: nn.Module, images: torch.Tensor, batch: int) -> None:
    """The usual routine: reset, then a cumulative mean by momentum in one pass."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
    module.train()
    seen = 0
    for start in range(0, len(images), batch):
        x = images[start : start + batch]
        seen += len(x)
        for norm in norms:
            norm.momentum = len(x) / seen
        module(x)


def line(one: nn.Module, two: nn.Module) -> Curve:
    return straight_line(state_of(one), state_of(two))


@pytest.mark.parametrize("batch", [16, 32, 1024])
def test_a_path_equals_plain_loops(batch):
    one, two = network(1), network(2)
    path = evaluate_path(Functional(one), line(one, two), TRAIN, TEST, T5, batch=batch)
    module = network(3)
    pairs = zip(module.parameters(), one.parameters(), two.parameters(), strict=True)
    pairs = list(pairs)
    for i, t in enumerate(T5):
        for p, a, b in pairs:
            p.data = (1 - t) * a.data + t * b.data
        update_norms(module, TRAIN.images, batch)
        train, test = plain(module, TRAIN), plain(module, TEST)
        assert path.values("train_loss")[i] == pytest.approx(train[0], rel=1e-5)
        assert path.values("train_error")[i] == pytest.approx(train[1])
        assert path.values("test_loss")[i] == pytest.approx(test[0], rel=1e-5)
        assert path.values("test_error")[i] == pytest.approx(test[1])


@pytest.mark.parametrize("options", [{}, {"norm": False}, {"dropout": 0.5}])
def test_ends_with_stored_statistics_are_the_networks(options):
    one, two = network(1, **options), network(2, **options)
    straight, functional = line(one, two), Functional(one)
    for t, module in ((0.0, one), (1.0, two)):
        network_at = straight.at(t)
        module.eval()
        with torch.no_grad():
            expected = module(TEST.images)
            assert functional(*network_at, TEST.images, train=False).equal(expected)
        point = evaluate_point(functional, network_at, TRAIN, TEST, stored=True)
        assert point.test_loss == pytest.approx(plain(module, TEST)[0], rel=1e-5)
        assert point.train_error == pytest.approx(plain(module, TRAIN)[1])


def test_fresh_statistics_differ_from_stored_ones_only_with_norms():
    for norm in (True, False):
        module = network(1, norm=norm)
        functional, state = Functional(module), state_of(module)
        fresh = evaluate_point(functional, state, TRAIN, TEST)
        stored = evaluate_point(functional, state, TRAIN, TEST, stored=True)
        assert (fresh == stored) is not norm


def test_inputs_are_not_changed_and_dropout_repeats():
    one, two = network(1, dropout=0.5), network(2, dropout=0.5)
    straight, functional = line(one, two), Functional(one)
    before = straight.buffers[0]["norm.running_mean"].clone()
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first = evaluate_path(functional, straight, TRAIN, TEST, T5)
    assert torch.rand(2).equal(expected)
    assert evaluate_path(functional, straight, TRAIN, TEST, T5).points == first.points
    assert straight.buffers[0]["norm.running_mean"].equal(before)


def test_training_after_an_estimate_has_the_norms_own_momentum():
    module = network(1)
    functional, (params, buffers) = Functional(module), state_of(module)
    evaluate_point(functional, (params, buffers), TRAIN, TEST)
    functional(params, buffers, TRAIN.images, train=True)
    module.train()(TRAIN.images)
    for name, expected in module.named_buffers():
        torch.testing.assert_close(buffers[name], expected)


def test_a_loss_that_is_not_finite_has_no_error():
    one, two = network(1), network(2)
    with torch.no_grad():
        two.head.bias.fill_(math.nan)
    path = evaluate_path(Functional(one), line(one, two), TRAIN, TEST, T5)
    assert np.isnan(path.values("train_error")).tolist() == [False, True, True, True, True]
    assert np.isnan(path.values("test_loss")).tolist() == [False, True, True, True, True]


def test_linear_barrier_is_that_of_the_path():
    one, two = network(9), network(10)
    functional = Functional(one)
    errors = evaluate_path(functional, line(one, two), TRAIN, TEST, T5).values("train_error")
    expected = max(
        e - ((1 - t) * errors[0] + t * errors[-1]) for t, e in zip(T5, errors, strict=True)
    )
    found = linear_barrier(functional, state_of(one), state_of(two), TRAIN, TEST, points=5)
    assert found == pytest.approx(expected)
    assert found > 0
    assert linear_barrier(functional, state_of(one), state_of(one), TRAIN, TEST, points=5) == 0


def test_known_ends_are_not_measured_again():
    one, two = network(1), network(2)
    functional = Functional(one)
    first = evaluate_path(functional, line(one, two), TRAIN, TEST, T5)
    fake = (first.points[1], first.points[2])
    again = evaluate_path(functional, line(one, two), TRAIN, TEST, T5, ends=fake)
    assert again.points == (fake[0], *first.points[1:4], fake[1])


def test_a_last_batch_of_one_image_has_no_statistics():
    images = torch.randn(33, 1, 1, 1)
    train = Split(images, torch.zeros(33, dtype=torch.long))
    module = network(1)
    found = evaluate_point(Functional(module), state_of(module), train, TEST, batch=16)
    update_norms(module, images[:32], 16)
    assert found.test_loss == pytest.approx(plain(module, TEST)[0], rel=1e-5)


def test_empty_splits():
    state, functional = state_of(network(1)), Functional(network(1))
    for train, test in ((TRAIN.take(slice(0)), TEST), (TRAIN, TEST.take(slice(0)))):
        with pytest.raises(ValueError, match="needs training and test images"):
            evaluate_point(functional, state, train, test)


def test_shuffled_keeps_pairs_together():
    split = Split(torch.arange(50.0).view(50, 1, 1, 1), torch.arange(50))
    found = shuffled(split, "a")
    assert found.images.flatten().long().equal(found.labels)
    assert found.labels.sort().values.equal(split.labels)
    assert not found.labels.equal(split.labels)
    assert found.labels.equal(shuffled(split, "a").labels)


def by_pair(record: store.Record, name: str) -> dict[tuple[int, int], store.Scalar]:
    return {(s.replica, s.partner): s for s in record.scalars if s.name == name}


def test_record():
    networks = networks_of([network(seed) for seed in (1, 2, 3)], TRAIN, TEST)
    record = measure(networks, QUICK)
    assert {s.name for s in record.scalars} == {one.name for one in Connectivity.outputs}
    assert len(record.scalars) == 2 * 4
    assert all(s.status == "ok" and s.unit == "percent" for s in record.scalars)
    assert len(record.series) == 2 * 8
    for pair in ((0, 1), (1, 2)):
        bent, straight = (curve(record, "train_error", *pair, path=k) for k in ("bezier", "linear"))
        assert bent.x.tolist() == T5.tolist()
        assert (bent.x_name, bent.y_unit) == ("t", "percent")
        assert bent.y[[0, -1]].tolist() == straight.y[[0, -1]].tolist()
        found = extremes(T5, bent.y)
        assert by_pair(record, "mode_connectivity")[pair].value == found.connectivity
        assert by_pair(record, "path_dip")[pair].value == found.dip
        assert by_pair(record, "path_bump")[pair].value == found.bump
        assert by_pair(record, "linear_barrier")[pair].value == extremes(T5, straight.y).bump
    assert curve(record, "test_loss", 0, 1, path="bezier").y_unit == "nats"
    ends = [curve(record, "test_error", *pair, path="bezier").y for pair in ((0, 1), (1, 2))]
    assert ends[0][-1] == ends[1][0]
    assert record.arrays["pairs"].values.tolist() == [[0, 1], [1, 2]]
    arrays = {name: record.arrays[name].values for name in record.arrays}
    assert (arrays["curve_length"] >= arrays["straight_distance"]).all()
    assert arrays["steps"].sum(1) == pytest.approx(arrays["curve_length"], rel=0.05)
    assert arrays["stored_values"][0, 1, 1] == pytest.approx(plain(network(2), TRAIN)[1])


def test_the_line_of_the_record_equals_plain_loops():
    """Norms are estimated on one batch here: at most 256 images, whatever the fit's batch."""
    one, two = network(1), network(2)
    record = measure(networks_of([one, two], TRAIN, TEST), QUICK)
    series = {s.name: s.y for s in record.series if s.index == {"path": "linear"}}
    module = network(3)
    pairs = list(zip(module.parameters(), one.parameters(), two.parameters(), strict=True))
    for i, t in enumerate(T5):
        for p, a, b in pairs:
            p.data = (1 - t) * a.data + t * b.data
        update_norms(module, TRAIN.images, 256)
        for name, split in (("train", TRAIN), ("test", TEST)):
            loss, error = plain(module, split)
            assert series[f"{name}_loss"][i] == pytest.approx(loss, rel=1e-5)
            assert series[f"{name}_error"][i] == pytest.approx(error)


def test_curves_have_draws_of_their_own(monkeypatch):
    """Between the same two networks, pairs and seeds give different curves."""
    named = []

    def noted(*given):
        named.extend(given[4])
        return fit_curves(*given)

    monkeypatch.setattr("lossatlas.connectivity.measure.fit_curves", noted)
    networks = networks_of([network(seed) for seed in (1, 2, 1, 2)], TRAIN, TEST)
    chosen = QUICK.model_copy(update={"pairs": [[0, 1], [2, 3]]})
    for settings in (chosen, chosen.model_copy(update={"seed": 1})):
        arrays = measure(networks, settings).arrays
        one, two = arrays["curve_length"].values
        assert abs(one - two) > 2e-5 * one  # more than rounding
        assert len(set(arrays["straight_distance"].values)) == 1
    assert len(set(named)) == 4


def test_record_is_written_and_repeats(tmp_path):
    networks = networks_of([network(seed) for seed in (1, 2)], TRAIN, TEST)
    for name in ("one", "two"):
        store.write(tmp_path / name, measure(networks, QUICK))
    assert differences(tmp_path / "one", tmp_path / "two") == []


def test_paper_mode():
    networks = networks_of([network(seed) for seed in (5, 6, 1)], TRAIN, TEST)
    settings = QUICK.model_copy(update={"mode": "paper", "pairs": "all", "points": 21})
    record = measure(networks, settings)
    assert set(by_pair(record, "mode_connectivity")) == {(0, 1)}
    errors = curve(record, "train_error", path="bezier")
    assert errors.x.tolist() == [0, 0.25, 0.5, 0.75, 1]
    expected = extremes(T5, errors.y, "mean").connectivity
    assert record.scalar("mode_connectivity").value == expected
    assert expected != extremes(T5, errors.y, "line").connectivity
    assert record.mode == "paper"
    module = network(5)
    update_norms(module, shuffled(TRAIN, "connectivity", 0).images, QUICK.batch_size)
    assert errors.y[0] == pytest.approx(plain(module, TRAIN)[1])
    losses = curve(record, "test_loss", path="bezier")
    assert losses.y[0] == pytest.approx(plain(module, TEST)[0], rel=1e-5)
    arrays = {name: record.arrays[name].values for name in record.arrays}
    assert arrays["steps"].sum(1) == pytest.approx(arrays["curve_length"], rel=0.1)
    assert (arrays["curve_length"] > 1.2 * arrays["straight_distance"]).all()  # a random bend


def test_pairs_with_a_diverged_replica_are_left_out():
    networks = networks_of([network(seed) for seed in (1, 2, 3)], TRAIN, TEST, diverged=(1,))
    assert networks.seeds == [0, 2, 3]
    record = measure(networks, QUICK.model_copy(update={"curve": "polygon"}))
    assert set(by_pair(record, "path_bump")) == {(2, 3)}
    assert {s.index["path"] for s in record.series} == {"polygon", "linear"}
    assert measure(networks, QUICK.model_copy(update={"pairs": "first"})).scalars == []


def test_a_diverged_curve():
    networks = networks_of([network(seed) for seed in (1, 2)], TRAIN, TEST)
    record = measure(networks, QUICK.model_copy(update={"learning_rate": 1e30}))
    for name in ("mode_connectivity", "path_dip", "path_bump"):
        assert record.scalar(name).status == "diverged"
        assert math.isnan(record.scalar(name).value)
    assert record.scalar("linear_barrier").status == "ok"
    assert {s.index["path"] for s in record.series} == {"linear"}


def test_an_undefined_end():
    modules = [network(seed) for seed in (1, 2)]
    with torch.no_grad():
        modules[1].head.bias.fill_(3e38)
        modules[1].head.weight.fill_(3e38)
    record = measure(networks_of(modules, TRAIN, TEST), QUICK)
    assert {s.status for s in record.scalars} <= {"undefined", "diverged"}
    assert record.scalar("linear_barrier").status == "undefined"
    assert all(math.isnan(s.value) for s in record.scalars)
    assert curve(record, "train_error", path="linear").status == "undefined"


def test_bad_requests():
    networks = networks_of([network(seed) for seed in (1, 2)], TRAIN, TEST)
    with pytest.raises(UserError, match="no replica 7"):
        measure(networks, QUICK.model_copy(update={"pairs": [[0, 7]]}))
    few = networks_of([network(seed) for seed in (1, 2)], TRAIN.take(slice(0, 1)), TEST)
    with pytest.raises(UserError, match="too few"):
        measure(few, QUICK)
