"""Results are valid by what they say of themselves, whatever Snakemake remembers or times say."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Project
from lossatlas.paths import LIBRARY

CELLS = 4
CLAIMS = {"verdicts": 1, "all_claims": 1}
CKA = {"cka": CELLS, "collect": 1, "figure": 2, **CLAIMS}
TRAINING = ("workflow/lossatlas/training/engine.py", "losses.sum()", "losses.sum() + 0 * losses[0]")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def less_cka(project: Project) -> None:
    project.configure(lambda c: c["metrics"]["cka"].update(samples=96))


def forget(project: Project, how: str) -> None:
    """Lose what Snakemake remembers."""
    folder = project.root / ".snakemake"
    if how == "cut":
        for path in folder.rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
    else:
        shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["lost", "cut"])
def test_snakemakes_memory_is_not_needed(ready: Project, how: str) -> None:
    forget(ready, how)
    assert ready.jobs() == {}
    less_cka(ready)
    assert ready.jobs() == CKA
    shutil.rmtree(ready.root / "results/smoke/tables")
    shutil.rmtree(ready.root / "results/smoke/figures")
    assert ready.jobs()["cka"] == CELLS, "records of another setting are no source"


def test_times_do_not_count(ready: Project) -> None:
    """A copy without times, as cp -r, scp, an archive or git make it."""
    for number, path in enumerate(sorted((ready.root / "results").rglob("*"), reverse=True)):
        os.utime(path, (1e9 + number, 1e9 + number))
    assert ready.jobs() == {}


def test_older_results_that_are_put_back(ready: Project, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(ready.root / "results", older)
    less_cka(ready)
    ready.snakemake("--cores", "2")
    assert ready.jobs() == {}
    shutil.copytree(older, ready.root / "results", dirs_exist_ok=True)
    assert ready.jobs() == CKA
    printed = ready.snakemake("-n")
    assert "cka: 4 results not valid: setting samples 128 -> 96" in printed
    row = next(r for r in ready.snakemake("status").splitlines() if "cells: cka" in r)
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["0", "4"]
    assert "setting samples 128 -> 96" in ready.snakemake("plan")


@pytest.mark.parametrize("bytes_", [-1, 300])
def test_a_table_that_was_cut_is_made_again(ready: Project, bytes_: int) -> None:
    table = ready.root / "results/smoke/tables/smoke/cka.csv"
    whole = table.read_bytes()
    table.write_bytes(whole[:bytes_])
    expected = {key: value for key, value in CKA.items() if key != "cka"}
    assert ready.jobs() == expected
    ready.snakemake("--cores", "2", "results/smoke/tables/smoke/cka.csv")
    assert table.read_bytes() == whole


def test_a_data_set_that_was_deleted(ready: Project) -> None:
    """Nothing that is trained needs it; a new width is trained on one that is converted anew."""
    (ready.root / "results/data/digits.h5").unlink()
    assert ready.jobs() == {}
    ready.configure(lambda c: c["experiments"]["smoke"]["load"].update(width=[1, 2, 3]))
    jobs = ready.jobs("train")
    assert jobs == {"dataset": 1, "train_replicas": 2}
    ready.snakemake("--cores", "2", "train")
    assert ready.jobs("train") == {}, "it is the same data set"


def accept(project: Project, *words: str) -> str:
    command = [sys.executable, "-m", "lossatlas", "accept", "--configfile", project.config, *words]
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY.parent)}
    done = subprocess.run(
        command, cwd=project.root, capture_output=True, text=True, check=True, env=environment
    )
    return done.stderr


def test_results_are_accepted_under_new_code(ready: Project) -> None:
    ready.edit(*TRAINING)
    printed = ready.snakemake("-n")
    assert "training: 4 results not valid: code changed" in printed
    assert "lossatlas accept --reason" in printed
    assert "accepted: 4 of training" in accept(ready, "--reason", "adds zero")
    assert ready.jobs() == {}
    kept = json.loads((ready.root / "results/accepted.json").read_text())
    assert {entry["reason"] for entry in kept.values()} == {"adds zero"}
    forget(ready, "lost")
    assert ready.jobs() == {}
    ready.edit(TRAINING[0], "0 * losses[0]", "0 * losses[1]")
    assert ready.jobs("train") == {"train_replicas": CELLS}, "it was accepted under other code"


def test_what_is_accepted_is_chosen_and_differs_by_code_alone(ready: Project) -> None:
    less_cka(ready)
    ready.edit("workflow/lossatlas/connectivity/measure.py", "PAPER_POINTS = 5", "PAPER_POINTS = 7")
    printed = accept(ready, "--reason", "mode paper is not used", "--only", "cka")
    assert "not accepted: 4 of cka (not only the code differs)" in printed
    table = "results/smoke/tables/smoke/connectivity.csv"
    assert ready.jobs(table) == {"connectivity": CELLS, "collect": 1}
    printed = accept(ready, "--reason", "mode paper is not used", "--experiment", "smoke")
    assert "accepted: 4 of connectivity" in printed
    assert ready.jobs(table) == {}
    record = next((ready.root / "results/cells").glob("*/metrics/connectivity.h5"))
    record.unlink()
    assert ready.jobs(str(record.relative_to(ready.root))) == {"connectivity": 1}


def test_an_acceptance_that_is_damaged_is_one_line(ready: Project) -> None:
    (ready.root / "results/accepted.json").write_text("[")
    printed = ready.snakemake("-n", ok=False)
    assert "results/accepted.json: damaged" in printed
    assert "Traceback" not in printed
