"""Which weights of a training are kept, and when it ends early."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lossatlas.spec.parts import EarlyStop, Recipe
from lossatlas.training.engine import Engine
from lossatlas.training.job import training_record
from lossatlas.training.schedules import has_settled, may_stop
from lossatlas.training.trained import Trained
from trainings import assert_same, mlp, normed, resnet, split, weights


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
