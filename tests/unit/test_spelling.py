"""What YAML reads otherwise than it looks is refused in one line; so is what is of another kind."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lossatlas.cli import main
from lossatlas.errors import UserError
from lossatlas.metrics.base import Metric
from lossatlas.spec import config, spelling

SMOKE = yaml.safe_load((Path(__file__).parents[2] / "config/smoke.yaml").read_text())

BAD = [
    ("a: 1\nb: 2\na: 3\n", "c.yaml, line 3: 'a' is there twice", "line 1"),
    ("x:\n  a: 1\n  a: 1\n", "line 3: 'a' is there twice", ""),
    ("x: {a: 1, a: 1}\n", "'a' is there twice", ""),
    ('{"a": {"b": 1, "b": 2}}', "'b' is there twice", ""),
    ("a: 016\n", "line 1: 016 has a zero before it", "write 16"),
    ("a: [1, -007]\n", "-007 has a zero before it", "write -7"),
    ("a: 08\n", "08 has a zero before it", "write 8"),
    ("a: 1:30\n", "1:30 is 90 to YAML", ""),
    ("a: 1:30.5\n", "1:30.5 is 90.5 to YAML", ""),
    ("yes: 1\n", "the key yes is no text", ""),
    ("'a': 1\na: 1\n", "'a' is there twice", ""),
]


@pytest.mark.parametrize(("text", "says", "fix"), BAD)
def test_what_is_not_read_as_it_is_written(text: str, says: str, fix: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as told:
        spelling.check_files([file])
    assert says in str(told.value)
    assert fix in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "base: &b {a: 1}\nx: {<<: *b, a: 2}\ny: {<<: *b}\n",
        "a: '016'\nb: \"1:30\"\nc: 0\nd: 0.5\ne: 1e-3\nf: 0x10\ng: 2026-01-02\n",
        "a: 10:90\nb: yes\nc: ~\n",
        '{"a": 1, "b": {"a": 1}}',
    ],
)
def test_what_is_read_as_it_is_written(text: str) -> None:
    spelling.check(text, "c.yaml")


def test_aliases_of_aliases_end_at_once() -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60)]
    text = "\n".join(["a0: &a0 [x]", *levels, "a0: 1"])
    began = time.monotonic()
    with pytest.raises(UserError, match="'a0' is there twice"):
        spelling.check(text, "c.yaml")
    assert time.monotonic() - began < 1


def test_shipped_configs_are_spelled_well() -> None:
    root = Path(__file__).parents[2]
    found = [root / "config.yaml", *root.glob("config/*.yaml"), *root.glob("examples/*/*.yaml")]
    spelling.check_files(found)
    assert len(found) > 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("samples=016", "016 has a zero before it"),
        ("samples=1:30", "1:30 is 90 to YAML"),
        ("samples=yes", "samples: Input should be a valid integer"),
        ("tolerance=yes", "tolerance: Input should be a valid number"),
        ("samples='16'", "samples: Input should be a valid integer"),
        ("parameters=(", "not a regular expression"),
        ("samples=&a [*a]", "cannot read the value"),
        ("samples={a: 1, a: 2}", "'a' is there twice"),
    ],
)
def test_settings_on_the_command_line(
    given: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["metric", "hessian", "--checkpoint", "a.pt", "--model", "mlp", "--data", "digits"]
    assert main([*command, "--set", given]) == 1
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert main([*command, "--set", "seed=1", "seed=2"]) == 1
    assert "'seed' is there twice" in capsys.readouterr().err


def test_aliases_of_aliases_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    levels = ", ".join(f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    began = time.monotonic()
    with pytest.raises(UserError, match="cannot read the value"):
        spelling.value(f"[&a0 [1], {levels}]", "--set x")
    assert time.monotonic() - began < 1


def changed(path: str, value: Any) -> dict[str, Any]:
    import copy

    found = copy.deepcopy(SMOKE)
    *keys, last = path.split("/")
    part = found
    for key in keys:
        part[key] = part.get(key) or {}
        part = part[key]
    part[last] = value
    return found


ENDLESS: dict[str, Any] = {}
ENDLESS["a"] = ENDLESS
OF_ANOTHER_KIND = [
    ("recipes/short/epochs", True, "recipes.short.epochs: Input should be a valid integer"),
    ("recipes/short/epochs", "3", "recipes.short.epochs: Input should be a valid integer"),
    ("recipes/short/epochs", 10**400, "Input should be at most"),
    ("recipes/short/learning_rate", True, "learning_rate: Input should be a valid number"),
    ("recipes/short/learning_rate", 10**400, "Input should be at most"),
    ("recipes/short/decay_epochs", [True], "decay_epochs: Input should be a valid integer"),
    ("recipes/short/cosine", "True", "cosine: Input should be true or false"),
    ("recipes/short/cosine", 1, "cosine: Input should be true or false"),
    ("datasets/digits/fraction", True, "fraction: Input should be a valid number"),
    ("datasets/digits/mean", ["0.5"], "mean: Input should be a valid number"),
    ("experiments/smoke/temperature", {"batch_size": [True]}, "a valid number"),
    ("experiments/smoke/load", {"width": ["8"]}, "a valid number"),
    ("experiments/smoke/load", {"width": [10**12]}, "more than any memory holds"),
    ("experiments/smoke/load", {"width": [10**8]}, "more than any memory holds"),
    ("experiments/smoke/seeds", 2**70, "at most"),
    ("experiments/smoke/seeds", 10**5, "less than or equal to 10000"),
    ("experiments/smoke/seeds", [2**70], "at most"),
    ("experiments/smoke/together", 10**5, "less than or equal to 10000"),
    ("models/resnet18", {"builder": "vgg9", "linear_std": float("inf")}, "no finite number"),
    ("models/resnet18", {"builder": "mlp", "depth": 10**8}, "depth is 100000000 (at most 10000)"),
    ("metrics/connectivity", {"points": 10**12}, "at most"),
    ("metrics/hessian", {"parameters": "("}, "is not a regular expression"),
    ("metrics/cka", {"checkpoint": "early"}, "the recipe 'short' keeps no 'early'"),
    ("mirror_dir", ENDLESS, "not plain YAML"),
]


@pytest.mark.parametrize(("path", "value", "says"), OF_ANOTHER_KIND)
def test_values_of_another_kind(path: str, value: Any, says: str) -> None:
    given = changed(path, value)
    if path == "models/resnet18":
        given["experiments"]["smoke"]["load"] = {}
    with pytest.raises(UserError) as told:
        config.load(given)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_numbers_in_scientific_notation_stay_numbers() -> None:
    found = config.load(changed("recipes/short/learning_rate", "1e-3"))
    assert found.recipes["short"].learning_rate == 1e-3
    assert config.load(changed("recipes/short/epochs", "1e1")).recipes["short"].epochs == 10


def test_settings_of_ones_own_metric() -> None:
    class Own(Metric):
        either: bool | int = 3
        bytes: int = 1

    assert Own(either=True).either is True
    assert Own(bytes=2**40).bytes == 2**40
    with pytest.raises(ValueError, match="valid integer"):
        Own(bytes=True)
