"""A part of a grid by conditions: which cells are made, and that they are those of the whole."""

from __future__ import annotations

from typing import Any

import pytest

from lossatlas.errors import UserError
from lossatlas.spec.config import load
from lossatlas.spec.plan import make_plan
from lossatlas.spec.subset import Condition, conditions

GRID = {
    "dataset": "digits",
    "model": "mlp",
    "recipe": "short",
    "load": {"width": [2, 4, 8]},
    "temperature": {"batch_size": [16, 64]},
}


def config(only: str = "", own: str = "", **more: Any) -> Any:
    other = {**GRID, "temperature": {"learning_rate": [0.1, 0.5]}}
    return load(
        {
            "datasets": {"digits": {}},
            "models": {"mlp": {}},
            "recipes": {"short": {"epochs": 1}},
            "experiments": {"grid": {**GRID, "only": own}, "rates": other},
            "only": only,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", 6),
        ("width<=4", 4),
        ("width <= 4 and batch_size >= 64", 2),
        ("width=8", 2),
        ("width==8 and batch_size!=64", 1),
        ("width>2 and width<8", 2),
        ("batch_size<1.7e1", 3),
    ],
)
def test_cells_are_those_of_the_whole_grid(text: str, left: int) -> None:
    whole, part = make_plan(config()), make_plan(config(own=text))
    assert len(part.experiments["grid"]) == left
    assert set(part.experiments["grid"]) <= set(whole.experiments["grid"])
    assert part.experiments["rates"] == whole.experiments["rates"]


def test_of_all_experiments_those_with_the_axis() -> None:
    part = make_plan(config("width<=4 and batch_size>=64"))
    assert len(part.experiments["grid"]) == 2
    assert len(part.experiments["rates"]) == 4


def test_both_count() -> None:
    assert len(config("width<=4", "batch_size>=64").grid("grid")) == 2


@pytest.mark.parametrize(
    ("only", "own", "says"),
    [
        ("widht<=4", "", r"only: there is no axis 'widht' \(did you mean 'width'\?\)"),
        ("", "learning_rate<1", r"experiments.grid.only: there is no axis 'learning_rate'"),
        ("width<=four", "", "'width<=four' does not compare an axis with a number"),
        ("width<=4 or width>=8", "", "does not compare"),
        ("width<=4 and", "", "'' does not compare"),
        ("", "width>8", "experiments.grid.only: leaves no cell of 'grid'"),
        ("width>8", "", "only: leaves no cell of 'grid'"),
    ],
)
def test_bad_conditions_are_refused(only: str, own: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        config(only, own)


def test_conditions_are_read() -> None:
    found = conditions("width<=16 and model.depth != -1.5e1", "only")
    assert found == [Condition("width", "<=", 16.0), Condition("model.depth", "!=", -15.0)]
    assert found[0].holds({"depth": 3})
    assert not found[1].holds({"model.depth": -15})
