"""Functions for notebooks: data and models as people have them, and results."""

import re
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lossatlas
from lossatlas.data.tensors import Named, Split, TensorData
from lossatlas.errors import UserError
from lossatlas.notebook import examples
from lossatlas.notebook.losses import task_of
from lossatlas.notebook.networks import networks_of
from notebook_cases import Pairs, Stream, line, net, rows, values

FAST = {"samples": 20, "iterations": 5, "probes": 4, "density_steps": 5}
X, Y = rows()


# --- data -----------------------------------------------------------------------------------------
DATA = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "float64": (X.double(), Y),
    "small whole numbers": (X, Y.to(torch.uint8)),
    "a Dataset": Pairs(),
    "a TensorDataset": TensorDataset(X, Y),
    "an IterableDataset": Stream(),
    "a DataLoader": DataLoader(TensorDataset(X, Y), batch_size=7),
    "a DataLoader of a Dataset": DataLoader(Pairs(), batch_size=16),
    "a list of batches": [(X[:50], Y[:50]), (X[50:], Y[50:])],
    "dictionaries": [{"input": X[:50], "labels": Y[:50]}, {"input": X[50:], "labels": Y[50:]}],
    "a split": Split(X, Y),
    "a TensorData": TensorData("mine", Split(X, Y), Split(X[:9], Y[:9]), 3),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_of_every_kind_are_the_same_examples(kind: str) -> None:
    module = net(0)
    if kind == "dictionaries":  # forward takes inputs by name
        assert isinstance(examples.read(DATA[kind])[0], Named)
    else:
        given = networks_of(module, DATA[kind])
        assert torch.allclose(given.networks.data.train.tensor, X)
        assert given.networks.data.train.tensor.dtype == torch.float32
        assert torch.equal(given.networks.data.train.labels, Y)
        assert given.tested == (kind == "a TensorData")


def test_inputs_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 3)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.last(torch.cat([left, right], 1))

    torch.manual_seed(0)
    module = Two()
    named = lossatlas.hessian(module, ({"left": X[:, :2], "right": X[:, 2:]}, Y), **FAST)
    batches = [
        {"left": X[i, :2], "right": X[i, 2:], "label": Y[i]} for i in torch.arange(60).split(9)
    ]
    whole = lossatlas.hessian(module.last, (X, Y), **FAST)
    for found in (named, lossatlas.hessian(module, batches, **FAST)):
        assert found["hessian_trace"].value == pytest.approx(whole["hessian_trace"].value, rel=1e-5)


def test_models_and_data_are_not_changed() -> None:
    module, inputs = net(0).train(), X.clone()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    lossatlas.connect(module, net(1), (inputs, Y), epochs=1)
    lossatlas.plane(module, (inputs, Y), points=3)
    assert module.training
    assert torch.equal(inputs, X)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_seed_says_all() -> None:
    torch.manual_seed(1)
    first = lossatlas.connect(net(0), net(1), (X, Y), epochs=1, seed=3)
    torch.manual_seed(2)
    again = lossatlas.connect(net(0), net(1), (X, Y), epochs=1, seed=3)
    other = lossatlas.connect(net(0), net(1), (X, Y), epochs=1, seed=4)
    assert first.curves.equals(again.curves)
    assert not first.curves.equals(other.curves)


# --- losses ---------------------------------------------------------------------------------------
def test_losses_of_torch_are_the_tasks() -> None:
    binary = torch.ones(4, 2)
    named = {
        "classification": (nn.CrossEntropyLoss(), Y),
        "regression": (nn.MSELoss(), binary),
        "multi_label": (nn.BCEWithLogitsLoss(), binary),
    }
    for name, (loss, targets) in named.items():
        assert task_of(loss, targets).name == name
        assert task_of(name, targets).name == name
    assert task_of(nn.functional.cross_entropy, Y).name == "classification"
    smoothed = task_of(nn.CrossEntropyLoss(label_smoothing=0.1), Y)
    assert smoothed.name == "CrossEntropyLoss"
    logits = torch.randn(60, 3)
    wanted = nn.functional.cross_entropy(logits, Y, label_smoothing=0.1)
    assert smoothed.mean(logits, Y) == pytest.approx(wanted.item(), rel=1e-6)
    assert smoothed.per_example(logits, Y).mean() == pytest.approx(wanted.item(), rel=1e-6)
    assert torch.allclose(smoothed.means(logits[None], Y[None]), wanted)
    assert smoothed.totals(logits, Y)[0] == pytest.approx(60 * wanted.item(), rel=1e-6)


class Absolute(lossatlas.Task):
    """Mean absolute error."""

    values = True

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().mean(1)


@pytest.mark.parametrize("loss", [Absolute, Absolute(), nn.L1Loss(), nn.functional.l1_loss])
def test_a_loss_of_ones_own_takes_every_way(loss: Any) -> None:
    data, models = values(), [line(0), line(1), line(2)]
    path = lossatlas.connect(*models[:2], data, loss=loss, epochs=1, points=3)
    ends = path.curves.query("series == 'train_loss' and path == 'linear'")["y"].tolist()
    wanted = [nn.functional.l1_loss(m(data[0]), data[1]).item() for m in models]
    assert ends[0] == pytest.approx(wanted[0], rel=1e-6)
    assert ends[-1] == pytest.approx(wanted[1], rel=1e-6)
    plane = lossatlas.plane(models, data, loss=loss, points=3)
    assert plane.to_pandas()["value"].tolist()[:3] == pytest.approx(wanted, rel=1e-6)
    about = {"epochs": 1, "points": 2, "raster": 2, "connectors": 1}
    grown = lossatlas.grow_simplex(models[:2], data, loss=loss, **about)
    assert grown["mode_loss"].value == pytest.approx(wanted[0], rel=1e-6)
    alike = lossatlas.similarity(models, data, loss=loss)
    assert set(alike.to_pandas()["metric"]) >= {"cka", "l2_distance", "logit_cosine"}


# --- results --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    data, models = (X, Y), [net(0), net(1), net(2)]
    about = {"epochs": 1, "points": 3, "raster": 3, "connectors": 2}
    return {
        "hessian": lossatlas.hessian(models, data, **FAST),
        "connectivity": lossatlas.connect(*models[:2], data, epochs=1, points=5),
        "similarity": lossatlas.similarity(models, data),
        "simplex": lossatlas.grow_simplex(models[:2], data, **about),
        "plane": lossatlas.plane(models, data, points=4),
        "square": lossatlas.plane(models[0], data, points=4),
        "msd": lossatlas.msd(np.random.default_rng(0).normal(size=(60, 3)).cumsum(0)),
    }


KINDS = ("hessian", "connectivity", "similarity", "simplex", "plane", "square", "msd")


@pytest.mark.parametrize("kind", KINDS)
def test_results(kind: str, results: dict[str, Any]) -> None:
    found = results[kind]
    text = repr(found)
    assert text.startswith(found.record.kind)
    assert len(text.splitlines()) <= 14
    assert max(map(len, text.splitlines())) <= 100
    frame = found.to_pandas()
    columns = ["metric", "replica", "partner", "value", "stderr", "df", "unit", "status"]
    assert list(frame) == columns
    assert len(frame) == len(found.record.scalars) > 0
    assert set(frame["status"]) <= {"ok", "undefined", "unconverged", "diverged"}
    assert frame.loc[frame["status"] == "ok", "value"].notna().all()
    row = frame.iloc[0]
    number = found[row["metric"]]
    assert (number.value, number.status) == (row["value"], row["status"])
    assert float(number) == number.value
    assert isinstance(found.curves, pd.DataFrame)
    with pytest.raises((AttributeError, TypeError)):
        found.record = None
    with pytest.raises(UserError, match="has no number 'nothing'"):
        found["nothing"]


def test_numbers_are_told_with_errors_and_status(results: dict[str, Any]) -> None:
    assert re.search(r"hessian_trace \[0\]: [\d.]+ ± [\d.]+ nats", repr(results["hessian"]))
    assert results["hessian"]["hessian_trace"].stderr > 0
    alone = lossatlas.grow_simplex(net(0), (X, Y), epochs=1, points=2, raster=2)
    assert "segment_loss_max [0]: nan nats (undefined)" in repr(alone)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures(kind: str, results: dict[str, Any]) -> None:
    with mpl.rc_context():
        before = dict(mpl.rcParams)
        drawn = results[kind].plot()
        assert dict(mpl.rcParams) == before
    assert isinstance(drawn, Figure if kind == "simplex" else Axes)
    if kind == "simplex":
        with pytest.raises(TypeError, match="axes: draws a figure of its own"):
            results[kind].plot(plt.figure().gca())
    else:
        assert drawn.get_xlabel()
        assert drawn.get_ylabel()
        _, own = plt.subplots()
        assert results[kind].plot(own) is own
        with pytest.raises(TypeError, match=r"axes: is a str \(give an Axes"):
            results[kind].plot("here")
    plt.close("all")


def test_a_picture_shows_the_numbers(results: dict[str, Any]) -> None:
    path = results["connectivity"]
    lines = path.plot().lines
    errors = path.curves.query("series == 'train_error'")
    for kind, drawn in zip(("linear", "bezier"), lines, strict=True):
        some = errors[errors["path"] == kind]
        assert drawn.get_ydata() == pytest.approx(some["y"].tolist())
    alike = results["similarity"].plot()
    told = {text.get_text() for text in alike.texts}
    assert {f"{results['similarity']['cka'].value:.3f}"} <= told
    plt.close("all")


def test_a_result_is_kept(results: dict[str, Any], tmp_path: Any) -> None:
    from lossatlas import cli, store

    file = tmp_path / "a.h5"
    results["hessian"].save(file)
    assert [row.value for row in store.read(file).scalars] == [
        row.value for row in results["hessian"].record.scalars
    ]
    assert cli.main(["show", str(file)]) == 0
    with pytest.raises(UserError, match=r"is no \.h5"):
        results["hessian"].save(tmp_path / "a.csv")


def test_networks_on_curves_and_simplexes(results: dict[str, Any]) -> None:
    path, grown = results["connectivity"], results["simplex"]
    start = path.module(0.0)
    assert not start.training
    assert torch.equal(start[0].weight, net(0)[0].weight)
    mixed = grown.module(w0=0.5, c1=0.5)
    flat = torch.cat([p.flatten() for p in mixed.parameters()])
    wanted = (grown.vertices[0] + grown.vertices[3]) / 2
    assert torch.allclose(flat, wanted, atol=1e-7)
    for call, says in {
        lambda: path.module(2): r"t: 2 lies outside of the curve \(from 0 to 1\)",
        lambda: grown.module(w9=1.0): "no vertex 'w9'",
        lambda: grown.module(w0=0.5): "the weights have the sum 0.5",
    }.items():
        with pytest.raises(UserError, match=says):
            call()


def test_similarity_is_a_package_and_a_function() -> None:
    from lossatlas import similarity
    from lossatlas.similarity import cka

    assert similarity is lossatlas.similarity
    assert similarity.cka is cka
    assert "similarity" in dir(lossatlas)


def test_msd_of_modules_and_state_dicts() -> None:
    path = [net(seed) for seed in range(15)]
    wanted = lossatlas.msd(
        torch.stack([torch.cat([p.flatten() for p in one.parameters()]) for one in path])
    )
    for given in (path, [one.state_dict() for one in path]):
        assert lossatlas.msd(given).curves.equals(wanted.curves)
