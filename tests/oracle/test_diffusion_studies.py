"""Toy walkers as a study, and the roughness of the loss around networks."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from scipy.interpolate import interpn

from lossatlas import measuring, store
from lossatlas.data.convert import convert
from lossatlas.data.tensors import Split, TensorData
from lossatlas.diffusion import landscape, toy
from lossatlas.diffusion.ensembles import ensemble
from lossatlas.diffusion.recorded import seeded
from lossatlas.diffusion.roughness import structure_function
from lossatlas.diffusion.surfaces import cone
from lossatlas.diffusion.walker import Rules
from lossatlas.figures import Tables, diffusion_more
from lossatlas.metrics.landscape import Landscape
from lossatlas.models.functional import Functional
from lossatlas.spec.config import load
from lossatlas.spec.figures import Figure
from lossatlas.store import Record
from lossatlas.tables.collect import scalar_frame, series_frame
from lossatlas.training.job import train_block
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator
from parts import curve, frame

torch.set_num_threads(1)


def tables(record: Record) -> Tables:
    axes = {"one": {}}
    return Tables(
        scalar_frame("studies", axes, {"one": record.scalars}),
        series_frame("studies", axes, {"one": [*record.series, *record.tables]}),
    )


def square(rows: pd.DataFrame, down: str, across: str, values: str) -> np.ndarray:
    return rows.pivot(index=down, columns=across, values=values).to_numpy()


@pytest.fixture(scope="module")
def walkers() -> Record:
    patch = pytest.MonkeyPatch()
    patch.setattr(toy, "SIDE", 129)
    patch.setattr(toy, "SURFACES", 2)
    patch.setattr(toy, "WALKERS", 20)
    yield toy.study()
    patch.undo()


def test_walkers_settle_on_a_fractal_and_drift_on_a_cone(walkers: Record) -> None:
    found = {scalar.name: scalar.value for scalar in walkers.scalars}
    assert found["flat early_short"] == pytest.approx(1, abs=0.05)
    assert found["flat late_short"] == pytest.approx(1, abs=0.05)
    assert found["fractal late_short"] < 0.8
    assert found["cone early_long"] > 1.6
    assert found["cone late_long"] < 0.1
    assert found["quadratic wall_share"] == 0
    assert 0 < found["fractal paper stuck"] <= 1


def test_gradients_are_densities(walkers: Record) -> None:
    for series in walkers.series:
        if series.name == "gradient_density":
            assert 0 < series.y.sum() * 0.2 <= 1 + 1e-9


def test_study_has_equal_numbers_twice_and_is_drawn(walkers: Record) -> None:
    assert len(frame(walkers, "surface", surface="fractal")) == toy.SHOWN**2
    drawn = diffusion_more.toy(tables(walkers), Figure(draws="diffusion_fig4_toy"), "", "")
    assert {"a", "b", "c", "d", "e", "f"} <= set(drawn.numbers["panel"])
    again = {k: [z.sum() for z in some] for k, some in toy.landscapes().items()}
    assert again == {k: [z.sum() for z in some] for k, some in toy.landscapes().items()}


class Quadratic(torch.nn.Module):
    """Logits whose cross entropy is smooth in the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 4, generator=torch.manual_seed(0)))
        self.bias = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def networks() -> Networks:
    module = Quadratic()
    images = torch.randn(30, 1, 2, 2, generator=torch.manual_seed(1))
    split = Split(images, torch.arange(30) % 3)
    data = TensorData("toy", split, split, 3)
    params = {name: p.detach()[None] for name, p in module.named_parameters()}
    return Networks(Functional(module), params, {}, [7], data)


def test_smooth_loss_has_exponent_two() -> None:
    record = measuring.measure_networks(Landscape(side=33, extent=0.2, samples=30), networks())
    found = {scalar.name: scalar for scalar in record.scalars}
    assert set(found) == {one.name for one in Landscape.outputs}
    assert found["roughness_exponent"].value == pytest.approx(2, abs=0.15)
    assert found["roughness_exponent"].replica == 7
    assert len(frame(record, "plane", surface="loss")) == 33**2
    assert curve(record, "boxes", surface="quadratic").replica is None
    slope = partial(np.polyfit, deg=1)
    for kind, expected in (("loss", 2), ("fractal", 1.5)):
        one = curve(record, "structure", surface=kind)
        assert slope(np.log(one.x), np.log(one.y))[0] == pytest.approx(expected, abs=0.2)
    drawn = diffusion_more.fractal(
        tables(record), Figure(draws="diffusion_landscape_fractal"), "", ""
    )
    assert len(drawn.numbers.query("panel == 'a'")) == 33**2


def of(settings: Landscape) -> tuple[int, float, int]:
    return settings.side, settings.extent, settings.seed


def test_plane_passes_through_the_network() -> None:
    nets = networks()
    settings = Landscape(side=9, samples=30)
    loss = landscape.plane(nets, 0, nets.data.train, *of(settings))
    params, buffers = nets.one(0)
    logits = nets.functional(params, buffers, nets.data.train.images, train=False)
    wanted = torch.nn.functional.cross_entropy(logits, nets.data.train.labels)
    assert loss[4, 4] == pytest.approx(float(wanted), rel=1e-5)


def test_directions_are_as_long_as_the_filters() -> None:
    params, _ = networks().one(0)
    found = landscape.filter_normalised(params, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found["weight"].norm(dim=1), params["weight"].norm(dim=1))
    assert (found["bias"] == 0).all()


def test_principal_directions_are_those_of_the_svd() -> None:
    random = torch.Generator().manual_seed(2)
    points, end = torch.randn(6, 15, generator=random), torch.randn(15, generator=random)
    found = landscape.principal(points, end)
    moved = (points - end).double()
    _, lengths, axes = torch.linalg.svd(moved, full_matrices=False)
    torch.testing.assert_close((found.directions @ axes[:2].T).abs(), torch.eye(2).double())
    np.testing.assert_allclose(np.abs(found.path), np.abs(moved @ axes[:2].T), atol=1e-6)
    assert found.share == pytest.approx(float((lengths[:2] ** 2).sum() / (lengths**2).sum()))
    line = torch.linspace(0, 1, 5)[:, None] * torch.ones(15)
    assert landscape.principal(line, line[-1]) is None


def test_principal_plane_holds_the_path() -> None:
    """The loss on the map at the weights kept along the way is the loss of these weights."""
    nets, random = networks(), torch.Generator().manual_seed(4)
    params, _ = nets.one(0)
    moves = [
        {n: 0.3 * torch.randn(p.shape, generator=random) for n, p in params.items()} for _ in "ab"
    ]
    stages = {}
    for epoch, (a, b) in enumerate([(1, 0), (0, 1), (0, 0)]):
        mixed = {n: (p + a * moves[0][n] + b * moves[1][n])[None] for n, p in params.items()}
        stages[epoch] = replace(nets, params=mixed)
    record = measuring.measure_networks(Landscape(side=33, samples=30), nets, stages)
    found = {scalar.name: scalar for scalar in record.scalars}
    assert set(found) == {one.name for one in Landscape.outputs}
    assert found["pca_share"].value == pytest.approx(1)
    assert found["pca_roughness_exponent"].value == pytest.approx(2, abs=0.2)
    z = square(frame(record, "plane", surface="pca"), "v", "u", "loss")
    path = frame(record, "plane_path", surface="pca")
    reach = max(np.abs(path[name]).max() for name in "uv")
    assert reach == pytest.approx(1 / 1.1)  # the map ends a tenth beyond the path
    axis = np.linspace(-1, 1, 33)
    for stage, x, y in zip(stages.values(), path["u"], path["v"], strict=True):
        own, _ = stage.one(0)
        logits = nets.functional(own, {}, nets.data.train.images, train=False)
        wanted = float(torch.nn.functional.cross_entropy(logits, nets.data.train.labels))
        mapped = interpn((axis, axis), z, [[y, x]], method="cubic")[0]
        assert mapped == pytest.approx(wanted, rel=1e-3)
    drawn = diffusion_more.fractal(
        tables(record), Figure(draws="diffusion_landscape_fractal"), "", ""
    )
    assert "path x" in set(drawn.numbers["line"])


def test_maps_reach_as_far_as_asked_and_replicas_have_their_own() -> None:
    nets = networks()
    nets = replace(
        nets,
        params={name: torch.cat([p, p]) for name, p in nets.params.items()},
        seeds=[7, 8],
    )
    settings = Landscape(side=9, extent=0.3, samples=30)
    loss = landscape.plane(nets, 0, nets.data.train, *of(settings))
    params, _ = nets.one(0)
    u, v = (
        landscape.filter_normalised(params, generator("direction", 0, 7, axis)) for axis in "uv"
    )
    for row, column, a, b in ((0, 8, 0.3, -0.3), (8, 0, -0.3, 0.3), (6, 8, 0.3, 0.15)):
        point = {name: p + a * u[name] + b * v[name] for name, p in params.items()}
        logits = nets.functional(point, {}, nets.data.train.images, train=False)
        wanted = torch.nn.functional.cross_entropy(logits, nets.data.train.labels)
        assert loss[row, column] == pytest.approx(float(wanted), rel=1e-5)
    other = landscape.plane(nets, 1, nets.data.train, *of(settings))
    assert other[4, 4] == pytest.approx(loss[4, 4], rel=1e-6)
    assert np.abs(other - loss).max() > 1e-3


def test_roughness_of_a_map_by_definition() -> None:
    record = measuring.measure_networks(Landscape(side=17, extent=0.5, samples=30), networks())
    found = {s.name: s.value for s in record.scalars}
    z = square(frame(record, "plane", surface="loss"), "v", "u", "loss")

    def structure(surface: np.ndarray, lag: int) -> float:
        apart = surface[lag:] - surface[:-lag], surface[:, lag:] - surface[:, :-lag]
        return float(np.mean([np.square(one).mean() for one in apart]))

    one = curve(record, "structure", surface="loss")
    assert one.x.tolist() == [1 / 16, 2 / 16, 4 / 16]
    np.testing.assert_allclose(one.y, [structure(z, lag) / z.var() for lag in (1, 2, 4)])
    for name, surface in (("", z), ("log_", np.log(z))):
        slopes = np.diff(np.log([structure(surface, lag) for lag in (1, 2, 4)])) / np.log(2)
        assert found[f"{name}roughness_exponent"] == pytest.approx(slopes.mean())
    assert found["log_roughness_exponent"] != pytest.approx(found["roughness_exponent"], abs=1e-3)


def test_pictures_of_walkers(walkers: Record) -> None:
    """f = 10 - z, row by row from (-1, -1); the path starts at its own x and y."""
    f = square(frame(walkers, "surface", surface="cone"), "y", "x", "height")
    assert (f[64, 64], f[64, 0]) == (9, 9.5)
    path = frame(walkers, "path", surface="cone")
    assert path[["step", "x", "y"]].iloc[0].tolist() == [0, -0.6, -0.5]
    assert curve(walkers, "gradient_density", surface="cone").y.sum() * 0.2 == pytest.approx(
        1
    )  # all are at most 1/2


def test_exponents_of_walkers_are_those_of_their_windows(walkers: Record) -> None:
    found = {scalar.name: scalar for scalar in walkers.scalars}
    count = toy.WALKERS * toy.SURFACES
    again = ensemble(
        [cone()],
        Rules(eta=0.001, noise=0.0005),
        walkers=count,
        steps=1000,
        rng=seeded("walkers", "cone small"),
    )
    for prefix, curves in (("", again.msd), ("still_", again.msd_without_drift)):
        for when, msd, long in (("early", curves[0], 50), ("late", curves[1], 100)):
            for lags, low, high in (("short", 1, 10), ("long", 10, long)):
                inside = (msd.x >= low) & (msd.x <= high)
                slope = np.polyfit(np.log(msd.x[inside]), np.log(msd.y[inside]), 1)[0]
                scalar = found[f"cone small {prefix}{when}_{lags}"]
                assert scalar.value == pytest.approx(slope, abs=1e-9)
                assert scalar.stderr > 0
    surfaces = toy.landscapes()
    for kind in ("fractal", "shuffled"):
        local = [structure_function(surface).local.mean() for surface in surfaces[kind]]
        over = found[f"{kind} structure_exponent"]
        error = np.std(local, ddof=1) / np.sqrt(len(local))
        assert (over.value, over.stderr, over.df) == pytest.approx(
            (np.mean(local), error, len(local) - 1)
        )


def test_diverged_planes_are_undefined() -> None:
    nets = networks()
    nets.params["weight"][0, 0, 0] = float("inf")
    record = measuring.measure_networks(Landscape(side=9, samples=30), nets)
    assert {scalar.status for scalar in record.scalars} == {"undefined"}


def test_flat_planes_have_no_exponent() -> None:
    """Filters of length 0 have directions of length 0: the loss is the same everywhere."""
    nets = networks()
    nets.params["weight"][:] = 0
    record = measuring.measure_networks(Landscape(side=9, samples=30), nets)
    found = {scalar.name: scalar for scalar in record.scalars}
    for name in ("roughness_exponent", "log_roughness_exponent"):
        assert found[name].status == "undefined"
        assert np.isnan(found[name].value)
    assert found["box_dimension"].value == pytest.approx(2)


@pytest.mark.parametrize("side", [8, 64, 100])
def test_sides_that_are_not_dyadic_are_refused(side: int) -> None:
    with pytest.raises(ValidationError):
        Landscape(side=side)


def test_paths_from_files_end_at_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors of a file are not in the order of the network's: the path must not be shuffled."""
    monkeypatch.chdir(tmp_path)
    raw = {
        "datasets": {"digits": None},
        "models": {"mlp": {"width": 4, "depth": 1}},
        "recipes": {"r": {"epochs": 2, "record": {"length": 5, "snapshots": 1}}},
        "experiments": {"e": {"dataset": "digits", "model": "mlp", "recipe": "r"}},
    }
    cell = load(raw).cells("e")[0]
    store.write(tmp_path / "digits.h5", convert("digits", None))
    weights, history = str(tmp_path / "0.safetensors"), str(tmp_path / "0.h5")
    train_block(cell.spec, [0], str(tmp_path / "digits.h5"), weights, history, "code")
    inputs = measuring.Inputs([weights], [history], str(tmp_path / "digits.h5"))
    record = measuring.measure_cell("landscape", {"side": 9}, cell.spec, [0], inputs, "code")
    kept = frame(record, "plane_path")
    assert kept["epoch"].tolist() == [0, 1, 2]
    assert kept[["u", "v"]].iloc[-1].tolist() == pytest.approx([0, 0], abs=1e-6)
    along = measuring.measure_cell("hessian_path", {"eigenvalues": 1}, cell.spec, [0], inputs, "c")
    assert {s.value > 0 for s in along.scalars} == {True}
