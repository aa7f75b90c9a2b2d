"""Functions for notebooks, against closed forms and against the command line on the same files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_diffusion_measure import brownian, recorded_of
from torch import Tensor, nn

import cli_cases
import lossatlas
from cli_cases import CHECKPOINTS
from lossatlas import custom, store
from lossatlas.data.loading import open_data
from lossatlas.diffusion.measure import measure
from lossatlas.metrics.base import Metric
from lossatlas.metrics.cka import Cka
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.metrics.diffusion import Diffusion
from lossatlas.metrics.distance import Distance
from lossatlas.metrics.hessian import Hessian
from lossatlas.metrics.landscape import Landscape
from lossatlas.metrics.simplex import Simplex
from lossatlas.notebook.results import Result
from lossatlas.store import Record
from notebook_cases import line, values


def numbers(record: Record) -> dict[tuple, tuple]:
    return {
        (row.name, row.replica, row.partner): (row.value, row.stderr, row.status, row.unit)
        for row in record.scalars
    }


# --- closed forms: a linear model with squared error, whose loss is a quadratic function ----------
def loss_at(module: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    return nn.functional.mse_loss(module(data[0]), data[1]).item()


def test_hessian_of_a_linear_model() -> None:
    x, y = values()
    found = lossatlas.hessian(line(0), (x, y), loss="regression", eigenvalues=3)
    inputs = torch.cat([x, torch.ones(len(x), 1)], 1)
    gram = torch.linalg.eigvalsh(2 * inputs.T @ inputs / (2 * len(x))).flip(0)
    wanted = gram.repeat_interleave(2)[:3]  # the two outputs have a block each
    got = [found[name].value for name in NAMES]
    assert got == pytest.approx(wanted.tolist(), rel=1e-3)
    assert found["hessian_trace"].value == pytest.approx(2 * float(gram.sum()), rel=1e-3)
    assert found["hessian_trace"].unit == "squared"


NAMES = ("hessian_eigenvalue", "hessian_eigenvalue_2", "hessian_eigenvalue_3")


def test_a_loss_as_a_function_is_that_loss() -> None:
    """Mean, one number per example, one per value: half the squared error has half the Hessian."""
    data = values()
    whole = lossatlas.hessian(line(0), data, loss=nn.MSELoss())
    for loss in (
        lambda o, t: (o - t).square().mean() / 2,
        lambda o, t: (o - t).square().mean(1) / 2,
        lambda o, t: (o - t).square() / 2,
    ):
        half = lossatlas.hessian(line(0), data, loss=loss)
        for name in ("hessian_eigenvalue", "hessian_trace"):
            assert half[name].value == pytest.approx(whole[name].value / 2, rel=1e-6)
    huber = lossatlas.hessian(line(0), data, loss=nn.HuberLoss(delta=1e6))
    assert huber["hessian_trace"].value == pytest.approx(whole["hessian_trace"].value / 2, 1e-6)


def test_the_straight_line_between_linear_models() -> None:
    data, ends = values(), (line(0), line(1))
    found = lossatlas.connect(*ends, data, loss="regression", epochs=2, batch_size=8, points=11)
    straight = found.curves.query("path == 'linear' and series == 'train_loss'")
    for t, got in zip(straight["x"], straight["y"], strict=True):
        mixed = line(0)
        with torch.no_grad():
            for own, a, b in zip(mixed.parameters(), *(e.parameters() for e in ends), strict=True):
                own.copy_((1 - t) * a + t * b)
        assert got == pytest.approx(loss_at(mixed, data), rel=1e-9)
    curve = found.curves.query("path == 'bezier' and series == 'train_loss'")
    for t in (0.0, 0.5, 1.0):
        got = curve.loc[(curve["x"] - t).abs().idxmin(), "y"]
        assert loss_at(found.module(t), data) == pytest.approx(got, rel=1e-9)
    assert found["linear_barrier"].value == pytest.approx(0, abs=1e-9)  # the loss is convex


def test_distances_of_linear_models() -> None:
    data, models = values(), [line(0), line(1)]
    found = lossatlas.similarity(models, data, loss="regression", mixup_alpha=0, layers=["output"])
    flat = [torch.cat([p.flatten() for p in m.parameters()]) for m in models]
    assert found["l2_distance"].value == pytest.approx((flat[0] - flat[1]).norm().item())
    features = [m(data[0]).detach().numpy() for m in models]
    centred = [f - f.mean(0) for f in features]
    cross, *own = (np.linalg.norm(a.T @ b) ** 2 for a, b in (centred, *zip(centred, centred)))  # noqa: B905
    assert found["cka_biased"].value == pytest.approx(cross / np.sqrt(own[0] * own[1]), rel=1e-6)


def test_planes_of_linear_models() -> None:
    data, models = values(), [line(0), line(1), line(2)]
    three = lossatlas.plane(models, data, loss="regression", points=5)
    corners = [three.to_pandas().query("replica == @k")["value"].item() for k in range(3)]
    assert corners == pytest.approx([loss_at(m, data) for m in models], rel=1e-9)
    # On any line a quadratic function has constant second differences.
    for found in (three, lossatlas.plane(models[0], data, loss="regression", points=5)):
        table = found.curves.query("series == 'plane'")
        for axis in ("u", "v"):
            wide = table.pivot(index=axis, columns="uv".replace(axis, ""), values="loss")
            second = np.diff(wide.to_numpy(), 2, axis=0)
            assert second == pytest.approx(np.broadcast_to(second[:1], second.shape), rel=1e-6)


def test_networks_inside_a_simplex_are_mixtures() -> None:
    data, models = values(), [line(0), line(1)]
    about = {"epochs": 2, "batch_size": 8, "raster": 3, "points": 3, "connectors": 2}
    found = lossatlas.grow_simplex(models, data, loss="regression", **about)
    assert found.names == ("w0", "w1", "c0", "c1")
    weights = {"w0": 0.25, "w1": 0.25, "c1": 0.5}
    flat = torch.cat([p.flatten() for p in found.module(**weights).parameters()])
    wanted = sum(w * found.vertices[found.names.index(n)] for n, w in weights.items())
    assert torch.allclose(flat, wanted)
    ends = found.to_pandas().query("metric == 'mode_loss'")["value"].tolist()
    assert ends == pytest.approx([loss_at(m, data) for m in models], rel=1e-9)


def test_msd_of_a_straight_path_and_of_a_random_walk() -> None:
    time = np.arange(200.0)[:, None]
    straight = lossatlas.msd(time * np.array([[3.0, 4.0]]))
    curve = straight.curves.query("series == 'msd'")
    assert curve["y"].to_numpy() == pytest.approx(25 * curve["x"].to_numpy() ** 2)
    assert straight["exponent"].value == pytest.approx(2, abs=1e-9)
    steps = np.random.default_rng(0).standard_normal((2000, 30))
    walk = lossatlas.msd(steps.cumsum(0))
    assert walk["exponent"].value == pytest.approx(1, abs=0.1)
    assert walk["velocity_correlation"].value == pytest.approx(0, abs=0.02)


# --- the same numbers as `lossatlas metric` -------------------------------------------------------
@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli_cases.enter(tmp_path, monkeypatch)


def opened(count: int) -> list[nn.Module]:
    """Return the networks of the files, in memory."""
    from cli_net import Net

    return [lossatlas.read_checkpoint(Net(10), file) for file in CHECKPOINTS[:count]]


def at_the_command_line(metric: Metric, count: int) -> Record:
    return custom.measure_custom(metric, CHECKPOINTS[:count], "cli_net:Net", {}, "data.npz")


def pairs() -> dict[str, tuple[Tensor, Tensor]]:
    """Return the data of the file as plain tensors."""
    data = open_data("data.npz")
    return {n: (s.images, s.labels) for n, s in (("data", data.train), ("test", data.test))}


def same(found: Result, metric: Metric, count: int) -> None:
    wanted = at_the_command_line(metric, count)
    got = numbers(found.record)
    for key, row in numbers(wanted).items():
        assert str(got[key]) == str(row), key
    assert found.record.settings == metric.model_dump()


def test_hessian_as_at_the_command_line(files: None) -> None:
    about = {"samples": 40, "iterations": 20, "probes": 6, "seed": 3, "eigenvalues": 2}
    same(lossatlas.hessian(opened(2), pairs()["data"], **about), Hessian(**about), 2)


def test_connect_as_at_the_command_line(files: None) -> None:
    about = {"epochs": 2, "batch_size": 32, "points": 5, "seed": 1}
    found = lossatlas.connect(*opened(2), **pairs(), **about)
    same(found, Connectivity(**about), 2)
    series = [one.name for one in found.record.series]
    assert "test_error" in series
    alone = lossatlas.connect(*opened(2), pairs()["data"], **about)
    assert str(numbers(alone.record)) == str(numbers(found.record))
    assert not any(one.name.startswith("test_") for one in alone.record.series)


def test_similarity_as_at_the_command_line(files: None) -> None:
    found = lossatlas.similarity(opened(3), **pairs(), samples=60, seed=2)
    same(found, Cka(samples=60, seed=2), 3)
    for key, row in numbers(at_the_command_line(Distance(), 3)).items():
        assert str(numbers(found.record)[key]) == str(row)


def test_grow_simplex_as_at_the_command_line(files: None) -> None:
    about = {"epochs": 1, "batch_size": 32, "connectors": 2, "raster": 3, "points": 3, "seed": 4}
    found = lossatlas.grow_simplex(opened(2), **pairs(), **about)
    same(found, Simplex(**about), 2)
    alone = lossatlas.grow_simplex(opened(2), pairs()["data"], **about)
    assert not [c for c in alone.curves if c.startswith("test_")]
    assert [c for c in found.curves if c.startswith("test_")]


def test_plane_as_at_the_command_line(files: None) -> None:
    data = pairs()["data"]
    wanted = custom.plane_custom(CHECKPOINTS, "cli_net:Net", {}, "data.npz", points=5, images=30)
    found = lossatlas.plane(opened(3), data, points=5, examples=30)
    assert str(numbers(found.record)) == str(numbers(wanted))
    assert np.array_equal(found.record.tables[0].columns["loss"], wanted.tables[0].columns["loss"])
    one = lossatlas.plane(opened(1)[0], data, points=9, examples=30, seed=5)
    record = at_the_command_line(Landscape(side=9, samples=30, seed=5), 1)
    table = next(t for t in record.tables if t.name == "plane")
    assert np.array_equal(one.record.tables[0].columns["loss"], table.columns["loss"])


def test_msd_as_the_metric_diffusion() -> None:
    points = brownian(drift=0.1)
    settings = {"bootstrap": 20, "surrogates": 2}
    found = lossatlas.msd(points[:400], **settings)
    wanted = measure({0: recorded_of(points)}, Diffusion(**settings))
    rows = {row.name: row for row in wanted.scalars}
    for row in found.record.scalars:
        other = rows[f"{row.name}_first"]
        got, told = (row.value, row.stderr), (other.value, other.stderr)
        assert got == pytest.approx(told, rel=1e-6, nan_ok=True)
        assert (row.status, row.df) == (other.status, other.df)
    assert store.Scalar is type(found.record.scalars[0])
