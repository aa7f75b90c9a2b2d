"""Plug-ins: what may be imported, what is refused, and that nothing runs before a job needs it."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import yaml

from lossatlas import plugins
from lossatlas.errors import UserError
from lossatlas.paths import PROJECT
from lossatlas.spec.config import load

SMOKE = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text())
MARKS = "from pathlib import Path\nPath('mark').touch()\nclass Thing: ...\nnumber = 3\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the user starts, with a plug-in that writes a file when imported."""
    start = tmp_path / "start"
    (start / "plug_package").mkdir(parents=True)
    for name in ("plug_marks.py", "plug_package/__init__.py", "plug_package/inner.py"):
        (start / name).write_text(MARKS)
    monkeypatch.chdir(start)
    monkeypatch.setattr(sys, "path", [*sys.path, str(start)])
    monkeypatch.delenv(plugins.SWITCH, raising=False)
    yield start
    for name in [name for name in sys.modules if name.startswith("plug_")]:
        del sys.modules[name]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages: one that declares plug-ins, one that does not."""
    folder = tmp_path / "site-packages"
    declare(folder, "plug-zoo", "plug_zoo", {"models": {"zoo_net": "Thing"}})
    (folder / "plug_other").mkdir()
    (folder / "plug_other" / "__init__.py").write_text(MARKS)
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    forget()
    yield folder
    forget()


def declare(folder: Path, package: str, module: str, groups: dict[str, dict[str, str]]) -> None:
    about = folder / f"{module}-1.0.dist-info"
    (folder / module).mkdir(parents=True)
    about.mkdir()
    (folder / module / "__init__.py").write_text(MARKS)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = []
    for group, names in groups.items():
        lines += [f"[lossatlas.{group}]", *(f"{n} = {module}:{o}" for n, o in names.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))
    forget()


def forget() -> None:
    plugins._installed.cache_clear()
    plugins._declaring.cache_clear()


def refused(target: str, says: str) -> None:
    for function in (plugins.check, plugins.load):
        with pytest.raises(UserError) as caught:
            function(target, "here")
        assert says in str(caught.value)
        assert str(caught.value).startswith("here: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["plug_marks", "plug_package", "plug_package.inner"])
def test_modules_of_the_folder_are_loaded_and_only_then_run(here: Path, module: str) -> None:
    plugins.check(f"{module}:Thing", "here")
    assert not (here / "mark").exists()
    assert plugins.load(f"{module}:Thing", "here").__module__ == module
    assert (here / "mark").exists()


@pytest.mark.parametrize(
    "target", ["subprocess:getoutput", "os:system", "sys:exit", "numpy:zeros", "pytest:main"]
)
def test_other_modules_are_refused(here: Path, target: str) -> None:
    module, name = target.split(":")
    refused(target, "is neither in this folder nor in a package that declares plug-ins (write a")
    refused(target, f"'from {module} import {name}'")


def test_a_module_of_one_s_own_can_pass_on_any_other(here: Path) -> None:
    (here / "plug_line.py").write_text("from subprocess import getoutput\n")
    assert plugins.load("plug_line:getoutput", "here")("echo a") == "a"


def test_a_folder_below_or_on_the_path_is_not_the_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment lies below the folder, too."""
    below = here / "env" / "site-packages"
    below.mkdir(parents=True)
    (below / "plug_below.py").write_text(MARKS)
    monkeypatch.setattr(sys, "path", [*sys.path, str(below)])
    refused("plug_below:Thing", "neither in this folder")
    assert not (here / "mark").exists()


def test_installed_packages_that_declare_plug_ins(here: Path, installed: Path) -> None:
    assert plugins.target_of("zoo_net", "lossatlas.models", ["mlp"], "") == "plug_zoo:Thing"
    assert plugins.load("plug_zoo:number", "here") == 3
    refused("plug_other:Thing", "neither in this folder")
    assert plugins.target_of("mlp", "lossatlas.models", ["mlp"], "") == ""
    with pytest.raises(UserError, match=r"m: unknown model 'zo_net' \(did you mean 'zoo_net'"):
        plugins.target_of("zo_net", "lossatlas.models", ["mlp"], "m")
    with pytest.raises(UserError, match="unknown data set 'zoo_net'"):
        plugins.target_of("zoo_net", "lossatlas.datasets", [], "")


def test_names_that_collide(here: Path, installed: Path) -> None:
    names = {"zoo_net": "Thing", "mlp": "Thing"}
    declare(installed, "plug-more", "plug_more", {"models": names})
    for name, owners in (
        ("zoo_net", "of the package plug-more and of the package plug-zoo"),
        ("mlp", "of the package plug-more and a built-in of Loss Atlas"),
    ):
        with pytest.raises(UserError, match=f"where: '{name}' is {owners} .give 'package.mod"):
            plugins.target_of(name, "lossatlas.models", ["mlp"], "where")


def test_parts_of_the_library_are_no_plug_ins(here: Path) -> None:
    with pytest.raises(UserError, match="is a part of Loss Atlas, not a plug-in"):
        plugins.check("lossatlas.store:write", "here")
    with pytest.raises(UserError, match=r"'lossatlas\.files' has no 'contextlib'"):
        plugins.load("lossatlas.files:contextlib", "here")
    assert callable(plugins.load("lossatlas.store:write", "here"))


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("plug_gone:Thing", "no module named 'plug_gone' (start in the folder that holds it)"),
        ("plug_marks", "'plug_marks' is not 'package.module:object'"),
        ("plug_marks:a b", "is not 'package.module:object'"),
        (":x", "is not 'package.module:object'"),
        ("plug_marks.:Thing", "is not 'package.module:object'"),
    ],
)
def test_targets_that_name_nothing(here: Path, target: str, says: str) -> None:
    refused(target, says)


def test_what_is_found_in_a_module(here: Path) -> None:
    with pytest.raises(UserError, match=r"w: 'plug_marks' has no 'Thin' \(did you mean 'Thing'"):
        plugins.load("plug_marks:Thin", "w")
    (here / "plug_fails.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=r"'plug_fails' does not import: ZeroDivisionError.*line 1"):
        plugins.load("plug_fails:x", "w")
    with pytest.raises(UserError, match="'plug_marks:Thing' is a type, not a subclass of dict"):
        plugins.load("plug_marks:Thing", "w", dict)
    with pytest.raises(UserError, match="'plug_marks:number' is a int, not a subclass of dict"):
        plugins.load("plug_marks:number", "w", dict)


@pytest.mark.parametrize("value", ["off", "0", "No", "FALSE"])
def test_off_imports_nothing(here: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(plugins.SWITCH, value)
    plugins.check("plug_marks:Thing", "here")
    plugins.check("subprocess:getoutput", "here")  # which a job refuses to load
    for target in ("plug_marks:Thing", "subprocess:getoutput"):
        with pytest.raises(UserError, match=r"here: plug-ins are off, and '.*' is one \(if you"):
            plugins.load(target, "here")
    assert callable(plugins.load("lossatlas.store:write", "here"))
    assert not (here / "mark").exists()


def configured(builder: str, **more: object) -> dict[str, object]:
    config = copy.deepcopy(SMOKE)
    config["models"]["resnet18"] = {"builder": builder}
    return {**config, **more}


def test_a_config_that_runs_a_shell_command(here: Path) -> None:
    with pytest.raises(UserError, match=r"models\.resnet18: 'subprocess' is neither in this"):
        load(configured("subprocess:getoutput"))


def test_a_config_from_elsewhere_can_be_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'subprocess' is neither in this"):
        load(configured("subprocess:getoutput", plugins=True))
    monkeypatch.setenv(plugins.SWITCH, "")  # restored afterwards
    for value in (False, "off"):
        assert not load(configured("subprocess:getoutput", plugins=value)).plugins
        assert plugins.off()
        monkeypatch.setenv(plugins.SWITCH, "")
    monkeypatch.setenv(plugins.SWITCH, "off")
    load(configured("elsewhere:Net", plugins=True))  # a config cannot switch them on again
    assert plugins.off()
