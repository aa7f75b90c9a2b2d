"""The files that CONTRIBUTING.md writes out, put into a copy of the project, are all it takes."""

import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

import snippets
from conftest import Project
from lossatlas.paths import PROJECT

FILES = snippets.files()
CONFIG = {
    "datasets": {"digits": None},
    "models": {"linear": {"builder": "softmax"}, "mlp": {"depth": 1}},
    "recipes": {"brief": {"epochs": 1, "learning_rate": 0.05}},
    "experiments": {
        "wide": {"dataset": "digits", "model": "mlp", "recipe": "brief", "seeds": 2},
        "flat": {"dataset": "digits", "model": "linear", "recipe": "brief", "seeds": 1},
    },
}
CONFIG["experiments"]["wide"] |= {"load": {"width": [4, 8]}, "metrics": ["gradient_norm"]}
CONFIG["experiments"]["flat"] |= {"metrics": ["gradient_norm"]}
# What the tests of the project hold every metric, figure and network to.
HELD = (
    "tests/unit/test_document.py",
    "tests/unit/test_figures_draw.py::test_captions_are_named_like_the_figures",
    "tests/unit/test_figures_own.py::test_every_declaration_of_the_library_is_found",
    "tests/unit/test_names.py::test_what_the_rules_have_is_taken",
)

pytestmark = pytest.mark.slow


@pytest.fixture
def added(project: Project) -> Project:
    """A copy of the project with those files."""
    for name in ("CONTRIBUTING.md", "pyproject.toml"):
        shutil.copy2(PROJECT / name, project.root)
    for folder in ("docs", "tests"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / folder, project.root / folder, ignore=ignore)
    for path, text in FILES.items():
        assert not (project.root / path).exists()
        (project.root / path).write_text(text)
    (project.root / "added.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    project.config = "added.yaml"
    return project


def python(project: Project, *arguments: str) -> str:
    """Run Python in the copy."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project.root,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "workflow"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_they_are_measured_drawn_and_tested(added: Project) -> None:
    tables = [f"results/added/tables/{name}.csv" for name in ("wide", "flat")]
    added.snakemake("--cores", "2", "gradient_width", *tables)
    for name, count in (("wide", 4), ("flat", 1)):
        table = pd.read_csv(added.root / f"results/added/tables/{name}.csv")
        assert list(table["metric"]) == ["gradient_norm"] * count
        assert list(table["status"]) == ["ok"] * count
        assert (table["value"] > 0).all()
    drawn = pd.read_csv(added.root / "results/added/figures/gradient_width.csv")
    assert list(drawn["width"]) == [4, 4, 8, 8]
    assert added.jobs("gradient_width", *tables) == {}
    assert "config/README.md: written" in python(added, "-m", "lossatlas.spec.document")
    assert "### gradient_norm" in (added.root / "config/README.md").read_text()
    theirs = [path for path in FILES if path.startswith("tests/")]
    python(added, "-m", "pytest", "-q", "-p", "no:cacheprovider", *theirs, *HELD)


def test_they_pass_the_linters(added: Project) -> None:
    python(added, "-m", "ruff", "check", *FILES)
    python(added, "-m", "ruff", "format", "--check", *FILES)
    if (cache := PROJECT / ".mypy_cache").exists():  # of `make lint`; without it mypy takes minutes
        shutil.copytree(cache, added.root / ".mypy_cache")
    python(added, "-m", "mypy", *[path for path in FILES if path.startswith("workflow/")])
