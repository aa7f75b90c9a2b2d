"""Tables of complexes, planes and volumes against linear algebra on known vertices."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from test_simplex_ensembles import Normed, split

from lossatlas.data.tensors import Split, TensorData
from lossatlas.metrics.simplex import Simplex
from lossatlas.metrics.simplex_volume import SimplexVolume
from lossatlas.models.functional import Functional, unflatten
from lossatlas.simplex import measure, measure_volume, planes, points
from lossatlas.simplex.complexes import Vertex, shared
from lossatlas.simplex.points import loss_and_error, rows
from lossatlas.simplex.spro import Grown
from lossatlas.spec.parts import Recipe
from lossatlas.store import Record
from lossatlas.training.engine import Engine
from lossatlas.training.networks import Networks
from parts import frame

torch.set_num_threads(1)
FAST = {"epochs": 2, "batch_size": 32, "learning_rate": 0.05, "samples": 2}
VERTICES = torch.randn(6, 40, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
PLAN = shared([3, 7], 4)


@pytest.fixture(scope="module")
def networks() -> Networks:
    data = TensorData("toy", split(160, 0), split(60, 1), 3)
    trained = Engine(Normed, Recipe(epochs=8, batch_size=32), [0, 1], data.train).train()
    params, buffers = trained.checkpoints["final"]
    return Networks(trained.functional, params, buffers, [0, 1], data, epochs=8)


def test_volumes_and_heights() -> None:
    record = Record("simplex")
    measure._volumes(record, PLAN, Grown(VERTICES))
    table = frame(record, "volumes")
    for place, simplex in enumerate(PLAN.simplexes):
        corners = VERTICES[list(simplex)].numpy()
        edges = corners[1:] - corners[0]
        volume = math.sqrt(np.linalg.det(edges @ edges.T)) / math.factorial(4)
        before = edges[:-1].T
        rest = edges[-1] - before @ np.linalg.lstsq(before, edges[-1], rcond=None)[0]
        assert table.loc[place, "log_volume"] == pytest.approx(math.log(volume))
        assert table.loc[place, "height"] == pytest.approx(np.linalg.norm(rest))
        assert table.loc[place, "dimension"] == 4


def test_projection_is_that_of_the_svd() -> None:
    record, random = Record("simplex"), np.random.default_rng(0)
    weights = random.dirichlet(np.ones(6), 10)
    measure._projection(record, PLAN, Grown(VERTICES), weights, np.arange(10.0))
    centred = (VERTICES - VERTICES.mean(0)).numpy()
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    places = frame(record, "vertices")[["x", "y", "z"]].to_numpy()
    np.testing.assert_allclose(np.abs(places), np.abs(u[:, :3] * s[:3]), atol=1e-9)
    found = frame(record, "points")
    np.testing.assert_allclose(found[["x", "y", "z"]].to_numpy(), weights @ places, atol=1e-9)
    assert found["train_loss"].tolist() == list(range(10))
    share = float(record.arrays["projection_share"].values)
    assert share == pytest.approx((s[:3] ** 2).sum() / (s**2).sum())
    assert share < 0.9
    assert frame(record, "vertices")["number"].tolist() == [3, 7, 0, 1, 2, 3]


def test_loss_of_modes_has_norms_of_the_training_images(networks: Networks) -> None:
    settings = Simplex(connectors=1, points=30, places=3, raster=3, **FAST)
    record = measure.measure(networks, settings)
    functional, data = networks.functional, networks.data
    ends = frame(record, "segments").sort_values("t")
    for index, place in ((0, 0), (1, -1)):
        point = rows(networks.params, functional.shapes)[index]
        params = unflatten(point, functional.shapes)
        own = {name: b.clone() for name, b in networks.one(0)[1].items()}
        with functional.norm_momentum(1.0):
            functional(params, own, data.train.images, train=True)
        for name, some in (("train", data.train), ("test", data.test)):
            logits = functional(params, own, some.images, train=False)
            wanted = float(torch.nn.functional.cross_entropy(logits, some.labels))
            assert ends[f"{name}_loss"].iloc[place] == pytest.approx(wanted, rel=1e-4)
    modes = [s.value for s in record.scalars if s.name == "mode_loss"]
    assert modes == pytest.approx(ends["train_loss"].iloc[[0, -1]].tolist(), rel=1e-5)
    inside = frame(record, "inside")["train_loss"]
    assert record.scalar("inside_loss").value == pytest.approx(inside.mean())
    drawn = record.arrays["weights"].values
    assert not np.allclose(drawn[0, :, 2], drawn[1, :, 2])  # each simplex has its own draws


def test_which_images_are_measured(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(_ruler, _vertices, weights, *splits):
        shape = np.shape(weights)[:-1]
        return [
            (np.full(shape, float(some.images.sum())), np.full(shape, float(len(some))))
            for some in splits
        ]

    monkeypatch.setattr(measure.Ruler, "at", told)
    record = measure.measure(
        networks, Simplex(connectors=1, points=2, places=3, raster=3, images=90, **FAST)
    )
    assert set(frame(record, "plane", plane="w0 w1 c0")["error"]) == {90}
    sums = {name: float(getattr(networks.data, name).images.sum()) for name in ("train", "test")}
    for table in ("inside", "edges", "segments"):
        for name, total in sums.items():
            assert frame(record, table)[f"{name}_loss"].to_numpy() == pytest.approx(total, rel=1e-5)
    whole = measure.measure(
        networks, Simplex(connectors=1, points=2, places=3, raster=3, images=999, **FAST)
    )
    shown = frame(whole, "plane", plane="w0 w1 c0")["loss"].to_numpy()
    assert shown == pytest.approx(sums["train"], rel=1e-5)


def test_axes_of_a_plane() -> None:
    corners = torch.tensor([[0.0, 0, 1], [4, 0, 1], [1, 3, 1]])
    plane = planes.raster(corners, 7, margin=0.25)
    assert (plane.u[0], plane.u[-1], plane.v[0], plane.v[-1]) == pytest.approx((-1, 5, -1, 4))
    u, v = np.broadcast_arrays(plane.u, plane.v[:, None])
    vertices = [Vertex(True, 12), Vertex(True, 3), Vertex(False, 0)]
    record = Record("any", tables=planes.tables(vertices, plane, u.copy(), v.copy()))
    table = frame(record, "plane", plane="w12 w3 c0")
    assert frame(record, "corners")[["mode", "number"]].to_numpy().tolist() == [
        [1, 12],
        [1, 3],
        [0, 0],
    ]
    np.testing.assert_array_equal(table["loss"], table["u"])
    np.testing.assert_array_equal(table["error"], table["v"])
    x, y = table["u"], table["v"]  # the triangle (0, 0), (4, 0), (1, 3)
    np.testing.assert_array_equal(table["inside"], (y >= 0) & (y <= 3 * x) & (x + y <= 4))
    assert table["inside"].sum() > 3


class Given(torch.nn.Module):
    """Logits that are its parameters, whatever the inputs."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(x)] + 0.0 * x[:, :1]


def losses_of(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return loss and error of points (G, N, classes) that give these logits."""
    functional = Functional(Given(logits[0]))
    split = Split(torch.zeros(len(labels), 1), labels)
    return loss_and_error(functional, logits.flatten(1), [{} for _ in logits], split)


def test_what_is_not_finite_has_neither_loss_nor_error(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(2, 5, 3)
    logits[1, 2] = math.nan
    loss, error = losses_of(logits, torch.arange(5) % 3)
    assert torch.isfinite(loss[0])
    assert torch.isfinite(error[0])
    assert torch.isnan(loss[1])
    assert torch.isnan(error[1])
    monkeypatch.setitem(points.CHUNK, "cpu", 20_000)  # the logits are those of the first rows
    tiny = torch.tensor([[[17.0, 0.0]]]).expand(1, 10_001, 2)
    mean, _ = losses_of(tiny.contiguous(), torch.zeros(10_001, dtype=torch.int64))
    assert float(mean) == pytest.approx(math.log1p(math.exp(-17.0)), rel=1e-12)


def test_shape_against_connectors(networks: Networks) -> None:
    """Volume, edge, least singular value and height of a simplex follow from singular values."""
    settings = SimplexVolume(connectors=3, regularisations=[0.0, 0.3], points=4, **FAST)
    record = measure_volume.measure(networks, settings)
    table = frame(record, "volume").query("simplex == 0")
    spectra = record.arrays["singular_values"].values
    assert spectra.shape == (1, 6, 3, 3)
    spectra = spectra[0]
    for run, (_, rows_) in enumerate(table.groupby(["way", "regularisation"])):
        for place, row in enumerate(rows_.sort_values("connectors").to_dict("records")):
            n, values = place + 1, spectra[run, place, : place + 1]
            assert np.isnan(spectra[run, place, n:]).all()
            log = np.log(values).sum() - math.lgamma(n + 1)
            assert row["log_volume"] == pytest.approx(log, abs=1e-9)
            assert row["least_singular_value"] == values.min()
            regular = row["edge"] ** n * math.sqrt(n + 1) / (math.factorial(n) * 2 ** (n / 2))
            assert math.log(regular) == pytest.approx(log, abs=1e-9)
        heights = np.cumsum(np.log(rows_.sort_values("connectors")["height"]))
        assert heights.iloc[-1] - math.lgamma(4) == pytest.approx(row["log_volume"], abs=1e-9)
    last = table[table["connectors"] == 3].set_index(["way", "regularisation"])["log_volume"]
    assert last[0, 0.3] > last[1, 0.3] + 1e-4  # 1e-4 added to V^2 takes from the push


def test_points_of_a_volume(networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean loss, and the accuracy of the worst point."""
    known = torch.tensor([0.5, 1.0, 3.0]).double(), torch.tensor([10.0, 60.0, 20.0]).double()
    monkeypatch.setattr(measure_volume, "loss_and_error", lambda *_: known)
    settings = SimplexVolume(connectors=1, regularisations=[0.0], points=3, **FAST)
    table: pd.DataFrame = frame(measure_volume.measure(networks, settings), "volume")
    assert set(table["train_loss"]) == {1.5}
    assert set(table["train_accuracy"]) == {40.0}
