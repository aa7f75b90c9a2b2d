"""The workflow as a module of another one, beside rules of that one's own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import Project
from lossatlas.paths import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]

OTHER = """
import yaml


module atlas:
    snakefile:
        "{snakefile}"
    config:
        yaml.safe_load(open("atlas.yaml"))


use rule * from atlas as atlas_*


rule mine:
    input:
        "results/mine/figures/taxonomy_phases.png",
    output:
        "done",
    shell:
        "touch {{output}}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = yaml.safe_load((PROJECT / "config/smoke.yaml").read_text()) | {"name": "mine"}
    (tmp_path / "atlas.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "Snakefile").write_text(OTHER.format(snakefile=PROJECT / "Snakefile"))
    return tmp_path


def snakemake(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=variables, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


def test_runs_under_other_names_and_nothing_runs_twice(folder: Path) -> None:
    status, said = snakemake(folder, "done")
    assert status == 0, said
    assert (folder / "done").exists()
    assert (folder / "results/mine/figures/taxonomy_phases.png").stat().st_size > 10_000
    # None of the profiles of this project is asked there: Snakemake's own triggers are all on.
    status, said = snakemake(folder, "done", "atlas_taxonomy_phases")
    assert status == 0, said
    assert "atlas_train_replicas" not in said
    assert "atlas_hessian" not in said
    status, said = snakemake(folder, "-n", "done")
    assert "Nothing to be done" in said


# What deployment tools write (snakedeploy), beside copies of config/ and profiles/.
DEPLOYED = """
configfile: "config/config.yaml"


module atlas:
    snakefile:
        "{snakefile}"
    config:
        config


use rule * from atlas
"""


def test_deployed_as_catalogues_do(tmp_path: Path) -> None:
    for name in ("config", "profiles"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    (tmp_path / "workflow").mkdir()
    snakefile = DEPLOYED.format(snakefile=PROJECT / "workflow/Snakefile")
    (tmp_path / "workflow/Snakefile").write_text(snakefile)
    ours = (PROJECT / "config.yaml").read_text()
    assert (tmp_path / "config/config.yaml").read_text() == ours
    shutil.copy(PROJECT / "config/smoke.yaml", tmp_path / "config/config.yaml")
    status, said = snakemake(tmp_path, "-n")
    assert status == 0, said
    assert re.search(r"^train_replicas +4$", said, re.MULTILINE)
    assert re.search(r"^all +1$", said, re.MULTILINE)
    assert "results/figures/taxonomy_phases.png" in said


def test_rules_without_their_library(project: Project) -> None:
    """As github(...) would bring them."""
    (project.root / "workflow/lossatlas").rename(project.root / "lossatlas")
    said = project.snakemake("-n", ok=False)
    assert "the workflow runs from a local copy of all its files" in said
    assert "Traceback" not in said


def test_targets_of_the_other_workflow_are_its_own(folder: Path) -> None:
    status, said = snakemake(folder, "-n", "dome")
    assert status != 0
    assert "there is no target" not in said


def test_a_misspelt_target_names_the_nearest(project: Project) -> None:
    said = project.snakemake("-n", "taxonomy_fases", ok=False)
    assert "there is no target 'taxonomy_fases' (did you mean 'taxonomy_phases'?)" in said
    assert "Traceback" not in said
