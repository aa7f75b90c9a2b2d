"""A temporary copy of the project, run through Snakemake as a user would."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
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
    variables: dict[str, str] = field(default_factory=dict)  # of the environment, besides ours

    def snakemake(self, *arguments: str, ok: bool = True, status: int | None = None) -> str:
        """Run Snakemake and return all that it prints."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--configfile", self.config]
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        variables |= self.variables
        done = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, env=variables, timeout=600
        )
        printed = done.stdout + done.stderr
        if status is None:
            assert (done.returncode == 0) is ok, printed
        else:
            assert done.returncode == status, printed
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
        return Project(root, self.config, self.variables)


class Elsewhere(Project):
    """A folder of a user's, who starts the checkout's workflow there."""

    def snakemake(self, *arguments: str, ok: bool = True, status: int | None = None) -> str:
        snakefile = str(PROJECT / "Snakefile")
        return super().snakemake("--snakefile", snakefile, *arguments, ok=ok, status=status)


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


def mirrored(project: Project, folder: Path, content: bytes) -> str:
    """Put a file into a folder of archives, in place of the taxonomy's; return where it comes to.

    The copy's table of data sets gets its size and hash.
    """
    table = project.root / "resources/datasets.tsv"
    lines = table.read_text().splitlines()
    (place,) = (i for i, line in enumerate(lines) if line.startswith("taxonomy_results\t"))
    row = lines[place].split("\t")
    row[3:6] = [str(len(content)), hashlib.sha256(content).hexdigest(), ""]
    lines[place] = "\t".join(row)
    table.write_text("\n".join(lines) + "\n")
    folder.mkdir(exist_ok=True)
    (folder / row[2]).write_bytes(content)
    return f"results/downloads/{row[2]}"


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
