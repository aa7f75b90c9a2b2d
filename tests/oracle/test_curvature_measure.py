"""The adapter: replicas in, a record with values, errors, statuses and what they came from out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from curvature_cases import dense_hessian, images_and_labels
from torch import nn

from lossatlas import store
from lossatlas.curvature import hessian_of, hutchinson_paper, power_iteration
from lossatlas.curvature.measure import images_of, measure
from lossatlas.curvature.operator import HessianOperator
from lossatlas.data.tensors import Split, TensorData
from lossatlas.differences import differences
from lossatlas.metrics.hessian import Hessian
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.models.mlp import MLP
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator
from lossatlas.training.state import State

torch.set_num_threads(1)
SEEDS = [3, 5]


def _modules() -> list[nn.Module]:
    found = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        found.append(MLP(num_classes=4, in_channels=1, image_size=4, width=5, depth=2))
    return found


def _networks(modules: list[nn.Module] | None = None, count: int = 40) -> Networks:
    modules = modules or _modules()
    images, labels = images_and_labels(count, size=4)
    split = Split(images.float(), labels)
    states = [state_of(module) for module in modules]
    params, buffers = stack([p for p, _ in states]), stack([b for _, b in states])
    other = Split(-split.images, split.labels)  # the test set has no part in it
    data = TensorData("noise", split, other, classes=4)
    return Networks(Functional(modules[0]), params, buffers, SEEDS[: len(modules)], data)


SMALL = {"samples": 30, "density_steps": 8}


def _dense(module: nn.Module, places: np.ndarray) -> torch.Tensor:
    images, labels = images_and_labels(40, size=4)
    names = [name for name, _ in module.named_parameters()]
    module = module.double()
    return dense_hessian(module, images[places], labels[places], names)


def _rows(record: store.Record, name: str) -> list[store.Scalar]:
    return [row for row in record.scalars if row.name == name]


def test_fixed_mode_against_the_dense_hessian():
    record = measure(_networks(), Hessian(eigenvalues=3, tolerance=1e-5, **SMALL))
    assert (record.kind, record.mode) == ("hessian", "fixed")
    assert {one.name for one in Hessian.outputs} <= {row.name for row in record.scalars}
    for place, module in enumerate(_modules()):
        matrix = _dense(module, record.arrays["images"].values[place])
        values = torch.linalg.eigvalsh(matrix)
        expected = values[values.abs().argsort(descending=True)][:3].tolist()
        for number, value in enumerate(expected):
            name = "hessian_eigenvalue" + (f"_{number + 1}" if number else "")
            row = _rows(record, name)[place]
            assert (row.replica, row.status) == (SEEDS[place], "ok")
            assert row.value == pytest.approx(value, rel=1e-4)
        total = _rows(record, "hessian_trace")[place]
        assert abs(total.value - matrix.trace().item()) < 4 * total.stderr
        assert total.status == "ok"
        residuals = record.arrays["residuals"].values[place]
        assert (residuals <= 1e-5 * np.abs(expected)).all()
    assert (record.arrays["converged"].values == 1).all()


def test_the_trace_and_its_error_can_be_redone_from_the_arrays():
    record = measure(_networks(), Hessian(**SMALL))
    probes, exact = record.arrays["trace_probes"].values, record.arrays["trace_exact"].values
    assert probes.shape == (2, 20)
    for place, row in enumerate(_rows(record, "hessian_trace")):
        assert row.value == pytest.approx(exact[place] + probes[place].mean())
        assert row.stderr == pytest.approx(probes[place].std(ddof=1) / math.sqrt(20))
    used = record.arrays["iterations"].values
    np.testing.assert_array_equal(record.arrays["products"].values, used + 40 + 2 * 8)


def test_density_series():
    record = measure(_networks(), Hessian(**SMALL))
    curves = [one for one in record.series if one.name == "hessian_density"]
    assert [(one.x_name, one.replica) for one in curves] == [("eigenvalue", seed) for seed in SEEDS]
    for one in curves:
        assert np.trapezoid(one.y, one.x) == pytest.approx(1, abs=1e-4)
    nodes, weights = (record.arrays[f"density_{n}"].values for n in ("nodes", "weights"))
    assert nodes.shape == weights.shape == (2, 2, 8)
    np.testing.assert_allclose(weights.sum(axis=2), 1)
    for place, one in enumerate(curves):
        first = (nodes[place] * weights[place]).sum(axis=1).mean()
        width = record.arrays["density_width"].values[place]
        assert np.trapezoid(one.x * one.y, one.x) == pytest.approx(first, rel=1e-3)
        assert one.x[0] == pytest.approx(nodes[place].min() - 5 * width)
    ritz = [one for one in record.series if one.name == "hessian_ritz"]
    asked = [(seed, probe) for seed in SEEDS for probe in (0, 1)]
    assert [(one.replica, one.index["probe"]) for one in ritz] == asked
    np.testing.assert_array_equal(np.array([one.x for one in ritz]), nodes.reshape(4, 8))
    np.testing.assert_array_equal(np.array([one.y for one in ritz]), weights.reshape(4, 8))
    none = measure(_networks(), Hessian(density_probes=0, samples=30))
    assert not none.series
    assert "density_nodes" not in none.arrays


def test_images_are_shared_in_fixed_mode_only():
    fixed, paper = Hessian(samples=10), Hessian(samples=10, mode="paper")
    assert torch.equal(images_of(40, 3, fixed), images_of(40, 5, fixed))
    assert not torch.equal(images_of(40, 3, paper), images_of(40, 5, paper))
    assert not torch.equal(images_of(40, 3, fixed), images_of(40, 3, Hessian(samples=10, seed=1)))
    assert len(images_of(40, 3, fixed).unique()) == 10
    assert images_of(7, 3, fixed).tolist() == list(range(7))


def test_paper_mode_is_power_iteration_and_hutchinson_on_own_images():
    settings = Hessian(mode="paper", probes=100, iterations=100, **SMALL)
    record = measure(_networks(), settings)
    images, labels = images_and_labels(40, size=4)
    places = record.arrays["images"].values
    assert not np.array_equal(places[0], places[1])
    for place, (seed, module) in enumerate(zip(SEEDS, _modules(), strict=True)):
        picked = torch.from_numpy(places[place])
        operator = hessian_of(module, images[picked].float(), labels[picked])
        top = power_iteration(operator, generator=generator("hessian", 0, seed, "start"))
        total = hutchinson_paper(operator, generator=generator("hessian", 0, seed, "probes"))
        assert _rows(record, "hessian_eigenvalue")[place].value == top.values.item()
        assert _rows(record, "hessian_trace")[place].value == total.value
        assert record.arrays["iterations"].values[place] == top.products
        kept = record.arrays["trace_probes"].values[place]
        np.testing.assert_array_equal(kept[~np.isnan(kept)], total.probes.numpy())


@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_too_few_iterations_are_flagged(mode):
    settings = Hessian(mode=mode, iterations=2, tolerance=1e-6, eigenvalues=2, **SMALL)
    record = measure(_networks(), settings)
    for name in ("hessian_eigenvalue", "hessian_eigenvalue_2"):
        assert {row.status for row in _rows(record, name)} == {"unconverged"}
        assert all(math.isfinite(row.value) for row in _rows(record, name))
    assert not record.arrays["converged"].values.any()
    assert (record.arrays["residuals"].values > 0).all()
    assert set(record.arrays["trace_converged"].values) == {mode == "fixed"}
    told = {"fixed": "ok", "paper": "unconverged"}[mode]  # the paper's rule has a tolerance, too
    assert {row.status for row in _rows(record, "hessian_trace")} == {told}


def test_each_eigenvalue_has_its_own_status():
    record = measure(_networks(), Hessian(iterations=12, eigenvalues=6, tolerance=1e-2, **SMALL))
    seen = set()
    for place, rank in np.ndindex(2, 6):
        row = _rows(record, "hessian_eigenvalue" + (f"_{rank + 1}" if rank else ""))[place]
        small = record.arrays["residuals"].values[place, rank] <= 1e-2 * abs(row.value)
        assert row.status == ("ok" if small else "unconverged")
        seen.add(row.status)
    assert len(seen) == 2


def test_same_numbers_each_time_and_for_each_replica_alone():
    both, again = measure(_networks(), Hessian(**SMALL)), measure(_networks(), Hessian(**SMALL))
    alone = measure(_networks(_modules()[:1]), Hessian(**SMALL))
    assert [row.value for row in both.scalars] == [row.value for row in again.scalars]
    assert [r.value for r in both.scalars if r.replica == 3] == [r.value for r in alone.scalars]


def test_the_seed_draws_the_probes_too():
    first, other = (
        measure(_networks(), Hessian(**{**SMALL, "samples": 40, "seed": s})) for s in (0, 1)
    )
    assert np.array_equal(first.arrays["images"].values, other.arrays["images"].values)
    assert not np.isclose(
        first.arrays["trace_probes"].values, other.arrays["trace_probes"].values
    ).any()


def test_does_not_depend_on_the_chunk():
    whole = measure(_networks(), Hessian(**SMALL))
    parts = measure(_networks(), Hessian(chunk=7, **SMALL))
    for one, other in zip(whole.scalars, parts.scalars, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4)


@pytest.mark.parametrize("mode", ["fixed", "paper"])
def test_more_eigenvalues_than_parameters(mode):
    settings = Hessian(mode=mode, parameters=r"layers\.5\.bias", eigenvalues=6, **SMALL)
    record = measure(_networks(), settings)
    last = _rows(record, "hessian_eigenvalue_6")
    assert [row.status for row in last] == ["undefined"] * 2
    assert all(math.isnan(row.value) for row in last)
    assert {row.status for row in _rows(record, "hessian_eigenvalue_3")} == {"ok"}
    assert {row.status for row in _rows(record, "hessian_eigenvalue_5")} == {"undefined"}
    exact = [row.stderr == 0 for row in _rows(record, "hessian_trace")]
    assert exact == [mode == "fixed"] * 2


def test_weights_that_overflow_are_undefined():
    modules = _modules()
    with torch.no_grad():
        modules[1].layers[1].weight.fill_(1e38)
        modules[1].layers[3].weight.fill_(1e38)
    for mode in ("fixed", "paper"):
        record = measure(_networks(modules), Hessian(mode=mode, **SMALL))
        bad = [row for row in record.scalars if row.replica == 5]
        assert {row.status for row in bad} == {"undefined"}
        assert all(math.isnan(row.value) for row in bad)
        assert {row.status for row in record.scalars if row.replica == 3} <= {"ok", "unconverged"}
        statuses = {(one.name, one.replica, one.status) for one in record.series}
        names = ("hessian_density", "hessian_ritz")
        assert statuses == {(n, r, s) for n in names for r, s in ((3, "ok"), (5, "undefined"))}


def test_collapsed_network():
    modules = _modules()
    with torch.no_grad():
        for parameter in modules[0].parameters():
            parameter.zero_()
    record = measure(_networks(modules), Hessian(**SMALL))
    assert all(math.isfinite(row.value) for row in record.scalars)


def test_no_replicas_and_the_file(tmp_path):
    networks = _networks()
    none = Networks(networks.functional, {}, {}, [], networks.data, diverged=SEEDS)
    assert measure(none, Hessian(**SMALL)).scalars == []
    record = measure(networks, Hessian(eigenvalues=2, **SMALL))
    store.write(tmp_path / "hessian.h5", record)
    read = store.read(tmp_path / "hessian.h5", "hessian")
    assert [str(row) for row in read.scalars] == [str(row) for row in record.scalars]
    assert set(read.arrays) == set(record.arrays)


@pytest.mark.parametrize(
    "settings",
    [{}, {"mode": "paper"}, {"density_probes": 0}, {"parameters": "bias", "density_steps": 20}],
    ids=["fixed", "paper", "no-density", "exhausted"],
)
@pytest.mark.parametrize("every", [1, 17])
def test_goes_on_after_the_products_that_were_taken(tmp_path, monkeypatch, settings, every):
    chosen = Hessian(eigenvalues=2, **{**SMALL, "probes": 16, **settings})
    whole = measure(_networks(), chosen)
    store.write(tmp_path / "whole.h5", whole)
    product, taken, left = HessianOperator.__call__, 0, every

    def stopping(operator, vector):
        nonlocal taken, left
        if left == 0:
            raise KeyboardInterrupt
        taken, left = taken + 1, left - 1
        return product(operator, vector)

    monkeypatch.setattr(HessianOperator, "__call__", stopping)
    resumed, kills = None, 0
    while resumed is None:
        try:
            resumed = measure(_networks(), chosen, State(tmp_path / "state", "key", every=0.0))
        except KeyboardInterrupt:
            kills, left = kills + 1, every
            assert kills < 1000  # else nothing is kept
    assert taken == whole.arrays["products"].values.sum()  # none was taken twice
    assert kills == (taken - 1) // every
    store.write(tmp_path / "resumed.h5", resumed)
    assert differences(tmp_path / "whole.h5", tmp_path / "resumed.h5") == []
