"""The performance metric against the modules themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from similarity_cells import cell, data, modules

from lossatlas import store
from lossatlas.measuring import add_diverged, measure_networks
from lossatlas.metrics.performance import Performance
from lossatlas.similarity import predictions


def rows(record):
    return {(s.name, s.replica): s for s in record.scalars}


def test_agrees_with_the_modules_in_evaluation_mode():
    members, of = modules(3), data()
    record = measure_networks(Performance(), cell(members, of, [2, 5, 9]))
    found = rows(record)
    for seed, module in zip([2, 5, 9], members, strict=True):
        for name, split in (("train", of.train), ("test", of.test)):
            with torch.no_grad():
                out = module(split.images)
            loss = F.cross_entropy(out.double(), split.labels).item()
            right = 100 * (out.argmax(1) == split.labels).double().mean().item()
            assert found[f"{name}_loss", seed].value == pytest.approx(loss, abs=1e-6)
            assert found[f"{name}_accuracy", seed].value == pytest.approx(right, abs=1e-9)
            assert found[f"{name}_loss", seed].unit == "nats"
            assert found[f"{name}_accuracy", seed].unit == "percent"
    ours = {one.name for one in Performance.outputs if not one.tasks}
    assert {name for name, _ in found} == ours
    assert {s.status for s in record.scalars} == {"ok"}


def test_ensemble_averages_probabilities():
    members, of = modules(3), data()
    found = rows(measure_networks(Performance(), cell(members, of)))
    with torch.no_grad():
        mean = torch.stack([m(of.test.images).double().softmax(1) for m in members]).mean(0)
    loss = F.nll_loss(mean.log(), of.test.labels).item()
    right = 100 * (mean.argmax(1) == of.test.labels).double().mean().item()
    assert found["ensemble_nll", None].value == pytest.approx(loss, abs=1e-6)
    assert found["ensemble_accuracy", None].value == pytest.approx(right, abs=1e-9)


def test_stored_predictions_are_enough_for_an_ensemble(tmp_path):
    members, of = modules(3), data()
    store.write(tmp_path / "p.h5", measure_networks(Performance(), cell(members, of, [1, 3, 8])))
    record = store.read(tmp_path / "p.h5", "performance")
    arrays = {name: array.values for name, array in record.arrays.items()}
    assert arrays["seeds"].tolist() == [1, 3, 8]
    assert arrays["test_logits"].shape == arrays["test_log_probs"].shape == (3, 24, 3)
    assert arrays["test_logits"].dtype == arrays["test_log_probs"].dtype == np.float32
    again = predictions.nll(
        predictions.ensemble_log_probs(arrays["test_log_probs"]), arrays["test_labels"]
    )
    assert again == pytest.approx(record.scalar("ensemble_nll").value, abs=1e-6)
    with torch.no_grad():
        third = members[2](of.test.images).numpy()
    assert arrays["test_logits"][2] == pytest.approx(third, abs=1e-6)


def test_leaves_the_networks_alone():
    networks = cell(modules(2), data())
    before = {k: v.clone() for k, v in {**networks.params, **networks.buffers}.items()}
    measure_networks(Performance(), networks)
    for name, tensor in {**networks.params, **networks.buffers}.items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.grad is None


def test_collapsed_network_is_what_it_is():
    members, of = modules(2), data()
    with torch.no_grad():
        members[0].head.weight.zero_()
        members[0].head.bias.zero_()
    found = rows(measure_networks(Performance(), cell(members, of)))
    share = 100 * (of.test.labels == 0).double().mean().item()
    assert found["test_loss", 0].value == pytest.approx(np.log(3), abs=1e-12)
    assert found["test_accuracy", 0].value == pytest.approx(share)
    assert found["test_accuracy", 0].status == "ok"


def test_outputs_that_are_not_finite_are_undefined():
    members, of = modules(2), data()
    with torch.no_grad():
        members[0].head.bias[1] = float("nan")
    found = rows(measure_networks(Performance(), cell(members, of)))
    for key, scalar in found.items():
        # the replica, and the ensemble that it is part of
        broken = key[1] in (0, None) and key[0] != "chance_loss"
        assert np.isnan(scalar.value) == broken, key
        assert (scalar.status == "undefined") == broken, key


def test_no_replica_ended_well(tmp_path):
    record = measure_networks(Performance(), cell([], data()))
    assert record.scalars == []
    add_diverged(record, Performance(), [], [0])
    store.write(tmp_path / "p.h5", record)
    found = store.read(tmp_path / "p.h5")
    assert {s.status for s in found.scalars} == {"diverged"}
    assert {s.name for s in found.scalars if s.replica is None} == {
        "ensemble_accuracy",
        "ensemble_nll",
        "chance_loss",
    }
