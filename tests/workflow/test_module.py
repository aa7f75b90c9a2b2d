"""The workflow as a module of another one, beside rules of that one's own."""

import os
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


def test_targets_of_the_other_workflow_are_its_own(folder: Path) -> None:
    status, said = snakemake(folder, "-n", "dome")
    assert status != 0
    assert "there is no target" not in said


def test_a_misspelt_target_names_the_nearest(project: Project) -> None:
    said = project.snakemake("-n", "taxonomy_fases", ok=False)
    assert "there is no target 'taxonomy_fases' (did you mean 'taxonomy_phases'?)" in said
    assert "Traceback" not in said
