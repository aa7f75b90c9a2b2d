"""Recipes and data that train the same networks are one cell, and no others are."""

from typing import Any

import pytest
import torch
import yaml

from lossatlas import paths
from lossatlas.data.tensors import Split
from lossatlas.models.mlp import MLP
from lossatlas.spec.cells import Cell, from_spec
from lossatlas.spec.config import load
from lossatlas.spec.parts import DataPart, EarlyStop, ModelPart, Recipe
from lossatlas.spec.plan import make_plan
from lossatlas.training.engine import Engine
from lossatlas.training.trained import Trained


def cell(recipe: dict[str, Any], data: dict[str, Any] | None = None) -> Cell:
    part = DataPart(source="digits", **(data or {}))
    return Cell(part, ModelPart(builder="mlp"), Recipe(**recipe))


SCALED = {"learning_rate": 0.05, "rate_per_batch": 128}
EARLY = {"checkpoints": ["early", "best"], "epochs": 4}
SAME = [
    ({**SCALED, "batch_size": 128}, {"learning_rate": 0.05}),
    ({**SCALED, "batch_size": 512}, {"learning_rate": 0.2, "batch_size": 512}),
    ({"decay_factor": 0.5}, {}),
    ({"decay_factor": 0.5, "cosine": True}, {"cosine": True}),
    ({"decay_factor": 1, "decay_epochs": [3]}, {}),
    ({"epochs": 1, "cosine": True}, {"epochs": 1}),
    ({"early_stop": {"after": 3}}, {}),  # nothing looks at it
    ({"epochs": 4, "early_stop": {"stop": True}}, {"epochs": 4}),  # it looks from epoch 30 on
    ({**EARLY, "early_stop": {"after": 9}}, {**EARLY, "early_stop": {"epochs": 7, "stop": True}}),
    (
        {**EARLY, "early_stop": {"epochs": 2, "after": 0}},
        {**EARLY, "early_stop": {"epochs": 2, "after": 3}},
    ),
]
OTHER = [
    ({**SCALED, "batch_size": 256}, {"learning_rate": 0.05, "batch_size": 256}),
    ({**SCALED, "batch_size": 44}, {"learning_rate": 0.017, "batch_size": 44}),
    ({"decay_factor": 0.5, "decay_epochs": [3]}, {"decay_epochs": [3]}),
    ({"epochs": 2, "cosine": True}, {"epochs": 2}),
    ({"momentum": 0, "nesterov": True}, {"momentum": 0}),  # 0 times an infinite gradient is NaN
    ({"checkpoints": ["best", "final"]}, {"checkpoints": ["final", "best"]}),  # what is measured
    ({"early_stop": {"stop": True}}, {}),
    ({**EARLY, "early_stop": {"after": 9}}, {"checkpoints": ["best"], "epochs": 4}),
    (
        {**EARLY, "early_stop": {"epochs": 2, "after": 3}},
        {**EARLY, "early_stop": {"epochs": 2, "after": 4}},
    ),
    (
        {**EARLY, "early_stop": {"epochs": 2, "after": 3}},
        {**EARLY, "early_stop": {"epochs": 3, "after": 3}},
    ),
    ({"incomplete_batch": "keep"}, {}),
    ({"weight_decay": 0}, {}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_recipes_that_are_one_cell(one: dict, other: dict) -> None:
    assert cell(one).id == cell(other).id
    assert from_spec(cell(one).spec) == cell(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_recipes_that_are_two_cells(one: dict, other: dict) -> None:
    assert cell(one).id != cell(other).id


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"seed": 3}, {}, True),
        ({"transforms": "paper"}, {}, True),
        (
            {"transforms": "paper", "fraction": 0.5, "seed": 3},
            {"transforms": "paper", "fraction": 0.5},
            True,
        ),
        ({"transforms": "paper", "fraction": 0.5}, {"fraction": 0.5}, False),
        ({"seed": 3, "fraction": 0.5}, {"fraction": 0.5}, False),
        ({"seed": 3, "label_noise": 0.5}, {"label_noise": 0.5}, False),
        ({"seed": 3, "pixel_noise": 0.5}, {"pixel_noise": 0.5}, False),
    ],
)
def test_data(one: dict, other: dict, same: bool) -> None:
    assert (cell({}, one).id == cell({}, other).id) is same


def trained(recipe: Recipe) -> Trained:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(80, 1, 4, 4, generator=draw)
    split = Split(images, torch.randint(0, 3, (80,), generator=draw))
    return Engine(lambda: MLP(3, 1, 4, 4, 1), recipe, [0, 1], split).train()


@pytest.mark.parametrize(("one", "other"), SAME)
def test_recipes_of_one_cell_train_the_same_bits(one: dict, other: dict) -> None:
    """As they are written, before they become the recipe of a cell."""
    small = {"epochs": min(one.get("epochs", 4), 4), "batch_size": one.get("batch_size", 128) // 8}
    if "rate_per_batch" in one:
        one = {**one, "rate_per_batch": one["rate_per_batch"] // 8}
    first, second = (trained(Recipe(**{**part, **small})) for part in (one, other))
    assert first.rates == second.rates
    assert first.history.keys() == second.history.keys()
    assert all((first.history[k] == second.history[k]).all() for k in first.history)
    for kind, (params, buffers) in first.checkpoints.items():
        others = second.checkpoints[kind]
        assert all(torch.equal(params[n], others[0][n]) for n in params)
        assert all(torch.equal(buffers[n], others[1][n]) for n in buffers)


def test_a_rate_that_is_no_number() -> None:
    with pytest.raises(ValueError, match="'rate_per_batch' makes the learning rate inf"):
        Recipe(learning_rate=1e308, batch_size=1000, rate_per_batch=1)


def test_a_rule_that_cannot_act_is_written_in_one_way() -> None:
    rule = cell({**EARLY, "early_stop": {"after": 9, "tolerance": 1, "stop": True}}).recipe
    assert rule.early_stop == EarlyStop(after=5)


def test_cells_of_the_taxonomy_paper() -> None:
    """14 cells of `lr_scaling`, those of batch size 128, are cells of `constant`: 1602 before."""
    config = load(yaml.safe_load((paths.PROJECT / "config/taxonomy.yaml").read_text()))
    plan = make_plan(config, lambda _: [])
    assert len([one for one in plan.cells if not one.startswith("iwslt")]) == 1588
    scaled, constant = (set(plan.experiments[name]) for name in ("lr_scaling", "constant"))
    assert {plan.cells[one].cell.recipe.batch_size for one in scaled & constant} == {128}
    assert len(scaled & constant) == 14


def test_axes_keep_what_the_config_says() -> None:
    config = load(
        yaml.safe_load("""
        datasets: {digits: }
        models: {mlp: }
        recipes: {scaled: {rate_per_batch: 64}}
        experiments:
          one: {dataset: digits, model: mlp, recipe: scaled, load: {width: [4]},
                temperature: {learning_rate: [0.1, 1.0], batch_size: [128]}}
        """)
    )
    assert [one["learning_rate"] for one in config.grid("one")] == [0.1, 1]
    assert [one.recipe.learning_rate for one in config.cells("one")] == [0.2, 2]
