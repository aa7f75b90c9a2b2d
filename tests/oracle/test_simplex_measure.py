"""The three simplex metrics on tiny networks: tables, identities, resume, and bad input."""

import math
from dataclasses import replace
from itertools import combinations, pairwise, permutations, product

import numpy as np
import pandas as pd
import pytest
import torch
from simplex_cases import FAST, Interrupted, split

from lossatlas.data.tensors import TensorData
from lossatlas.differences import differences
from lossatlas.errors import UserError
from lossatlas.metrics.espro import Espro
from lossatlas.metrics.simplex import Simplex
from lossatlas.metrics.simplex_volume import SimplexVolume
from lossatlas.models.mlp import MLP
from lossatlas.similarity import predictions
from lossatlas.simplex import ensembles, measure, measure_espro, measure_volume, spro
from lossatlas.simplex.complexes import listed, shared
from lossatlas.spec.parts import Recipe
from lossatlas.store import Record, write
from lossatlas.training.engine import Engine
from lossatlas.training.networks import Networks
from lossatlas.training.state import Preempted, State
from parts import frame

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def networks() -> Networks:
    data = TensorData("toy", split(160, 0), split(60, 1), 3, split(40, 2))
    recipe = Recipe(epochs=25, batch_size=32, learning_rate=0.1)
    trained = Engine(lambda: MLP(3, 1, 3, 12, 1), recipe, [0, 1, 4], data.train).train()
    params, buffers = trained.checkpoints["final"]
    return Networks(trained.functional, params, buffers, [0, 1, 4], data, epochs=25)


def test_lowest_ways_are_those_of_trying_all() -> None:
    draw = np.random.default_rng(3)
    for count in (2, 4, 6):
        pairs = [pair for pair in combinations(range(count), 2) if draw.random() < 0.6]
        heights = {pair: float(draw.choice([0.1, 1, 2, 5, np.nan])) for pair in pairs}
        found = measure.lowest_ways(count, heights)
        open_ = {frozenset(pair): h for pair, h in heights.items() if not np.isnan(h)}
        for first, last in combinations(range(count), 2):
            others = [v for v in range(count) if v not in (first, last)]
            orders = [o for n in range(count - 1) for o in permutations(others, n)]
            steps = [[frozenset(s) for s in pairwise((first, *o, last))] for o in orders]
            tops = [max(open_[s] for s in way) for way in steps if all(s in open_ for s in way)]
            assert found[first, last] == found[last, first] == min(tops, default=np.inf)


def test_complex_between_modes(networks: Networks) -> None:
    settings = Simplex(connectors=2, points=6, places=5, raster=4, **FAST)
    record = measure.measure(networks, settings)
    inside, edges = frame(record, "inside"), frame(record, "edges")
    assert len(inside) == 2 * 6
    assert record.scalar("inside_loss_max").value == inside["train_loss"].max()
    assert record.scalar("inside_accuracy_min").value == 100 - inside["train_error"].max()
    segments = frame(record, "segments")
    assert record.scalar("segment_loss_max").value == segments["train_loss"].max()
    modes = {s.replica: s.value for s in record.scalars if s.name == "mode_loss"}
    assert list(modes) == [0, 1]
    ends = segments.sort_values("t")["train_loss"].to_numpy()
    assert [ends[0], ends[-1]] == pytest.approx([modes[0], modes[1]], rel=1e-5)
    top = edges.groupby(["from", "to"])["train_loss"].max()
    ways = [[(0, 2), (1, 2)], [(0, 3), (1, 3)], [(0, 2), (2, 3), (1, 3)], [(0, 3), (2, 3), (1, 2)]]
    lowest = min(max(top[edge] for edge in way) for way in ways)
    assert record.scalar("path_loss_max").value == pytest.approx(lowest)
    assert frame(record, "plane", plane="w0 w1 c0").shape == (16, 5)
    # The corners of a plane have the loss of their vertices, on all training images.
    vertices = frame(record, "vertices")
    assert vertices["mode"].tolist() == [1, 1, 0, 0]
    places = vertices[["x", "y", "z"]].to_numpy()
    corners = frame(record, "corners", plane="w0 w1 c0")
    assert corners[["mode", "number"]].to_numpy().tolist() == [[1, 0], [1, 1], [0, 0]]
    corners = corners[["u", "v"]].to_numpy()
    apart = np.linalg.norm(places[0] - places[1])
    assert np.linalg.norm(corners[0] - corners[1]) == pytest.approx(apart, rel=1e-4)
    assert float(record.arrays["projection_share"].values) == pytest.approx(1.0)  # 4 points


def test_complexes_of_other_replicas(networks: Networks) -> None:
    """Each complex has the numbers that it has by itself; tables are those of the first."""
    few = {**FAST, "epochs": 1, "connectors": 1, "points": 3, "places": 3, "raster": 3}
    both = measure.measure(networks, Simplex(modes=1, repeats=2, **few))
    first = measure.measure(networks, Simplex(modes=1, **few))
    later = replace(
        networks,
        params={n: v[1:] for n, v in networks.params.items()},
        buffers={n: v[1:] for n, v in networks.buffers.items()},
        seeds=[1, 4],
    )
    second = measure.measure(later, Simplex(modes=1, **few))
    assert both.scalars == first.scalars + second.scalars
    assert {s.replica for s in both.scalars} == {0, 1}
    assert [t.name for t in both.tables] == [t.name for t in first.tables]
    np.testing.assert_array_equal(both.arrays["weights"].values, first.arrays["weights"].values)
    three = measure.measure(networks, Simplex(modes=2, repeats=3, **few))
    assert {s.replica for s in three.scalars if s.name == "path_loss_max"} == {0}  # 3 replicas
    with pytest.raises(ValueError, match="repeats: a listed complex"):
        Simplex(complex=[["w0", "c0"]], repeats=2)


def test_volumes_of_other_replicas(networks: Networks) -> None:
    settings = {**FAST, "epochs": 1, "connectors": 2, "regularisations": [0.3], "points": 2}
    four = replace(
        networks,
        params={n: torch.cat([v, v[:1] + 0.1]) for n, v in networks.params.items()},
        buffers={n: torch.cat([v, v[:1]]) for n, v in networks.buffers.items()},
        seeds=[0, 1, 4, 6],
    )
    both = measure_volume.measure(four, SimplexVolume(repeats=2, **settings))
    first = measure_volume.measure(networks, SimplexVolume(**settings))
    table = frame(both, "volume")
    pd.testing.assert_frame_equal(table[table["pair"] == 0], frame(first, "volume"))
    assert len(table) == 2 * len(table[table["pair"] == 0])
    assert {(s.replica, s.partner) for s in both.scalars} == {(0, 1), (4, 6)}
    ends = table[(table["connectors"] == 2) & (table["simplex"] == 0)].set_index(["pair", "way"])
    for way, name in enumerate(measure_volume.WAYS):
        for pair, seed in enumerate((0, 4)):
            (one,) = (
                s for s in both.scalars if (s.name, s.replica) == (f"log_volume_{name}", seed)
            )
            assert one.value == ends.loc[(pair, way), "log_volume"]
    assert both.arrays["singular_values"].values.shape == (2, 3, 2, 2)
    with pytest.raises(UserError, match="2 modes are asked for, and 1 replicas"):
        measure_volume.measure(replace(four, seeds=[0]), SimplexVolume(**settings))


def test_triangles() -> None:
    assert measure.triangles(shared([0, 1], 2)) == [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]
    assert measure.triangles(shared([0, 1], 1)) == [(0, 1, 2)]
    assert measure.triangles(listed([["w0", "c0", "c1", "c2"]], [0])) == [
        (0, 1, 2),
        (0, 1, 3),
        (0, 2, 3),
        (1, 2, 3),
    ]


def test_planes_through_any_three_vertices(networks: Networks) -> None:
    few = {**FAST, "epochs": 1, "connectors": 2, "points": 2, "places": 3, "raster": 3}
    asked = [["c1", "w1", "c0"], ["w0", "w1", "c1"]]
    record = measure.measure(networks, Simplex(planes=asked, **few))
    shown = {(t.name, t.index["plane"]) for t in record.tables if t.index}
    assert shown == set(product(("plane", "corners"), ("c1 w1 c0", "w0 w1 c1")))
    assert frame(record, "corners", plane="c1 w1 c0")["number"].tolist() == [1, 1, 0]
    for names, says in ((["w0", "w1", "c2"], "no vertex 'c2'"), (["w0", "c0", "w0"], "repeats")):
        with pytest.raises(UserError, match=says):
            measure.measure(networks, Simplex(planes=[names], **few))
    with pytest.raises(ValueError, match="planes"):
        Simplex(planes=[["w0", "w1"]])
    lost = measure.measure(networks, Simplex(planes=asked, **{**few, "learning_rate": 1e30}))
    assert not [t for t in lost.tables if t.index]


def test_a_plane_through_points_on_a_line_is_left_out(networks: Networks) -> None:
    few = {**FAST, "connectors": 1, "points": 2, "places": 3, "raster": 3}
    few |= {"modes": 2, "mode": "paper", "learning_rate": 1e-30, "epochs": 1}
    still = Simplex(planes=[["w0", "w1", "c0"]], **few)
    with pytest.warns(UserWarning, match="plane w0 w1 c0 is left out: the three points lie on"):
        record = measure.measure(networks, still)
    assert math.isfinite(record.scalar("path_loss_max").value)
    assert not [t for t in record.tables if t.index]


def test_volume_against_connectors(networks: Networks) -> None:
    settings = SimplexVolume(connectors=3, regularisations=[0.3, 0.0], points=4, **FAST)
    record = measure_volume.measure(networks, settings)
    table = frame(record, "volume")
    assert len(table) == 3 * 2 * 3 * 2
    first = table[table["simplex"] == 0]
    end = first[first["connectors"] == 3].set_index(["way", "regularisation"])["log_volume"]
    assert end[0, 0.3] > end[0, 0.0]
    assert end[0, 0.0] == end[1, 0.0]  # without strength, epsilon changes nothing
    assert record.scalar("log_volume_fixed").value == pytest.approx(end[0, 0.3])
    heights = first[first["way"] == 0].groupby("regularisation")["height"].prod()
    assert np.log(heights[0.3] / 6) == pytest.approx(end[0, 0.3], abs=1e-6)


def test_each_way_of_volume_has_its_own_epsilon(networks: Networks) -> None:
    settings = SimplexVolume(connectors=1, regularisations=[0.3], points=2, **FAST)
    other = settings.model_copy(update={"epsilon": 1e6, "mode": "paper"})
    first, second = (measure_volume.measure(networks, one) for one in (settings, other))
    pd.testing.assert_frame_equal(frame(first, "volume"), frame(second, "volume"))


def test_without_strength_the_epsilon_is_not_trained_again(networks: Networks, tmp_path) -> None:
    state = State(tmp_path / "state", "key").keep(tmp_path / "kept", "code")
    few = {**FAST, "epochs": 1, "connectors": 2, "points": 2}
    record = measure_volume.measure(networks, SimplexVolume(regularisations=[0.0], **few), state)
    assert len(list((tmp_path / "kept").iterdir())) == 2 * 2  # of "fixed" and of "paper"
    table = frame(record, "volume")
    same = [table[table["way"] == way].drop(columns="way") for way in (0, 1)]
    pd.testing.assert_frame_equal(*(one.reset_index(drop=True) for one in same))


SMALL = Espro(draws=4, severities=[0.5], cycles=2, cycle_epochs=2, components=3, **FAST)


@pytest.fixture(scope="module")
def espro(networks: Networks) -> Record:
    return measure_espro.measure(networks, SMALL)


def test_ensembles_from_what_is_stored(networks: Networks, espro: Record) -> None:
    """Every number can be had from stored log-probabilities alone."""
    table = frame(espro, "ensembles")
    assert sorted(table["method"].unique()) == [-1, 0, 1, 2]
    logs = espro.arrays["simplex2_test_log_probs"].values
    assert logs.shape == (3, 4, 60, 3)
    row = table[(table["method"] == 2) & (table["components"] == 2) & (table["group"] == 0)].iloc[0]
    probabilities = np.exp(logs[:2].astype(float)).reshape(8, 60, 3).mean(0)
    labels = networks.data.test.labels.numpy()
    expected = -np.log(probabilities[np.arange(60), labels]).mean()
    assert row["nll"] == pytest.approx(expected, rel=1e-9)
    assert row["error"] == pytest.approx(100 * np.mean(probabilities.argmax(1) != labels))
    members = [predictions.nll(one, labels) for one in logs[:2].reshape(8, 60, 3)]
    assert row["member_nll"] == pytest.approx(np.mean(members))
    assert row["passes"] == 2 * (25 + 2 * 4 * 2)
    geometric = table[(table["method"] == -1) & (table["components"] == 1)]
    assert (geometric["passes"] == 25 + 3).all()  # 15 steps of 5: a cycle of 2 and half of one
    assert (table["nll"] <= table["member_nll"] + 1e-12).all()  # Jensen


def test_replicas_are_the_deep_ensemble(networks: Networks, espro: Record) -> None:
    labels = networks.data.test.labels
    direct = networks.functional.many(
        networks.params,
        networks.buffers,
        networks.data.test.images.expand(3, -1, -1, -1, -1),
        train=False,
    )
    stored = espro.arrays["simplex0_test_log_probs"].values[:, 0]
    np.testing.assert_allclose(stored, torch.log_softmax(direct, 2).numpy(), atol=1e-5)
    disagreement = predictions.disagreement(direct[0], direct[1])
    different = (direct[0].argmax(1) != direct[1].argmax(1)).double().mean()
    assert disagreement == pytest.approx(100 * float(different))
    assert len(labels) == stored.shape[1]


def test_corruption_and_reliability(espro: Record) -> None:
    table = frame(espro, "corruption", kind="noise")
    clean = table[table["severity"] == 0]["error"].mean()
    assert table[table["severity"] == 0.5]["error"].mean() > clean
    bins = frame(espro, "reliability")
    assert bins.groupby(["method", "scaled"])["share"].sum().to_numpy() == pytest.approx(1.0)


def test_groups() -> None:
    found = ensembles.groups(5, 2)
    assert [g for g, apart in found if apart] == [[0, 1], [2, 3]]
    assert sorted(i for g, _ in found for i in g) == sorted([*range(5), *range(5)])
    assert ensembles.groups(3, 3) == [([0, 1, 2], True)]


@pytest.mark.parametrize("after", [3, 70])
def test_interrupted_metric_gives_the_same(networks, espro, tmp_path, after, monkeypatch) -> None:
    class Part(Interrupted):
        left = after

        def __init__(self, path, key: str, every: float = 60.0) -> None:
            State.__init__(self, path, key)

        def due(self) -> bool:
            Part.left -= 1
            self._warning.given = Part.left == 0
            return self._warning.given

    state = State(tmp_path / "state", "key")
    with monkeypatch.context() as patch:
        patch.setattr(state, "part", lambda *w: Part(tmp_path / f"state.{w[0]}", f"key:{w[0]}"))
        with pytest.raises(Preempted):
            measure_espro.measure(networks, SMALL, state)
    assert any(tmp_path.iterdir())
    again = State(tmp_path / "state", "key")
    resumed = measure_espro.measure(networks, SMALL, again)
    write(tmp_path / "a.h5", espro)
    write(tmp_path / "b.h5", resumed)
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []
    again.clear()
    assert not list(tmp_path.glob("state*"))


def test_finished_components_are_kept(networks, espro, tmp_path, monkeypatch) -> None:
    """A job that is stopped at a later replica takes up the predictions of those before."""
    make, asked = measure_espro._points, []

    def points(networks, index, *given):
        asked.append(index)
        if asked == [0, 1]:
            raise Preempted
        return make(networks, index, *given)

    monkeypatch.setattr(measure_espro, "_points", points)
    state = State(tmp_path / "state", "key")
    with pytest.raises(Preempted):
        measure_espro.measure(networks, SMALL, state)
    again = State(tmp_path / "state", "key")
    resumed = measure_espro.measure(networks, SMALL, again)
    assert asked == [0, 1, 1, 2]
    write(tmp_path / "a.h5", espro)
    write(tmp_path / "b.h5", resumed)
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []
    measure_espro.measure(networks, SMALL, State(tmp_path / "state", "other"))
    assert asked == [0, 1, 1, 2, 0, 1, 2]  # what other work left is not taken
    again.clear()
    assert not list(tmp_path.glob("state*"))


def test_bad_input(networks: Networks) -> None:
    without = replace(networks, data=replace(networks.data, held_out=None))
    with pytest.raises(UserError, match="no training images are held out"):
        measure_espro.measure(without, SMALL)
    same = {name: tensor[[0, 1, 1]] for name, tensor in networks.params.items()}
    for call, settings in ((measure_espro, SMALL), (measure, Simplex(modes=3, **FAST))):
        with pytest.raises(UserError, match="modes w1 and w4 are the same point"):
            call.measure(replace(networks, params=same), settings)
    with pytest.raises(UserError, match="5 modes are asked for, and 3 replicas ended well"):
        measure.measure(networks, Simplex(modes=5, **FAST))
    with pytest.raises(UserError, match="unknown mode 'w2'"):
        measure.measure(networks, Simplex(complex=[["w2", "c0"]], **FAST))
    for field in ("draws", "components"):
        with pytest.raises(ValueError, match=field):
            Espro(**{field: 0})
    for rates in ([0.01, 0.05], [0.05, 0.0], [0.05, -0.01]):
        with pytest.raises(ValueError, match="the larger one first, both positive"):
            Espro(cycle_rates=rates)


def test_diverged_complex_has_a_status(networks: Networks) -> None:
    settings = Simplex(**{**FAST, "learning_rate": 1e30}, points=3, places=3)
    record = measure.measure(networks, settings)
    assert record.status == "diverged"
    assert np.isfinite(record.scalar("segment_loss_max").value)
    for name in ("path_loss_max", "inside_loss", "inside_loss_max", "inside_accuracy_min"):
        assert record.scalar(name).status == "diverged"
        assert np.isnan(record.scalar(name).value)


def test_diverged_volumes_have_a_status(networks: Networks) -> None:
    settings = SimplexVolume(
        **{**FAST, "learning_rate": 1e30}, connectors=2, regularisations=[0.1], points=2
    )
    record = measure_volume.measure(networks, settings)
    assert {(s.name, s.status) for s in record.scalars} == {
        (f"log_volume_{way}", "diverged") for way in ("fixed", "epsilon", "paper")
    }
    assert not record.tables


def test_diverged_simplexes_are_left_out(networks: Networks, monkeypatch) -> None:
    """A replica whose simplex diverges leaves all methods; with none left, a status remains."""
    settings = SMALL.model_copy(update={"learning_rate": 1e30})
    record = measure_espro.measure(networks, settings)
    assert record.status == "diverged"
    assert {(s.name, s.replica, s.status) for s in record.scalars} == {
        ("simplex_disagreement", seed, "diverged") for seed in (0, 1, 4)
    }
    assert all(np.isnan(s.value) for s in record.scalars)
    assert not record.tables

    def grow(functional, buffers, modes, split, plan, settings, *rest):
        found = spro.grow(functional, buffers, modes, split, plan, settings, *rest)
        found.diverged = plan.modes == (1,)
        return found

    monkeypatch.setattr(measure_espro, "grow", grow)
    record = measure_espro.measure(networks, SMALL)
    assert record.status == "ok"
    status = {s.replica: s.status for s in record.scalars if s.name == "simplex_disagreement"}
    assert status == {0: "ok", 1: "diverged", 4: "ok"}
    assert frame(record, "ensembles")["components"].max() == 2
    assert record.arrays["simplex0_test_log_probs"].values.shape[0] == 2
