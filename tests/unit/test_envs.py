"""Environments for `--sdm conda`: the packages and lowest versions that the library asks for."""

import re
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from lossatlas.paths import PROJECT

ENVS = sorted((PROJECT / "envs").glob("*.yaml"))
CONDA = {"pytorch": "torch", "matplotlib-base": "matplotlib"}  # names there -> on the index
ASKED = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = dict(
    re.findall(
        r"^([\w.-]+)==([\w.+]+)", (PROJECT / "requirements.lock").read_text("utf-8"), re.MULTILINE
    )
)


def lowest() -> dict[str, str]:
    """Return package -> what pyproject.toml says of its versions, extras included."""
    extras = [one for group in ASKED["optional-dependencies"].values() for one in group]
    found = (re.match(r"([\w.-]+)\s*(.*)", one) for one in [*ASKED["dependencies"], *extras])
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("file", ENVS, ids=lambda file: file.stem)
def test_versions(file) -> None:
    asked = lowest() | {"python": ASKED["requires-python"]}
    for line in yaml.safe_load(file.read_text("utf-8"))["dependencies"]:
        name, versions = line.split(" ", 1)
        name = CONDA.get(name, name)
        assert name in asked, f"{file.name}: {name} is no dependency of ours"
        if name == "python":
            assert versions.startswith(asked[name])
            continue
        assert versions == asked[name], f"{file.name}: {name}"
        assert Version(LOCK[name]) in SpecifierSet(versions)


def test_each_rule_has_one() -> None:
    rules = "\n".join(file.read_text("utf-8") for file in (PROJECT / "rules").glob("*.smk"))
    assert set(re.findall(r'"\.\./envs/(\w+)\.yaml"', rules)) == {file.stem for file in ENVS}
