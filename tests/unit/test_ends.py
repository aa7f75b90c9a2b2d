"""A recorded run goes on where one that is its beginning has ended, bit for bit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from lossatlas import paths, store
from lossatlas.data.convert import convert
from lossatlas.spec.cells import Cell
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from lossatlas.training import ends, job
from lossatlas.training.engine import Engine

torch.set_num_threads(1)
SEEDS, BLOCK = [0, 1], "0-1"
STEPS = 16  # of an epoch: 269 images in batches of 16
SHORT = {"epochs": 3, "batch_size": 16, "decay_epochs": [2], "checkpoints": ["best", "final"]}
LONG = {**SHORT, "epochs": 5, "decay_epochs": [2, 4]}
PLANS = {  # name -> what is recorded, steps that are made once more
    "one window ends with the run": ({"length": STEPS * 3 + 1, "stride": STEPS * 3 + 1}, 0),
    "no window is open": ({"length": 10, "stride": 24}, 0),
    "windows overlap": ({"start": 5, "length": 20, "stride": 7, "after": 3, "whole": 4}, 15),
    "a window is longer than the run": ({"length": 60, "stride": 60, "snapshots": 2}, 48),
}
BUILDERS = [ModelPart(builder="mlp", width=4, depth=1), ModelPart(builder="resnet18", width=1)]


def cell(model: ModelPart, record: dict | None, **recipe) -> Cell:
    data = DataPart(source="digits", fraction=0.1875)
    return Cell(data, model, Recipe(**recipe, record=record))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    store.write("digits.h5", convert("digits"))
    return tmp_path


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the steps of the engine."""
    made, step = [0], Engine._step

    def counted(engine, *arguments) -> None:
        made[0] += 1
        step(engine, *arguments)

    monkeypatch.setattr(Engine, "_step", counted)
    return made


def train(one: Cell, seeds: list[int] = SEEDS, code: str = "code") -> None:
    block = ends.block_name(seeds)
    files = paths.weights(one.id, block), paths.history(one.id, block)
    Path(files[0]).parent.mkdir(parents=True, exist_ok=True)
    job.train_block(one.spec, seeds, "digits.h5", *files, code)


def results(one: Cell):
    weights = safetensors.numpy.load_file(paths.weights(one.id, BLOCK))
    return weights, store.read(paths.history(one.id, BLOCK))


def assert_equal(found, wanted) -> None:
    assert found[0].keys() == wanted[0].keys()
    for name, values in wanted[0].items():
        np.testing.assert_array_equal(found[0][name], values, err_msg=name)
    assert [*map(repr, found[1].scalars)] == [*map(repr, wanted[1].scalars)]
    assert found[1].arrays.keys() == wanted[1].arrays.keys()
    for name, array in wanted[1].arrays.items():
        np.testing.assert_array_equal(found[1].arrays[name].values, array.values, err_msg=name)
    for one, other in zip(found[1].series, wanted[1].series, strict=True):
        np.testing.assert_array_equal(one.y, other.y, err_msg=one.name)


@pytest.mark.parametrize("model", BUILDERS, ids=lambda part: part.builder)
@pytest.mark.parametrize("plan", PLANS)
def test_goes_on_and_equals_an_uninterrupted_run(
    plan: str, model: ModelPart, steps: list[int]
) -> None:
    record, again = PLANS[plan]
    long, short = (cell(model, record, **recipe) for recipe in (LONG, SHORT))
    train(long)
    assert steps[0] == 5 * STEPS
    whole = results(long)
    shutil.rmtree("results")
    train(short)
    steps[0] = 0
    train(long)
    assert steps[0] == 2 * STEPS + again
    assert_equal(results(long), whole)
    # and once more, from the end of a run that has gone on itself
    longer = cell(model, record, **{**LONG, "epochs": 6})
    train(longer)
    found = results(longer)
    shutil.rmtree("results")
    train(longer)
    assert_equal(found, results(longer))


def test_a_run_that_goes_on_is_resumed(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    record, _ = PLANS["windows overlap"]
    long, short = (cell(BUILDERS[0], record, **recipe) for recipe in (LONG, SHORT))
    train(long)
    whole = results(long)
    shutil.rmtree("results")
    train(short)
    monkeypatch.setattr("lossatlas.training.state.State.due", lambda _: steps[0] % 5 == 1)
    step, left = Engine._step, [30]

    def killed(engine, *arguments) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        step(engine, *arguments)

    monkeypatch.setattr(Engine, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(long)
    steps[0], left[0] = 0, 1000
    train(long)
    assert steps[0] < 2 * STEPS + 15
    assert_equal(results(long), whole)


def test_all_diverged_runs_go_on_to_the_same_end(steps: list[int]) -> None:
    wild = {"learning_rate": 1e30, "momentum": 0.0}
    long, short = (
        cell(BUILDERS[0], {"length": 10, "stride": 30}, **recipe, **wild)
        for recipe in (LONG, SHORT)
    )
    train(long)
    whole = results(long)
    assert whole[1].status == "diverged"
    shutil.rmtree("results")
    train(short)
    train(long)
    assert_equal(results(long), whole)


def damaged(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[-9] ^= 1
    Path(path).write_bytes(content)


OTHERS = {
    "another rate": {"learning_rate": 0.05},
    "another decay in the shared epochs": {"decay_epochs": [1, 4]},
    "an annealed rate": {"decay_epochs": [], "cosine": True},
    "other checkpoints": {"checkpoints": ["final"]},
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_recipes_are_trained_anew(other: str, steps: list[int]) -> None:
    train(cell(BUILDERS[0], {"length": 10}, **SHORT))
    steps[0] = 0
    train(cell(BUILDERS[0], {"length": 10}, **{**LONG, **OTHERS[other]}))
    assert steps[0] == 5 * STEPS


@pytest.mark.parametrize("gone", ["end", "record", "weights", "damage", "another record"])
def test_without_its_files_a_run_is_trained_anew(gone: str, steps: list[int]) -> None:
    long, short = (cell(BUILDERS[0], {"length": 10}, **recipe) for recipe in (LONG, SHORT))
    train(short)
    end, history = paths.end(short.id, BLOCK), paths.history(short.id, BLOCK)
    if gone == "damage":
        damaged(end)
    elif gone == "another record":
        kept = Path(end).read_bytes()
        train(short, code="other")
        Path(end).write_bytes(kept)
    else:
        files = {"end": end, "record": history, "weights": paths.weights(short.id, BLOCK)}
        Path(files[gone]).unlink()
    steps[0] = 0
    train(long)
    assert steps[0] == 5 * STEPS


def test_other_code_seeds_data_and_processors_are_trained_anew(
    steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = (cell(BUILDERS[0], {"length": 10}, **recipe) for recipe in (LONG, SHORT))
    train(short)
    steps[0] = 0
    train(long, code="newer")
    train(long, seeds=[0])
    assert steps[0] == 2 * 5 * STEPS
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")  # told by the provenance
    train(long)
    assert steps[0] == 3 * 5 * STEPS
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    data = convert("digits")
    data.arrays["train_images"].values[0, 0, 0] += 1
    store.write("digits.h5", data)
    train(long)
    assert steps[0] == 4 * 5 * STEPS


def test_nothing_is_kept_without_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    train(cell(BUILDERS[0], None, **SHORT))
    assert not Path(paths.end(cell(BUILDERS[0], None, **SHORT).id, BLOCK)).exists()
    one = cell(BUILDERS[0], {"length": 10}, **SHORT)
    train(one)
    values = ends._state(one, SEEDS, "").load(torch.device("cpu"))
    assert values is None, "an end is that of one code"
    path = Path(paths.end(one.id, BLOCK))
    tensors = safetensors.numpy.load_file(path)
    size = sum(t.size for name, t in results(one)[0].items() if name.startswith("final/"))
    assert 3 * size <= sum(t.size for t in tensors.values()) < 3.2 * size
    capsys.readouterr()
    train(cell(BUILDERS[0], {"length": 10}, **LONG))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"goes on from": one.id, "epochs": 3} in lines


def test_shorter_runs() -> None:
    long = cell(BUILDERS[0], {"length": 10}, **LONG)
    found = [(one.recipe.epochs, one.recipe.decay_epochs) for one in ends.shorter(long)]
    assert found == [(4, [2]), (3, [2]), (2, []), (1, [])]
    assert list(ends.shorter(cell(BUILDERS[0], None, epochs=4, cosine=True))) == []
