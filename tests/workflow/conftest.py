"""A temporary copy of the project, run through Snakemake as a user would."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lossatlas.paths import PROJECT
from lossatlas.spec.figures import FIGURES

PARTS = (
    "Snakefile",
    "config.yaml",
    "config",
    "envs",
    "rules",
    "workflow",
    "resources",
    "profiles",
)


@dataclass
class Project:
    """A copy of the project in a folder of its own."""

    root: Path
    config: str = "config/smoke.yaml"

    def snakemake(self, *arguments: str, ok: bool = True) -> str:
        """Run Snakemake and return all that it prints."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--configfile", self.config]
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, env=variables, timeout=600
        )
        printed = done.stdout + done.stderr
        assert (done.returncode == 0) is ok, printed
        return printed

    def jobs(self, *arguments: str) -> dict[str, int]:
        """Return rule -> number of jobs that a dry run would do; rules that only name left out."""
        printed = self.snakemake("-n", *arguments)
        table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", printed, re.DOTALL | re.MULTILINE)
        if table is None:
            assert "Nothing to be done" in printed, printed
            return {}
        rows = dict(line.split() for line in table[1].splitlines())
        return {rule: int(count) for rule, count in rows.items() if rule not in ONLY_NAMES}

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text in a file."""
        path = self.root / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def configure(self, change) -> None:
        """Change the config by a function of its content."""
        path = self.root / self.config
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def copy(self, root: Path) -> "Project":
        """Copy everything, results and times included."""
        shutil.copytree(self.root, root, symlinks=True)
        return Project(root, self.config)


ONLY_NAMES = {
    "all",
    "claims",
    "data",
    "diffusion",
    "figures",
    "metrics",
    "simplex",
    "taxonomy",
    "train",
    *FIGURES,
}


def fresh(root: Path) -> Project:
    """Copy the project without results."""
    root.mkdir(parents=True)
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, root / part, ignore=ignore)
        else:
            shutil.copy2(source, root / part)
    return Project(root)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh copy."""
    return fresh(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which the smoke atlas has been run; never changed: tests copy it."""
    done = fresh(tmp_path_factory.mktemp("finished") / "project")
    done.snakemake("--cores", "2")
    return done


@pytest.fixture
def ready(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished one, free to be changed."""
    return finished.copy(tmp_path / "project")
