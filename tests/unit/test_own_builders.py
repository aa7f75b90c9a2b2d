"""Builders of a user's own, looked at without being run: when a config is parsed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lossatlas import fingerprint, plugins
from lossatlas.errors import UserError
from lossatlas.modules import find_module
from lossatlas.spec import config
from lossatlas.spec.own import check_arguments, check_object

FILE = """
from functools import partial
class Net(Base):
    def __init__(self, num_classes, image_size, hidden, *, slope=0.1):
        ...
class Open(Base):
    def __init__(self, num_classes, hidden, **others): ...
class Inherits(Net): ...
class Wrapped(Base):
    def __init__(self): ...
Wrapped = partial(Wrapped, hidden=3)
if Base:
    def maybe(hidden): ...
else:
    def maybe(other): ...
@cached
def decorated(hidden): ...
def make(num_classes, hidden=3): ...
lambdas = lambda hidden: hidden
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the user starts; it comes last on the path."""
    (tmp_path / "own_nets.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("Net", ["hiden"], "here: 'Net' has no argument 'hiden' (did you mean 'hidden'?)"),
        ("Net", ["slope"], "'Net' needs an argument 'hidden' (add 'hidden' to the model, or an"),
        ("Net", ["hidden", "num_classes"], "'num_classes' is given by the data (leave it out)"),
        ("Open", ["slope"], "'Open' needs an argument 'hidden'"),
        ("make", ["width"], "'make' has no argument 'width' (valid: hidden)"),
        ("Net", ["hidden", "slope"], ""),
        ("Open", ["hidden", "slope"], ""),
        ("make", [], ""),
        *((name, ["anything"], "") for name in ("Inherits", "Wrapped", "maybe", "decorated")),
        ("lambdas", ["anything"], ""),
    ],
)
def test_arguments_are_those_of_the_file(
    here: Path, name: str, given: list[str], says: str
) -> None:
    check_object(f"own_nets:{name}", "here")
    if not says:
        check_arguments(f"own_nets:{name}", given, "here")
        return
    with pytest.raises(UserError) as caught:
        check_arguments(f"own_nets:{name}", given, "here")
    assert says in str(caught.value)


def experiment(model: dict[str, Any], **axes: Any) -> dict[str, Any]:
    one = {"dataset": "digits", "model": "mine", "recipe": "short", **axes}
    parts = {"datasets": {"digits": None}, "recipes": {"short": None}, "models": {"mine": model}}
    return {**parts, "experiments": {"first": one}}


def test_an_axis_is_an_argument_as_well(here: Path) -> None:
    mine = {"builder": "own_nets:Net"}
    loaded = config.load(experiment(mine, load={"model.hidden": [2, 4]}))
    assert [c.model.arguments for c in loaded.cells("first")] == [{"hidden": 2}, {"hidden": 4}]
    with pytest.raises(UserError, match=r"first: models\.mine: 'Net' has no argument 'hiden'"):
        config.load(experiment({**mine, "hidden": 2}, load={"model.hiden": [2, 4]}))
    with pytest.raises(UserError, match=r"axis 'hidden' \(did you mean 'model\.hidden'\?\)"):
        config.load(experiment(mine, load={"hidden": [2, 4]}))
    with pytest.raises(UserError, match="'Net' has no argument 'width'"):
        config.load(experiment({**mine, "hidden": 2}, load={"width": [2, 4]}))


def test_numbers_that_yaml_takes_for_texts(here: Path) -> None:
    """YAML 1.1 wants 1.0e-3."""
    mine = {"builder": "own_nets:Open", "hidden": "1e-3", "list": ["2E+5", "x"], "name": "e-3"}
    cell = config.load(experiment(mine)).cells("first")[0]
    assert cell.model.arguments == {"hidden": 1e-3, "list": [200000, "x"], "name": "e-3"}


def test_no_package_of_the_users_runs_at_parse_time(here: Path) -> None:
    inner = here / "own_zoo" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("raise RuntimeError('ran')\n")
    (inner / "nets.py").write_text(FILE)
    config.load(experiment({"builder": "own_zoo.inner.nets:make", "hidden": 3}))
    assert fingerprint.code_of("own_zoo.inner.nets:make")
    assert "own_zoo" not in sys.modules
    with pytest.raises(UserError, match=r"no module named 'own_zoo\.inner\.net'"):
        config.load(experiment({"builder": "own_zoo.inner.net:make"}))


def test_folders_without_init_are_packages(here: Path) -> None:
    inner = here / "own_folder" / "inner"
    inner.mkdir(parents=True)
    (inner / "nets.py").write_text(FILE)
    found = find_module("own_folder.inner.nets")
    assert found is not None
    assert found.origin == str(inner / "nets.py")
    assert find_module("own_folder.nets") is None
    assert find_module("own_nets.nets") is None
    config.load(experiment({"builder": "own_folder.inner.nets:make"}))


def test_a_file_that_another_hides(here: Path) -> None:
    """As `train.py`, which the workflow has as well, or `test.py`, which Python has."""
    (here / "test.py").write_text(FILE)
    for say in (
        lambda: check_object("test:Net", "here"),
        lambda: plugins.load("test:Net", "here"),
    ):
        with pytest.raises(
            UserError, match=r"here: 'test' is .*__init__\.py, and not the test\.py"
        ):
            say()
