"""Environments for `--sdm conda`: the packages and lowest versions that the library asks for."""

import ast
import re
import sys
import tomllib
from functools import cache

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from lossatlas import entries, fingerprint
from lossatlas.paths import PROJECT
from lossatlas.spec.figures import FIGURES
from lossatlas.spec.shown import PAPERS

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


# What each environment runs, besides what only `train` and metrics on networks need.
RUN = {
    "analysis": [
        *(entries.COLLECT, entries.TABLE, entries.REFERENCE, entries.ALL_CLAIMS, entries.REPORT),
        *(entries.EXPORT, entries.REFINE, entries.INFER),
        *(entries.figure(drawing.target) for drawing in FIGURES.values()),
        *(entries.claims(paper) for paper in PAPERS),
    ],
    "data": [entries.DATASET, ("script:download",)],
    "torch": [("script:train",), ("script:adopt",), ("script:metric",), ("script:doctor",)],
}
NAMES = {  # of modules -> of packages, where they differ, or bring them along
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "vl_convert": "vl-convert-python",
    "requests": "pooch",
}


@cache
def imports(module: str) -> dict[str, str]:
    """Return name in a module of ours -> the package that it comes from."""
    path = PROJECT / "workflow" / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = {}
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        whole = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            package = (whole or alias.name).partition(".")[0]
            found[alias.asname or alias.name.partition(".")[0]] = package
    return found


@pytest.mark.parametrize("env", RUN)
def test_packages_that_jobs_import(env: str) -> None:
    """Of all definitions that a job reaches (`fingerprint`), what they import is there."""
    given = yaml.safe_load((PROJECT / "envs" / f"{env}.yaml").read_text("utf-8"))["dependencies"]
    there = {CONDA.get(name, name) for name in (line.partition(" ")[0] for line in given)}
    used = {
        NAMES.get(package, package)
        for asked in RUN[env]
        for part in fingerprint.parts(asked)
        for module, _, name in [part.partition(":")]
        if module.startswith("lossatlas")
        and (package := imports(module).get(name)) is not None
        and package not in {*sys.stdlib_module_names, "lossatlas", "__future__", "snakemake"}
    }
    assert len(used) > 1
    assert used - there == set()
