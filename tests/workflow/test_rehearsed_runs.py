"""Rehearsals: the same graph in small, in a folder of its own, and never taken for a run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_configs import shrink

from conftest import Project
from lossatlas.paths import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]

SMALL = ("--config", "rehearse=true")
CONFIGS = sorted(  # config/config.yaml leads to the default one
    str(path.resolve().relative_to(PROJECT)) for path in PROJECT.glob("config/*.yaml")
)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the results of a folder, without unfinished work and what rehearsals made."""
    return {
        name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and not (name := str(path.relative_to(folder))).startswith(("rehearsal", "state"))
    }


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


@pytest.mark.parametrize("config", CONFIGS)
def test_the_graph_is_that_of_the_config(project: Project, config: str) -> None:
    """Every rule of the real graph is there; archives alone are not downloaded."""
    project.config = config
    small = project.jobs(*SMALL)
    shrink(project.root / config)
    real = project.jobs()
    assert real.keys() - {"download"} <= small.keys() <= real.keys()
    assert small["figure"] == real["figure"]
    assert small["collect"] == real["collect"]
    assert sum(small.values()) < 900


def test_rehearsal_beside_a_run(ready: Project) -> None:
    """Each keeps what is its own; an interrupted rehearsal goes on; nothing is trained twice."""
    results = ready.root / "results"
    real = contents(results)
    interrupt(ready)
    before = times(results / "rehearsal")
    del before[max(before, key=before.__getitem__)]  # whose job may have been cut off at its end
    assert before, "interrupted before anything was trained"
    ready.snakemake("all", "report", "--cores", "2", *SMALL)
    after = times(results / "rehearsal")
    assert {name: after[name] for name in before} == before
    assert ready.jobs(*SMALL) == {}
    assert ready.jobs() == {}
    assert contents(results) == real
    own = results / "rehearsal/smoke"
    claims = pd.read_csv(own / "tables/claims.csv")
    assert set(claims["holds"]) == {"not testable"}
    assert set(claims["observed"]) == {"a rehearsal"}
    table = pd.read_csv(own / "tables/smoke/hessian.csv")
    assert set(table["rehearsal"]) == {"not a result"}
    assert set(table["cell"].str[:17]) == {"digits-rehearsal-"}
    report = (own / "report.html").read_text()
    assert 'role="note">rehearsal: A rehearsal, and not a result: ' in report
    assert report.count("A rehearsal, and not a result: ") == 1 + 4  # figures
    put_in_place_of_results(results)
    again = ready.jobs()  # these two, and what is made of the table
    assert again["collect"] == 1
    assert again["figure"] >= 1
    assert again.keys() <= {"collect", "figure", "verdicts", "all_claims"}


def put_in_place_of_results(results: Path) -> None:
    """Copy what a rehearsal made over a run's figure and table, with what says who made them."""
    shutil.copytree(results / "rehearsal/cells", results / "cells", dirs_exist_ok=True)
    for name in ("figures/taxonomy_spectra.png", "tables/smoke/cka.csv"):
        folder, file = os.path.split(name)
        for one in (file, f".{file}.made"):
            shutil.copy2(
                results / f"rehearsal/smoke/{folder}/{one}", results / f"smoke/{folder}/{one}"
            )


def interrupt(project: Project) -> None:
    """Start a rehearsal and stop it as Ctrl-C does, when something has been trained."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *SMALL]
    command += ["--configfile", project.config]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    running = subprocess.Popen(
        command, cwd=project.root, env=variables, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    until = time.monotonic() + 300
    while time.monotonic() < until and running.poll() is None:
        if len(list((project.root / "results/rehearsal/cells").glob("*/train/*.h5"))) > 1:
            break
        time.sleep(0.2)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(120) != 0


def test_mistakes_are_one_line(project: Project) -> None:
    printed = project.snakemake("-n", "--config", "rehearse=maybe", ok=False)
    assert "rehearse: Input should be true or false" in printed, printed
    assert "Traceback" not in printed
    project.configure(lambda content: content.update(experiments={}))
    printed = project.snakemake("-n", *SMALL, ok=False)
    assert "experiments: " in printed
    assert "Traceback" not in printed


def test_plan_and_profiles(project: Project) -> None:
    printed = project.snakemake("plan", "--cores", "1")
    said = "snakemake --configfile config/smoke.yaml --config rehearse=true"
    assert said in " ".join(printed.split())
    printed = project.snakemake("plan", "--cores", "1", *SMALL)
    assert "Plan of the rehearsal of smoke" in printed
    assert "Rehearse it first" not in printed
    profile = str(PROJECT / "profiles/slurm")
    printed = project.snakemake("-n", "--profile", profile, *SMALL)
    assert "results/rehearsal/smoke/figures/taxonomy_phases.png" in printed


def test_each_kind_of_experiment(project: Project) -> None:
    """The default atlas has recorded paths, planes of loss, simplexes and ensembles as well."""
    project.config = "config.yaml"
    project.snakemake("diffusion", "simplex", "--cores", "2", *SMALL)
    figures = yaml.safe_load((project.root / "config.yaml").read_text())["figures"]
    drawn = {path.stem for path in (project.root / "results/rehearsal/figures").glob("*.png")}
    assert drawn == {name for name in figures if name.startswith(("diffusion", "simplex"))}
    for paper in ("diffusion", "simplex"):
        claims = pd.read_csv(project.root / f"results/rehearsal/tables/claims/{paper}.csv")
        assert set(claims["observed"]) == {"a rehearsal"}
