"""The training engine: against a plain PyTorch loop, together and alone, resumed and diverged."""

import hashlib
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from lossatlas import models
from lossatlas.data.augment import Augmentation
from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, one_of
from lossatlas.spec.parts import Augment, EarlyStop, Recipe, Recording
from lossatlas.training import engine as engine_module
from lossatlas.training import state as state_module
from lossatlas.training.batches import batches
from lossatlas.training.engine import Engine, initialise
from lossatlas.training.job import training_record
from lossatlas.training.schedules import has_settled, learning_rate, may_stop
from lossatlas.training.seeds import seed_of
from lossatlas.training.state import Preempted, State
from lossatlas.training.trained import Trained

torch.set_num_threads(1)


def split(count: int = 52, dtype: torch.dtype = torch.float32) -> Split:
    made = torch.Generator().manual_seed(3)
    images = torch.randn(count, 1, 8, 8, generator=made, dtype=dtype)
    labels = (images.mean(dim=(1, 2, 3)) * 20).round().long() % 4
    return Split(images, labels)


def resnet() -> nn.Module:
    return models.build("resnet18", {"width": 1}, num_classes=4, in_channels=1, image_size=8)


def mlp() -> nn.Module:
    shape = {"num_classes": 4, "in_channels": 1, "image_size": 8}
    return models.build("mlp", {"width": 6, "depth": 1}, **shape)


def normed() -> nn.Module:
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 4)]
    return nn.Sequential(*layers)


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


def weights(trained: Trained, kind: str = "final") -> dict[str, torch.Tensor]:
    params, buffers = trained.checkpoints[kind]
    return {**params, **buffers}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


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


@pytest.mark.parametrize("stop", [False, True])
def test_what_never_settles_is_measured_at_its_best(stop: bool) -> None:
    """As the authors' code chooses: early-stopped weights, then the best, then the final ones."""
    rule = EarlyStop(after=1, epochs=1, tolerance=1e-12, stop=stop)
    recipe = Recipe(epochs=6, batch_size=8, learning_rate=0.4, early_stop=rule)

    def train(*kinds: str) -> Trained:
        return Engine(
            mlp, recipe.model_copy(update={"checkpoints": list(kinds)}), [0, 1, 2], split()
        ).train()

    every = train("early", "best", "final")
    assert not every.epoch_of["early"].any()
    assert (every.epoch_of["best"] < 6).any()
    assert_same(weights(every, "early"), weights(every, "best"))
    assert_same(weights(every, "final"), weights(train("final")))
    assert_same(weights(train("early"), "early"), weights(every, "final"))


def test_best_is_the_epoch_of_lowest_training_loss() -> None:
    recipe = Recipe(epochs=6, batch_size=8, learning_rate=0.4, checkpoints=["best", "final"])
    trained = Engine(mlp, recipe, [0, 1, 2], split()).train()
    lowest = trained.history["train_loss"].argmin(axis=0) + 1
    assert len(set(lowest.tolist())) > 1
    assert trained.epoch_of["best"].tolist() == lowest.tolist()
    rows = training_record(trained).scalars
    assert [row.value for row in rows if row.name == "best_epoch"] == lowest.tolist()
    last = [row.value for row in rows if row.name == "final_train_loss"]
    assert last == trained.history["train_loss"][-1].tolist()
    assert last != trained.history["train_loss"].min(axis=0).tolist()
    short = Recipe(epochs=int(lowest[1]), batch_size=8, learning_rate=0.4)
    again = Engine(mlp, short, [0, 1, 2], split()).train()
    for name, tensor in weights(again).items():
        assert torch.equal(weights(trained, "best")[name][1], tensor[1])


def test_of_equally_good_epochs_the_first_is_best() -> None:
    still = {"learning_rate": 1e-30, "momentum": 0.0, "shuffle": False}
    recipe = Recipe(epochs=3, batch_size=52, checkpoints=["best"], **still)
    trained = Engine(mlp, recipe, [0, 1], split()).train()
    assert np.ptp(trained.history["train_loss"], axis=0).tolist() == [0, 0]
    assert trained.epoch_of["best"].tolist() == [1, 1]


def test_copies_take_their_statistics_along() -> None:
    """Of BatchNorm: those of the best epoch, and what a replica that never settled has instead."""
    kinds, rule = ["best", "early", "final"], EarlyStop(after=99)
    plan = Recipe(epochs=6, batch_size=8, learning_rate=0.4, checkpoints=kinds, early_stop=rule)
    trained = Engine(normed, plan, [0, 1], split()).train()
    assert trained.epoch_of["best"].min() < 6
    for index, epochs in enumerate(trained.epoch_of["best"].tolist()):
        short = Recipe(epochs=epochs, batch_size=8, learning_rate=0.4)
        again = weights(Engine(normed, short, [0, 1], split()).train())
        for name, tensor in again.items():
            assert torch.equal(weights(trained, "best")[name][index], tensor[index]), name
    assert trained.epoch_of["early"].tolist() == [0, 0]
    assert_same(weights(trained, "early"), weights(trained, "best"))
    without = plan.model_copy(update={"checkpoints": ["early", "final"]})
    trained = Engine(normed, without, [0, 1], split()).train()
    assert_same(weights(trained, "early"), weights(trained))


def test_early_stop_keeps_the_first_settled_epoch_and_may_end_training() -> None:
    rule = EarlyStop(after=2, epochs=1, tolerance=10.0, stop=True)
    recipe = Recipe(epochs=9, batch_size=16, checkpoints=["early"], early_stop=rule)
    trained = Engine(resnet, recipe, [0, 1], split()).train()
    assert trained.epoch_of["early"].tolist() == [2, 2]
    assert len(trained.rates) == 2


def test_a_replica_that_stops_does_not_depend_on_the_others() -> None:
    rule = EarlyStop(after=4, epochs=1, tolerance=0.004, stop=True)
    kinds = ["final", "best", "early"]

    def double() -> nn.Module:
        return mlp().double()

    recipe = Recipe(epochs=40, batch_size=16, checkpoints=kinds, early_stop=rule)
    together = Engine(double, recipe, [0, 1, 2], split(dtype=torch.float64)).train()
    assert len(set(together.ends.tolist())) > 1
    record = training_record(together)
    for index, seed in enumerate(together.seeds):
        alone = Engine(double, recipe, [seed], split(dtype=torch.float64)).train()
        assert alone.ends[0] == len(alone.rates) == together.ends[index]
        for kind in kinds:
            for name, tensor in weights(alone, kind).items():
                torch.testing.assert_close(weights(together, kind)[name][index], tensor[0])
        curve = next(s for s in record.series if (s.name, s.replica) == ("train_loss", seed))
        np.testing.assert_allclose(curve.y, alone.history["train_loss"][:, 0])
        assert curve.x.tolist() == list(range(1, alone.ends[0] + 1))
        final = next(s for s in record.scalars if (s.name, s.replica) == ("final_train_loss", seed))
        assert final.value == curve.y[-1]


def test_rule_of_fitted_data() -> None:
    """Loss and accuracy of the last epochs, both if both are given; and no earlier than `after`."""
    losses = [[0.4, 0.4, 0.4], [0.1, 0.1, 0.1], [0.1, 0.05, 0.11]]
    rights = [[99.0, 90.0, 100.0], [100.0, 100.0, 99.0], [100.0, 99.9, 100.0]]
    history = {"train_loss": losses, "train_accuracy": rights}

    def holds(**rule: Any) -> list[bool]:
        return may_stop(history, EarlyStop(**rule)).tolist()

    assert holds(after=0, epochs=2, loss=0.1) == [True, True, False]
    assert holds(after=0, epochs=2, accuracy=100) == [True, False, False]
    assert holds(after=0, epochs=1, accuracy=100) == [True, False, True]
    assert holds(after=0, epochs=1, accuracy=99.9, loss=0.05) == [False, True, False]
    assert holds(after=4, epochs=2, loss=0.1) == [False] * 3
    assert holds(after=0, epochs=3, loss=0.4) == [True] * 3  # levels, not changes: 3 are enough
    assert holds(after=0, epochs=4, loss=0.4) == [False] * 3
    assert may_stop({"train_loss": [[np.nan]]}, EarlyStop(after=0, epochs=1, loss=9)) == [False]


def test_training_ends_when_no_training_error_is_left() -> None:
    """One replica gets there and the other does not; each by its own history."""
    rule = EarlyStop(after=2, epochs=2, accuracy=100, stop=True)
    kinds = ["early", "final"]
    recipe = Recipe(epochs=120, batch_size=8, checkpoints=kinds, early_stop=rule)
    trained = Engine(mlp, recipe, [0, 1], split()).train()
    right = trained.history["train_accuracy"] == 100
    held = [[e for e in range(2, 121) if right[e - 2 : e, index].all()] for index in (0, 1)]
    assert held[0]
    assert not held[1]
    assert trained.ends.tolist() == [held[0][0], 120]
    assert_same(weights(trained, "early"), weights(trained))
    record = training_record(trained)
    found = {(r.replica, r.value, r.status) for r in record.scalars if r.name == "early_epoch"}
    assert found == {(0, float(held[0][0]), "ok"), (1, 0.0, "unconverged")}


def test_a_rule_that_never_holds_is_recorded() -> None:
    rule = EarlyStop(after=1, epochs=1, loss=1e-9, stop=True)
    recipe = Recipe(epochs=2, batch_size=16, early_stop=rule)
    trained = Engine(mlp, recipe, [0], split()).train()
    rows = {r.name: (r.value, r.status) for r in training_record(trained).scalars}
    assert rows["early_epoch"] == (0.0, "unconverged")
    assert rows["final_train_loss"][1] == "ok"
    assert trained.ends.tolist() == [2]


def test_settling_rule() -> None:
    losses = np.array([[5.0, 5.0], [1.0, 3.0], [1.00005, 2.0], [1.0, 1.0]])
    assert has_settled(losses, EarlyStop(after=0, epochs=2)).tolist() == [True, False]
    assert not has_settled(losses, EarlyStop(after=5, epochs=2)).any()
    assert not has_settled(losses, EarlyStop(after=0, epochs=3)).any()
    halves = np.array([[1.0, 1.0], [0.5, 0.4375]])  # at most the tolerance: equal is settled
    assert has_settled(halves, EarlyStop(after=0, epochs=1, tolerance=0.5)).tolist() == [
        True,
        False,
    ]


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


def test_seeds_are_hashes_of_words_that_do_not_run_together() -> None:
    digest = hashlib.sha256(b"order\0003\00017").hexdigest()
    assert seed_of("order", 3, 17) == int(digest[:16], 16) // 2
    assert seed_of("order", 3, 17) != seed_of("order", 31, 7)


def test_batches_cover_the_data_once() -> None:
    keep, some = Recipe(batch_size=16, incomplete_batch="keep"), split().take(slice(0, 50))
    index = torch.cat(list(batches(some, [0, 1], 0, keep)), 1)
    for row in index:
        assert sorted(row.tolist()) == list(range(50))
    assert not torch.equal(index[0], index[1])
    dropped = list(batches(some, [0], 0, Recipe(batch_size=16)))
    assert [len(b[0]) for b in dropped] == [16, 16, 16]
    other = torch.cat(list(batches(some, [0], 1, keep)), 1)
    assert not torch.equal(index[0], other[0])


class Odd(nn.Module):
    """A frozen layer, an unused one, dropout, tied weights, no normalisation."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(64, 8)
        self.first.requires_grad_(False)
        self.unused = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, num_classes)
        self.again = nn.Linear(8, num_classes)
        self.again.weight = self.head.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(self.first(x.flatten(1)).relu())
        return self.head(hidden) + self.again(hidden)


class Noisy(nn.Module):
    """Draws random numbers without a module of its own for that."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.dropout(self.first(x.flatten(1)).relu(), 0.5, self.training)
        return self.last(hidden)


@pytest.mark.parametrize("alone", [True, False])
def test_every_random_number_comes_from_the_seeds(
    monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    monkeypatch.setattr(engine_module, "is_small", lambda *_: not alone)
    recipe = Recipe(epochs=2, batch_size=13, learning_rate=0.1)
    before = torch.random.get_rng_state()
    first, second = (Engine(Noisy, recipe, [0, 1], split()).train() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_same(weights(first), weights(second))
    if alone:  # one by one, they do not depend on each other
        other = Engine(Noisy, recipe, [1], split()).train()
        assert_same(weights(other), {n: w[1:] for n, w in weights(first).items()})


class Same(nn.Module):
    """Starts with the same weights whatever the seed."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.drop, self.last = nn.Dropout(dropout), nn.Linear(64, 4, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(torch.linspace(-1, 1, 256).view(4, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(x.flatten(1)))


@pytest.mark.parametrize("drawn", ["dropout", "augmentation"])
def test_every_step_of_every_replica_has_draws_of_its_own(
    monkeypatch: pytest.MonkeyPatch, drawn: str
) -> None:
    """On equal weights and images, losses differ by what was drawn alone."""
    monkeypatch.setattr(engine_module, "is_small", lambda *_: False)
    half, crop = split(13), Augmentation(Augment(crop=2), torch.zeros(1))
    twice = [torch.cat([one, one]) for one in (half.images, half.labels)]
    data = Split(*twice, crop if drawn == "augmentation" else None)
    window = Recording(length=2, stride=1, projection=0)
    still = {"learning_rate": 1e-12, "momentum": 0.0, "weight_decay": 0.0, "shuffle": False}
    recipe = Recipe(epochs=2, batch_size=13, record=window, **still)
    build = partial(Same, 0.5 if drawn == "dropout" else 0.0)
    losses = Engine(build, recipe, [3, 4], data).train().path["path_loss"].values
    assert losses.shape == (4, 2)
    assert len(np.unique(losses.round(6))) == 8


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_odd_modules_train(seeds: list[int]) -> None:
    recipe = Recipe(epochs=4, batch_size=13, learning_rate=0.1, weight_decay=0.0)
    first, second = (Engine(lambda: Odd(4), recipe, seeds, split()).train() for _ in range(2))
    assert_same(weights(first), weights(second))
    made = initialise(lambda: Odd(4), 0)
    params = one_of(first.checkpoints["final"][0], 0)
    assert torch.equal(params["first.weight"], made.first.weight)
    assert torch.equal(params["unused.weight"], made.unused.weight)
    assert not torch.equal(params["head.weight"], made.head.weight)
    assert "again.weight" not in params
    assert first.history["train_loss"][-1, 0] < first.history["train_loss"][0, 0]


def test_functional_equals_the_module() -> None:
    module = initialise(lambda: Odd(4), 1).eval()
    functional = Functional(module)
    params = {name: p.detach() for name, p in module.named_parameters()}
    images = split().images
    assert torch.equal(functional(params, {}, images, train=False), module(images))


class Pair(nn.Module):
    """Returns its features too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inner(x), x


@pytest.mark.parametrize(
    ("build", "says"),
    [(Pair, "returns a tuple"), (nn.Identity, "tensor of shape \\(2, 1, 8, 8\\)")],
)
def test_networks_without_logits_are_refused(build, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Engine(build, RECIPES[0], [0, 1], split())
