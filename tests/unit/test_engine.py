"""The training engine: against a plain PyTorch loop, together and alone, resumed and diverged."""

import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.models.functional import one_of
from lossatlas.spec.parts import EarlyStop, Recipe
from lossatlas.training import engine as engine_module
from lossatlas.training import state as state_module
from lossatlas.training.batches import batches
from lossatlas.training.engine import Engine, initialise
from lossatlas.training.job import training_record
from lossatlas.training.schedules import learning_rate
from lossatlas.training.state import Preempted, State
from trainings import assert_same, mlp, resnet, split, weights

torch.set_num_threads(1)


RECIPES = [
    Recipe(epochs=3, batch_size=16, learning_rate=0.05, incomplete_batch="keep"),
    Recipe(epochs=3, batch_size=16, learning_rate=0.05, nesterov=True, decay_epochs=[2]),
    Recipe(
        epochs=3, batch_size=13, learning_rate=0.02, momentum=0.0, weight_decay=0.0, cosine=True
    ),
    Recipe(epochs=2, batch_size=26, learning_rate=0.1, rate_per_batch=52),
]


def plain_loop(
    build, recipe: Recipe, seed: int, data: Split
) -> tuple[nn.Module, dict[str, list[float]]]:
    """The same training as a researcher would write it, with torch.optim.SGD."""
    module = initialise(build, seed).to(data.images.dtype)
    optimiser = torch.optim.SGD(
        module.parameters(),
        lr=1.0,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    history: dict[str, list[float]] = {"train_loss": [], "train_accuracy": []}
    for epoch in range(recipe.epochs):
        optimiser.param_groups[0]["lr"] = learning_rate(recipe, epoch)
        total = right = seen = 0.0
        for index in batches(data, [seed], epoch, recipe):
            batch = data.take(index[0])
            logits = module(batch.images)
            loss = F.cross_entropy(logits, batch.labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total, seen = total + loss.item() * len(batch), seen + len(batch)
            right += (logits.argmax(1) == batch.labels).sum().item()
        history["train_loss"].append(total / seen)
        history["train_accuracy"].append(100 * right / seen)
    return module, history


# Steps at these rates magnify rounding, by how much depends on the processor: 5e-9 has been seen.
CLOSE = {"rtol": 1e-7, "atol": 1e-9}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("build", [resnet, mlp])
def test_equals_a_plain_loop(build, recipe: Recipe) -> None:
    data = split(dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        trained = Engine(build, recipe, [5, 9], data).train()
        for index, seed in enumerate(trained.seeds):
            module, history = plain_loop(build, recipe, seed, data)
            params, buffers = (one_of(t, index) for t in trained.checkpoints["final"])
            for name, p in module.named_parameters():
                torch.testing.assert_close(params[name], p.detach(), **CLOSE)
            for name, b in module.named_buffers():
                torch.testing.assert_close(buffers[name], b, **CLOSE)
            for name, values in history.items():
                found = trained.history[name][:, index]
                np.testing.assert_allclose(found, values, rtol=CLOSE["rtol"])
    finally:
        torch.set_default_dtype(torch.float32)


def test_two_runs_are_equal_bit_for_bit() -> None:
    recipe = Recipe(epochs=2, batch_size=16)
    first, second = (Engine(resnet, recipe, [0, 1], split()).train() for _ in range(2))
    assert_same(weights(first), weights(second))


def test_seeds_differ_and_do_not_depend_on_global_state() -> None:
    recipe = Recipe(epochs=1, batch_size=16)
    torch.manual_seed(1)
    first = Engine(resnet, recipe, [0, 1], split()).train()
    torch.manual_seed(2)
    second = Engine(resnet, recipe, [0, 1], split()).train()
    assert_same(weights(first), weights(second))
    stem = weights(first)["stem.weight"]
    assert not torch.allclose(stem[0], stem[1])


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 4, 7])
def test_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Killed in the middle of an epoch, the same command ends with the same weights."""
    recipe = Recipe(
        epochs=3,
        batch_size=16,
        checkpoints=["final", "best", "early"],
        early_stop=EarlyStop(after=1, epochs=1, tolerance=0.5),
    )
    whole = Engine(resnet, recipe, [0, 1], split()).train()
    path, calls = tmp_path / "state", 0
    step = Engine._step

    def counted(self: Engine, *given: object) -> None:
        nonlocal calls
        calls += 1
        if calls > at:
            raise Killed
        step(self, *given)

    monkeypatch.setattr(engine_module.Engine, "_step", counted)
    with pytest.raises(Killed):
        Engine(resnet, recipe, [0, 1], split(), State(path, "key", every=0.0)).train()
    monkeypatch.undo()
    taken = []
    resumed = Engine(resnet, recipe, [0, 1], split(), State(path, "key"), taken.append)
    trained = resumed.train()
    assert resumed.run.epoch == 3
    assert len(taken) < 3 or at < 3
    for kind in recipe.checkpoints:
        assert_same(weights(whole, kind), weights(trained, kind))
    for name, values in whole.history.items():
        np.testing.assert_array_equal(values, trained.history[name])


def test_state_of_other_work_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "state"
    State(path, "one").save({"x": torch.ones(2)}, {"epoch": 1})
    assert State(path, "other").load(torch.device("cpu")) is None
    found = State(path, "one").load(torch.device("cpu"))
    assert found is not None
    assert found[1] == {"epoch": 1}
    path.write_bytes(path.read_bytes()[:40])
    assert State(path, "one").load(torch.device("cpu")) is None


@pytest.mark.parametrize(("takes", "pause"), [(1.0, 60.0), (10.0, 200.0), (600.0, 900.0)])
def test_costly_saves_are_rarer_within_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: float, pause: float
) -> None:
    now = [0.0]

    def slow(*_: object) -> None:
        now[0] += takes

    monkeypatch.setattr(state_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(state_module.seal, "close", slow)
    state = State(tmp_path / "state", "key", every=60.0)
    state.save({"numbers": torch.ones(2)}, {})
    now[0] += pause - 1
    assert not state.due()
    now[0] += 1
    assert state.due()


def test_told_twice_in_the_middle_of_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR1)}
    save = safetensors.torch.save_file

    def told(*given: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        save(*given)
        signal.raise_signal(signal.SIGTERM)

    try:
        state = State(tmp_path / "state", "key").listen()
        monkeypatch.setattr(safetensors.torch, "save_file", told)
        with pytest.raises(Preempted):
            state.save({"numbers": torch.ones(2)}, {"step": 3})
        found = State(tmp_path / "state", "key").load(torch.device("cpu"))
        assert found is not None
        assert found[1] == {"step": 3}
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_leaves_when_told_to_whatever_part_is_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        state = State(tmp_path / "state", "key").listen()
        first = state.part("first")
        assert not first.due()
        signal.raise_signal(number)  # between two parts
        second = state.part("second")
        assert [one.due() for one in (first, second, state)] == [True] * 3
        with pytest.raises(Preempted):
            second.save({"numbers": torch.ones(2)}, {"step": 3})
        tensors, values = State(tmp_path / "state", "key").part("second").load(torch.device("cpu"))
        assert tensors["numbers"].tolist() == [1, 1]
        assert values == {"step": 3}
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@pytest.mark.parametrize("small", [True, False])
def test_side_by_side_equals_vectorised(monkeypatch: pytest.MonkeyPatch, small: bool) -> None:
    """Larger networks of a block are computed one by one, bit for bit as if alone."""
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=0.02)
    monkeypatch.setattr(engine_module, "is_small", lambda *_: small)
    both = Engine(resnet, recipe, [3, 4], split())
    assert len(both.groups) == (1 if small else 2)
    trained, alone = both.train(), Engine(resnet, recipe, [4], split()).train()
    for name, tensor in weights(alone).items():
        if small:
            torch.testing.assert_close(weights(trained)[name][1], tensor[0], rtol=2e-3, atol=2e-4)
        else:
            assert torch.equal(weights(trained)[name][1], tensor[0])


def test_divergence_is_a_status_and_spares_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(epochs=2, batch_size=16, learning_rate=0.02, checkpoints=["best", "final"])
    healthy = Engine(resnet, recipe, [3, 4], split()).train()
    sick = Engine(resnet, recipe, [3, 4], split())
    with torch.no_grad():
        sick.run.flat[0] *= float("inf")
    trained = sick.train()
    assert trained.diverged.tolist() == [True, False]
    assert training_record(trained).status == "ok"  # of the cell: not all are lost
    for name, tensor in weights(healthy).items():
        torch.testing.assert_close(weights(trained)[name][1], tensor[1])


def test_losses_and_weights_must_both_be_finite() -> None:
    engine = Engine(mlp, Recipe(epochs=1, batch_size=52), [0, 1, 2], split())
    engine.run.optimiser.memory["velocity"][0] = float(
        "inf"
    )  # the one step comes after the one loss
    engine.run.sums[0, 1] = float("inf")
    assert engine.train().diverged.tolist() == [True, True, False]


def test_what_happens_to_a_replica_after_it_stopped_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rule = EarlyStop(after=4, epochs=1, tolerance=0.004, stop=True)
    recipe = Recipe(epochs=40, batch_size=16, early_stop=rule)
    healthy = Engine(mlp, recipe, [0, 1, 2], split()).train()
    first = int(healthy.ends.argmin())
    assert healthy.ends[first] < healthy.ends.max()
    gradient = Engine._gradient

    def poisoned(self: Engine, group, index: torch.Tensor) -> torch.Tensor:
        found = gradient(self, group, index)
        if self.run.epoch >= healthy.ends[first]:
            found[first] = float("nan")
        return found

    monkeypatch.setattr(Engine, "_gradient", poisoned)
    trained = Engine(mlp, recipe, [0, 1, 2], split()).train()
    assert not trained.diverged.any()
    assert np.isnan(trained.history["train_loss"][-1, first])
    assert_same(weights(trained), weights(healthy))


def test_stops_when_all_have_diverged() -> None:
    recipe = Recipe(epochs=50, batch_size=16, learning_rate=1e20)
    trained = Engine(resnet, recipe, [0, 1], split()).train()
    assert trained.diverged.all()
    assert len(trained.rates) < 50
    assert training_record(trained).status == "diverged"


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size 53 is more than the 52 training images"):
        Engine(mlp, Recipe(epochs=1, batch_size=53), [0], split())
    kept = Recipe(epochs=1, batch_size=53, incomplete_batch="keep")
    assert not Engine(mlp, kept, [0], split()).train().diverged.any()


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_a_batch_of_one_image_is_refused_where_it_has_no_variance(seeds: list[int]) -> None:
    recipe = Recipe(epochs=1, batch_size=17, incomplete_batch="keep")  # 52 = 3 x 17 + 1
    with pytest.raises(UserError, match=r"a batch has one image.*'incomplete_batch: drop'"):
        Engine(resnet, recipe, seeds, split()).train()
    assert not Engine(mlp, recipe, seeds, split()).train().diverged.any()


def test_rates() -> None:
    decay = Recipe(epochs=100, learning_rate=0.1, decay_epochs=[75])
    assert [round(learning_rate(decay, e), 12) for e in (0, 74, 75, 99)] == [0.1, 0.1, 0.01, 0.01]
    scaled = Recipe(learning_rate=0.05, batch_size=512, rate_per_batch=128)
    assert learning_rate(scaled, 7) == pytest.approx(0.2)
    cosine = Recipe(epochs=10, learning_rate=0.01, cosine=True)
    expected = [0.01, 0.009755, 0.009045, 0.007939, 0.006545, 0.005, 0.003455, 0.002061, 0.000955]
    assert [round(learning_rate(cosine, e), 6) for e in range(9)] == expected


def test_rates_are_told_as_they_were() -> None:
    lines: list[dict] = []
    window = {"length": 2, "projection": 0}
    recipe = Recipe(epochs=3, batch_size=26, learning_rate=0.5, decay_epochs=[2], record=window)
    trained = Engine(mlp, recipe, [0, 1], split(), report=lines.append).train()
    arrays = {name: array.values for name, array in training_record(trained).arrays.items()}
    assert trained.rates == pytest.approx([0.5, 0.5, 0.05])
    assert [line["learning_rate"] for line in lines] == trained.rates
    assert arrays["learning_rate"].tolist() == trained.rates
    assert arrays["path_rate"] == pytest.approx([0.5] * 4 + [0.05] * 2)
    assert arrays["path_epoch"].tolist() == [0, 0, 1, 1, 2, 2]
    assert arrays["path_optimiser"].tolist() == [0.9, 0.0, 5e-4]
