"""Metric jobs: diverged replicas become rows, inputs are checked, what is measured is recorded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lossatlas import measuring, paths, store
from lossatlas.connectivity.fit import CurveFit
from lossatlas.curvature.operator import HessianOperator
from lossatlas.custom import measure_custom
from lossatlas.data.augment import augmented
from lossatlas.data.convert import convert
from lossatlas.errors import UserError
from lossatlas.metrics import registry
from lossatlas.metrics.base import Given
from lossatlas.metrics.cka import Cka
from lossatlas.metrics.distance import Distance
from lossatlas.metrics.performance import Performance
from lossatlas.models.functional import Functional
from lossatlas.spec.cells import Cell
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from lossatlas.training import checkpoints, job
from lossatlas.training.engine import Engine, initialise
from lossatlas.training.state import State

torch.set_num_threads(1)
SETTINGS = {
    "performance": {},
    "hessian": {"samples": 40, "density_probes": 0, "iterations": 60, "probes": 9},
    "connectivity": {"epochs": 1, "points": 3},
    "cka": {"samples": 40, "batch_size": 20},
    "distance": {},
}


def cell(fraction: float = 0.05) -> Cell:
    data = DataPart(source="digits", fraction=fraction)
    recipe = Recipe(epochs=1, batch_size=16)
    return Cell(data, ModelPart(builder="mlp", width=4, depth=1), recipe)


def prepared(folder: Path, seeds: list[int], lost: list[int]) -> measuring.Inputs:
    """Train a block of which some replicas diverge, as a job does."""
    dataset = str(folder / "digits.h5")
    store.write(dataset, convert("digits"))
    data = job.load(dataset, cell().data)
    engine = Engine(job.builder_of(cell(), data), cell().recipe, seeds, data.train)
    with torch.no_grad():
        for seed in lost:
            engine.run.flat[seeds.index(seed)] = float("nan")
    trained = engine.train()
    weights, history = str(folder / "w.safetensors"), str(folder / "h.h5")
    checkpoints.save(weights, trained, cell().digest)
    store.write(history, job.training_record(trained))
    inputs = measuring.Inputs([weights], [history], dataset, str(folder / "p.h5"))
    store.write(inputs.performance, measured("performance", seeds, inputs))
    return inputs


def measured(kind: str, seeds: list[int], inputs: measuring.Inputs) -> store.Record:
    return measuring.measure_cell(kind, SETTINGS[kind], cell().spec, seeds, inputs, "code")


@pytest.mark.parametrize("kind", list(SETTINGS))
@pytest.mark.parametrize("lost", [[], [1], [0, 1], [0, 1, 2]])
def test_every_replica_and_pair_has_a_row(tmp_path: Path, kind: str, lost: list[int]) -> None:
    inputs = prepared(tmp_path, [0, 1, 2], lost)
    record = measured(kind, [0, 1, 2], inputs)
    pairs = [(0, 1), (1, 2)] if kind == "connectivity" else [(0, 1), (0, 2), (1, 2)]
    who = {"replica": [(s, None) for s in range(3)], "pair": pairs, "cell": [(None, None)]}
    metric = registry.built_in()[kind]
    outputs = [one for one in metric.outputs if not one.tasks]  # others are of other tasks
    for name, of in {one.name: metric.per_of(one) for one in outputs}.items():
        rows = {(s.replica, s.partner): s for s in record.scalars if s.name == name}
        assert set(rows) == set(who[of])
        for key, row in rows.items():
            gone = bool(set(key) & set(lost)) or (of == "cell" and len(lost) == 3)
            assert row.status == ("diverged" if gone else "ok")
            assert np.isnan(row.value) == gone
    assert record.status == ("diverged" if len(lost) == 3 else "ok")
    assert record.spec == cell().spec
    assert record.provenance["code"] == "code"
    assert record.provenance["seeds"] == [0, 1, 2]
    path = tmp_path / "out.h5"
    store.write(path, record)
    assert store.read(path, kind).settings == metric(**SETTINGS[kind]).model_dump()


def test_weights_of_another_cell_are_refused(tmp_path: Path) -> None:
    inputs = prepared(tmp_path, [0, 1], [])
    other = cell(0.1).spec
    with pytest.raises(UserError, match="weights of another cell"):
        measuring.measure_cell("cka", SETTINGS["cka"], other, [0, 1], inputs, "code")


def test_a_checkpoint_that_was_not_kept(tmp_path: Path) -> None:
    inputs = prepared(tmp_path, [0, 1], [])
    with pytest.raises(UserError, match=r"holds no checkpoint 'best' \(valid: final\)"):
        measuring.measure_cell("cka", {"checkpoint": "best"}, cell().spec, [0, 1], inputs, "code")


def test_missing_seed(tmp_path: Path) -> None:
    inputs = prepared(tmp_path, [0, 1], [])
    with pytest.raises(UserError, match=r"h\.h5: no training record of seeds \[2\]"):
        measured("performance", [0, 1, 2], inputs)


@pytest.mark.parametrize("rate", [1e15, 1e38])
def test_losses_that_are_not_finite(tmp_path: Path, rate: float) -> None:
    """A rate far too large: no number reaches a table, only a status."""
    dataset, weights, history = (str(tmp_path / n) for n in ("d.h5", "w.safetensors", "h.h5"))
    store.write(dataset, convert("digits"))
    recipe = Recipe(epochs=3, batch_size=16, learning_rate=rate)
    sick = Cell(cell().data, cell().model, recipe)
    job.train_block(sick.spec, [0, 1], dataset, weights, history, "code")
    rows = store.read(history).scalars
    assert {row.status for row in rows} == {"diverged"}
    assert all(np.isnan(row.value) for row in rows if row.name.startswith("final"))
    inputs = measuring.Inputs([weights], [history], dataset)
    for kind in ("performance", "hessian", "cka"):
        record = measuring.measure_cell(kind, SETTINGS[kind], sick.spec, [0, 1], inputs, "code")
        assert {(row.status, np.isnan(row.value)) for row in record.scalars} == {("diverged", True)}


def stopped_after(monkeypatch: pytest.MonkeyPatch, products: int) -> list[int]:
    """Save states at every chance, and kill jobs at a product; count the products taken."""
    product, taken = HessianOperator.__call__, [0, products]

    def counted(operator: HessianOperator, vector: torch.Tensor) -> torch.Tensor:
        if taken[0] == taken[1]:
            raise KeyboardInterrupt
        taken[0] += 1
        return product(operator, vector)

    monkeypatch.setattr(HessianOperator, "__call__", counted)
    monkeypatch.setattr(State, "due", lambda state: state.path is not None)
    monkeypatch.setattr(State, "listen", lambda state: state)
    return taken


def path_of(folder: Path) -> tuple[Cell, measuring.Inputs]:
    """Train two replicas whose weights along the way are kept."""
    recipe = Recipe(epochs=2, batch_size=16, record={"length": 4, "snapshots": 1})
    recorded = Cell(cell().data, cell().model, recipe)
    dataset, weights, history = (str(folder / n) for n in ("d.h5", "w.safetensors", "h.h5"))
    store.write(dataset, convert("digits"))
    job.train_block(recorded.spec, [0, 1], dataset, weights, history, "code")
    return recorded, measuring.Inputs([weights], [history], dataset)


@pytest.mark.parametrize("kind", ["hessian", "hessian_path"])
def test_a_killed_job_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "results"))
    recorded, inputs = path_of(tmp_path)
    asked = {"samples": 40, "density_probes": 0, "iterations": 6, "eigenvalues": 1}
    arguments = (kind, asked, recorded.spec, [0, 1], inputs, "code")
    taken = stopped_after(monkeypatch, -1)
    whole = measuring.measure_cell(*arguments)
    needed, taken[0], taken[1] = taken[0], 0, 7
    with pytest.raises(KeyboardInterrupt):
        measuring.measure_cell(*arguments)
    assert list((tmp_path / "results/state").iterdir())
    taken[1] = -1
    again = measuring.measure_cell(*arguments)
    assert taken[0] == needed
    assert [s.value for s in again.scalars] == [s.value for s in whole.scalars]
    assert not list((tmp_path / "results/state").iterdir())


def test_work_is_kept_until_its_record_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full at the last moment costs the last moment."""
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "results"))
    recorded, inputs = path_of(tmp_path)
    arguments = ("hessian", SETTINGS["hessian"], recorded.spec, [0, 1], inputs, "code")
    taken = stopped_after(monkeypatch, -1)

    def full(_: store.Record) -> None:
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        measuring.measure_cell(*arguments, write=full)
    needed, taken[0], written = taken[0], 0, []
    measuring.measure_cell(*arguments, write=written.append)
    assert needed > 0
    assert taken[0] == 0
    assert len(written) == 1
    assert not list((tmp_path / "results/state").iterdir())


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    inputs = prepared(tmp_path, [0, 1], [])
    Path(inputs.weights[0]).unlink()
    for kind in ("hessian", "cka"):
        with pytest.raises(UserError, match=r"w\.safetensors: (cannot be read|no such file)"):
            measured(kind, [0, 1], inputs)


@pytest.mark.parametrize("kind", ["hessian", "connectivity"])
def test_a_state_of_other_weights_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Weights that were trained anew, by other code, are other weights of the same cell."""
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "results"))
    recorded, inputs = path_of(tmp_path)
    asked = {"epochs": 5, "points": 3} if kind == "connectivity" else SETTINGS[kind]
    arguments = (kind, asked, recorded.spec, [0, 1], inputs, "code")
    taken, step, left = stopped_after(monkeypatch, 7), CurveFit._step, [2]

    def counted(fit: CurveFit, *given: object) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        step(fit, *given)

    monkeypatch.setattr(CurveFit, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        measuring.measure_cell(*arguments)
    taken[1] = left[0] = -1
    first = initialise
    monkeypatch.setattr("lossatlas.training.engine.initialise", lambda b, s: first(b, s + 100))
    job.train_block(recorded.spec, [0, 1], inputs.dataset, inputs.weights[0], *inputs.histories, "")
    found = [measuring.measure_cell(*arguments).scalars for _ in range(2)]  # the state is gone then
    assert [s.value for s in found[0]] == [s.value for s in found[1]]


def test_unfinished_work_is_named_after_all_it_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = prepared(tmp_path, [0, 1, 2], [])
    keys, kept = [], []

    class Noted(State):
        def __init__(self, path: object, key: str) -> None:
            super().__init__(None, key)
            keys.append(f"{path}:{key}")

        def keep(self, folder: object, made_by: str) -> State:
            kept.append(made_by)
            return self

    monkeypatch.setattr("lossatlas.training.state.State", Noted)
    for metric in registry.built_in().values():
        monkeypatch.setattr(metric, "measure_units", lambda self, *_: store.Record(self.kind))
    other = str(tmp_path / "other.h5")
    digits = convert("digits")
    digits.arrays["train_images"].values[0] = 0
    store.write(other, digits)

    def run(kind="hessian", settings=None, seeds=(0, 1, 2), given=inputs, code="code") -> str:
        measuring.measure_cell(kind, settings or {}, cell().spec, list(seeds), given, code)
        return keys[-1]

    once = [run(), run(settings={"seed": 1}), run(seeds=(0, 1)), run(code="other")]
    once += [run(kind="connectivity"), run(given=replace(inputs, dataset=other))]
    assert len(set(once)) == len(once)
    assert run() == once[0]
    for code in ("one", "two"):
        monkeypatch.setattr(measuring, "code_of", lambda *_, code=code: code)
        run(kind="simplex", settings={"points": 3})
        run(kind="simplex", settings={"points": 4})
    assert kept[0] == kept[1] != kept[2] == kept[3]


def test_what_a_metric_sees_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, weights, history = (str(tmp_path / n) for n in ("d.h5", "w.safetensors", "h.h5"))
    store.write(dataset, convert("digits"))
    recipe = Recipe(epochs=3, batch_size=16, augment={"crop": 1}, checkpoints=["best", "final"])
    own = Cell(cell().data, cell().model, recipe)
    job.train_block(own.spec, [0, 1], dataset, weights, history, "code")
    seen = []
    read = checkpoints.read_weights
    monkeypatch.setattr(
        checkpoints, "read_weights", lambda *a, **k: (seen.append(a[2]), read(*a, **k))[1]
    )
    given = []

    def noted(_metric: Cka, seen: Given, *_: object) -> store.Record:
        given.append(seen.networks)
        return store.Record("cka")

    monkeypatch.setattr(Cka, "measure_units", noted)
    inputs = measuring.Inputs([weights], [history], dataset)
    for settings in ({}, {"checkpoint": "final"}):
        record = measuring.measure_cell(
            "cka", {"mode": "paper", **settings}, own.spec, [0, 1], inputs, "code"
        )
        assert record.mode == "paper"
    assert seen == ["best", "final"]
    assert given[0].epochs == 3
    assert given[0].data.train.augmentation.plan == recipe.augment


def test_work_on_other_data_is_not_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set that was made anew may hold other images: a saved state is not for them."""
    weights, history, keys = str(tmp_path / "w.safetensors"), str(tmp_path / "h.h5"), []

    class Noted(job.State):
        def __init__(self, path: str, key: str) -> None:
            super().__init__(None, key)
            keys.append(key)

    monkeypatch.setattr(job, "State", Noted)
    digits = convert("digits")
    for name in ("one", "same", "other"):
        if name == "other":
            digits.arrays["train_images"].values[0] = 0
        store.write(tmp_path / name, digits)
        job.train_block(cell().spec, [0], str(tmp_path / name), weights, history, "code")
    assert keys[0] == keys[1] != keys[2]
    for seeds, code in (([0], "other code"), ([0, 1], "code")):
        job.train_block(cell().spec, seeds, str(tmp_path / "same"), weights, history, code)
    assert len(set(keys)) == 4


def test_a_job_augments_and_leaves_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", str(tmp_path / "results"))
    monkeypatch.setattr(State, "due", lambda state: state.path is not None)
    monkeypatch.setattr(State, "listen", lambda state: state)
    dataset, weights, history = (str(tmp_path / n) for n in ("d.h5", "w.safetensors", "h.h5"))
    store.write(dataset, convert("digits"))
    recipe = Recipe(epochs=1, batch_size=30, augment={"crop": 1})
    moved = Cell(cell().data, cell().model, recipe)
    job.train_block(moved.spec, [0], dataset, weights, history, "code")
    assert list((tmp_path / "results/state").iterdir()) == []
    found = checkpoints.read_weights([weights], [0], "final", "pt", moved.digest)[0][0]
    data = job.load(dataset, moved.data)
    for split, same in ((augmented(data, recipe.augment).train, True), (data.train, False)):
        trained = Engine(job.builder_of(moved, data), recipe, [0], split).train()
        last = trained.checkpoints["final"][0]
        assert all(torch.equal(found[name], last[name][0]) for name in found) is same


def test_each_checkpoint_is_read_as_it_was_kept(tmp_path: Path) -> None:
    window = {"length": 2, "projection": 0, "snapshots": 1}
    recipe = Recipe(epochs=2, batch_size=8, checkpoints=["final", "best"], record=window)
    dataset, weights = str(tmp_path / "d.h5"), str(tmp_path / "w.safetensors")
    store.write(dataset, convert("digits"))
    data = job.load(dataset, cell().data)
    trained = Engine(job.builder_of(cell(), data), recipe, [3, 4], data.train).train()
    checkpoints.save(weights, trained, "digest")
    assert set(trained.checkpoints) == {"final", "best", "epoch-0", "epoch-1", "epoch-2"}
    for kind, (params, _) in trained.checkpoints.items():
        read = checkpoints.read_weights([weights], [3, 4], kind, "pt", "digest")
        for index, seed in enumerate((3, 4)):
            for name, tensor in params.items():
                assert torch.equal(read[seed][0][name], tensor[index]), (kind, name)


def test_metrics_take_the_first_checkpoint_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, weights, history = (str(tmp_path / n) for n in ("d.h5", "w.safetensors", "h.h5"))
    store.write(dataset, convert("digits"))
    recipe = Recipe(epochs=6, batch_size=8, learning_rate=0.5, checkpoints=["best", "final"])
    wild = Cell(cell().data, cell().model, recipe)
    job.train_block(wild.spec, [0, 1], dataset, weights, history, "code")
    inputs, losses, epochs = measuring.Inputs([weights], [history], dataset), [], []
    measure = Performance.measure_units

    def noted(metric, given, units, state):
        epochs.extend([given.networks.epochs])
        return measure(metric, given, units, state)

    monkeypatch.setattr(Performance, "measure_units", noted)
    for asked in ({}, {"checkpoint": "best"}, {"checkpoint": "final"}):
        record = measuring.measure_cell("performance", asked, wild.spec, [0, 1], inputs, "code")
        losses.append([s.value for s in record.scalars if s.name == "train_loss"])
    assert losses[0] == losses[1] != losses[2]
    assert epochs == [6] * 6  # each of two replicas by itself


def test_replicas_are_in_the_order_of_their_seeds(tmp_path: Path) -> None:
    """Not in that of their names in the file, where 10 comes before 2; without the diverged."""
    inputs = prepared(tmp_path, [2, 10], [])
    read = checkpoints.read_weights(inputs.weights, [10, 2], "final", "pt", cell().digest)
    assert list(read) == [2, 10]
    data = job.load(inputs.dataset, cell().data)
    functional = Functional(job.builder_of(cell(), data)())
    for lost, left in (([], [2, 10]), ([2], [10])):
        networks = checkpoints.assemble(functional, read, data, torch.device("cpu"), lost)
        assert (networks.seeds, networks.diverged) == (left, lost)
        for index, seed in enumerate(left):
            for name, tensor in networks.one(index)[0].items():
                assert torch.equal(tensor, read[seed][0][name])


class HalfFrozen(nn.Module):
    """Its first layer stays as it was drawn."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 3), nn.Linear(3, num_classes)
        self.first.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x.flatten(1)).relu())


def test_the_distance_of_weights_is_that_of_trained_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)  # where a plug-in lies
    dataset, weights, history = (str(tmp_path / n) for n in ("d.h5", "w.safetensors", "h.h5"))
    store.write(dataset, convert("digits"))
    own = Cell(cell().data, ModelPart(builder=f"{__name__}:HalfFrozen"), cell().recipe)
    job.train_block(own.spec, [0, 1], dataset, weights, history, "code")
    inputs = measuring.Inputs([weights], [history], dataset, str(tmp_path / "p.h5"))
    store.write(
        inputs.performance,
        measuring.measure_cell("performance", {}, own.spec, [0, 1], inputs, "code"),
    )
    record = measuring.measure_cell("distance", {}, own.spec, [0, 1], inputs, "code")
    read = checkpoints.read_weights([weights], [0, 1], "final", "np", own.digest)
    assert set(read[0][0]) == {"first.weight", "first.bias", "last.weight", "last.bias"}
    first, second = (read[seed][0] for seed in (0, 1))
    moved = {name: first[name] - second[name] for name in first}
    assert np.abs(moved["first.weight"]).max() > 0
    expected = np.sqrt((moved["last.weight"] ** 2).sum() + (moved["last.bias"] ** 2).sum())
    found = {s.name: s.value for s in record.scalars}
    assert found["l2_distance"] == pytest.approx(expected, rel=1e-6)
    files = []
    for seed in (0, 1):
        files.append(str(tmp_path / f"{seed}.pt"))
        torch.save({n: torch.from_numpy(a) for n, a in read[seed][0].items()}, files[-1])
    alone = measure_custom(Distance(), files, f"{__name__}:HalfFrozen", {}, "digits")
    assert alone.scalars[0].value == pytest.approx(expected, rel=1e-6)
