"""Settings of metrics that vary with an axis."""

import copy
from typing import Any

import pytest
import yaml

from lossatlas.errors import UserError
from lossatlas.spec import config
from lossatlas.spec.plan import make_plan

CONFIG = yaml.safe_load("""
datasets: {digits: }
models: {mlp: {depth: 1}}
recipes: {short: {epochs: 1, learning_rate: 0.1, rate_per_batch: 64}}
experiments:
  amount:
    dataset: digits
    model: mlp
    recipe: short
    load: {data_fraction: [0.1, 0.3, 0.4, 1.0]}
    temperature: {batch_size: [32, 64]}
    seeds: 2
    metrics: [connectivity]
  whole: {dataset: digits, model: mlp, recipe: short, load: {width: [4, 8]}, seeds: 2,
          metrics: [connectivity]}
metrics: {connectivity: {epochs: {per: data_fraction, times: 50, power: -1, round: nearest}}}
figures: {taxonomy_reference_phases: }
""")


def given(experiment: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    raw = copy.deepcopy(CONFIG)
    raw["metrics"]["connectivity"] |= settings
    raw["experiments"]["amount"] |= experiment or {}
    return raw


def by_cell(raw: dict[str, Any], name: str, setting: str) -> list[Any]:
    loaded = config.load(raw)
    return [getattr(loaded.metric("connectivity", one), setting) for one in loaded.cells(name)]


def test_each_cell_has_its_number() -> None:
    assert by_cell(CONFIG, "amount", "epochs") == [500, 500, 167, 167, 125, 125, 50, 50]
    assert by_cell(CONFIG, "whole", "epochs") == [50, 50]  # all data, without such an axis


def test_a_cell_is_measured_as_with_the_number_itself() -> None:
    """The settings that jobs, records and fingerprints get are plain numbers."""
    vary, plain = config.load(CONFIG), config.load(given(epochs=50))
    for one, other in zip(vary.cells("whole"), plain.cells("whole"), strict=True):
        assert one.id == other.id
        found = vary.metric("connectivity", one)
        assert found.identity == plain.metric("connectivity").identity
        assert type(found.epochs) is int
    smallest = vary.metric("connectivity", vary.cells("amount")[0])
    assert {**smallest.identity, "epochs": 50} == plain.metric("connectivity").identity
    assert not plain.varies("connectivity")


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ({"per": "batch_size"}, [32, 64]),
        ({"per": "batch_size", "times": 0.3, "round": "down"}, [9, 19]),
        ({"per": "batch_size", "times": 0.3, "round": "up"}, [10, 20]),
        ({"per": "batch_size", "power": 0.5, "round": "nearest"}, [6, 8]),
        ({"per": "data_fraction", "times": 7.0}, [7, 7]),
    ],
)
def test_the_rule(rule: dict[str, Any], numbers: list[int]) -> None:
    raw = given({"load": {"data_fraction": [1.0]}}, epochs=rule)
    assert by_cell(raw, "amount", "epochs") == numbers


def test_settings_that_are_no_whole_numbers() -> None:
    rule = {"per": "learning_rate", "times": 0.1}  # as it acts: scaled by the batch size
    raw = given({"load": {"data_fraction": [1.0]}}, learning_rate=rule)
    assert by_cell(raw, "amount", "learning_rate") == pytest.approx([0.005, 0.01])


def test_time_is_planned_by_the_number_of_the_cell() -> None:
    loaded = config.load(CONFIG)
    plan = make_plan(loaded, lambda _: [])
    one, *_ = plan.experiments["amount"]
    steps = loaded.metric("connectivity", plan.cells[one].cell).passes(plan.cells[one])[0][0]
    assert steps == pytest.approx(500 * 144 / 128, rel=0.01)


RULE = {"per": "data_fraction", "times": 50, "power": -1}
WRONG = [
    ({"epochs": RULE}, r"cell .*f0\.3.*connectivity\.epochs: .*fractional.*add 'round: nearest'"),
    ({"epochs": {**RULE, "per": "data_fractoin"}}, "did you mean 'data_fraction'"),
    ({"epochs": {**RULE, "per": "nonsense"}}, r"unknown axis 'nonsense' \(valid: .*model"),
    ({"epochs": {**RULE, "time": 50}}, r"connectivity\.epochs: unknown key 'time' \(did you"),
    ({"epochs": {**RULE, "round": "near"}}, r"epochs\.round: .*nearest"),
    ({"epochs": {**RULE, "times": "many"}}, r"epochs\.times: .*number"),
    ({"epochs": {**RULE, "times": -50}}, "greater than or equal to 1"),
    (
        {"epochs": {"per": "label_noise", "power": -1}},
        r"metrics\.connectivity: 1 \* 0\.0 \*\* -1 is no finite number",
    ),
    ({"epochs": {"per": "batch_size", "power": 999}}, "is no finite number"),
    ({"epochs": {"per": "model.growth"}}, "model.growth is not known"),
    ({"epoch": RULE}, r"unknown key 'epoch' \(did you mean 'epochs'"),
    ({"curve": RULE}, "'bezier' or 'polygon'"),
    ({"epochs": {"times": 50}}, r"connectivity\.epochs: .*valid integer"),
    ({"pairs": RULE}, r"metrics\.connectivity\.pairs.*not 500"),
]


@pytest.mark.parametrize(("settings", "says"), WRONG)
def test_what_is_wrong_is_refused_when_the_config_is_read(
    settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        config.load(given(**settings))


def test_settings_that_only_cost_do_not_vary() -> None:
    raw = given()
    raw["metrics"]["hessian"] = {"chunk": {"per": "width", "times": 1000, "power": -1}}
    with pytest.raises(UserError, match=r"metrics\.hessian\.chunk: changes memory and time alone"):
        config.load(raw)


def test_the_metrics_own_checks_see_the_numbers() -> None:
    """A list of pairs that names an unknown seed is refused beside a setting that varies."""
    with pytest.raises(UserError, match="no seed 7"):
        config.load(given(pairs=[[0, 7]]))
