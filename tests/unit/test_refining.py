"""Refinements of a config: what is refused, what is planned, which replicas are added."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from lossatlas import paths, report
from lossatlas.errors import UserError
from lossatlas.spec import config
from lossatlas.spec.plan import Plan, make_plan
from lossatlas.spec.refining import MOST

REFINED = """
datasets: {digits: }
models: {small: {builder: mlp, depth: 1}}
recipes: {short: {epochs: 2}}
experiments:
  grid:
    dataset: digits
    model: small
    recipe: short
    load: {width: [1, 2, 4, 8, 16]}
    temperature: {batch_size: [16, 32, 64, 128]}
    seeds: 3
    together: 3
    metrics: [performance, hessian, connectivity, cka]
    refine: {budget: 11}
"""


def given(**changes: Any) -> dict[str, Any]:
    """Return the config with other values in the experiment; None takes one out."""
    raw: dict[str, Any] = yaml.safe_load(REFINED)
    raw["experiments"]["grid"] |= changes
    raw["experiments"]["grid"] = {k: v for k, v in raw["experiments"]["grid"].items() if v}
    return raw


def plan(**changes: Any) -> Plan:
    return make_plan(config.load(given(**changes)), lambda _: [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"refine": {"budget": 3}},
            "experiments.grid.refine.budget: 3 is less than the 4 cells of the first round"
            " (at least 4, or 'start: 2')",
        ),
        (
            {"refine": {"budget": 21}},
            "experiments.grid.refine.budget: 21 is more than the 20 cells of the grid"
            " (at most 20; without 'refine' all are measured)",
        ),
        (
            {"temperature": {"batch_size": [16]}},
            "experiments.grid.refine: the grid has one axis, 'width'"
            " (two axes of several values, or no 'refine')",
        ),
        (
            {"metrics": ["performance", "hessian"]},
            "experiments.grid.refine: phases need connectivity, cka, and the experiment does not"
            " measure that (add to experiments.grid.metrics)",
        ),
        (
            {"refine": {"budget": 9, "start": 1}},
            "experiments.grid.refine.start: 1 value of each axis is no grid"
            " (at least 2, or 'coarse')",
        ),
    ],
)
def test_bad_input_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        config.load(given(**changes))
    assert str(caught.value) == message


def test_rounds_spend_the_budget() -> None:
    found = plan()
    one = found.refined["grid"]
    assert len(one.start) == 4
    assert one.counts == [4, 3]
    assert one.budget == 11
    assert found.chosen("grid") == one.start
    assert sum(cell.sure for cell in found.cells.values()) == 4
    assert all(cell.sure for cell in plan(refine=None).cells.values())


def test_cells_and_their_ids_are_those_of_the_whole_grid() -> None:
    assert plan().experiments == plan(refine=None).experiments
    assert plan(refine={"budget": 20}).experiments == plan().experiments


def test_replicas_that_may_be_added_are_blocks_of_a_purchase() -> None:
    cell = next(iter(plan().cells.values()))
    assert cell.blocks == {"0-2": [0, 1, 2]}
    assert cell.further == list(range(3, 3 * MOST))
    assert list(cell.further_blocks) == ["3-5", "6-8", "9-11"]


def test_what_is_on_disk_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = plan()
    every = found.experiments["grid"]
    others = [cell for cell in every if cell not in found.refined["grid"].start]
    path = Path(paths.refined("grid", 1))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"bought": [*found.refined["grid"].start, *others[:4]]}))
    assert len(found.chosen("grid")) == 8


def printed(call: Any, *arguments: Any) -> str:
    text = io.StringIO()
    call(*arguments, console=Console(file=text, width=200))
    return text.getvalue()


def test_plan_and_status_say_up_to_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = printed(report.plan, plan())
    assert "grid is refined, up to 11 cells of 20" in told
    assert "4 are known" in told
    row = next(line.split() for line in told.splitlines() if line.split()[:1] == ["grid"])
    assert row[1:3] == ["11", "33"]
    assert "grid: 4 of up to 11 cells" in printed(report.status, plan())


def test_a_rehearsal_runs_its_small_grid_whole() -> None:
    assert not plan_of_rehearsal().refined


def plan_of_rehearsal() -> Plan:
    return make_plan(config.load({**given(), "rehearse": True}), lambda _: [])
