"""A refined experiment on the real graph: rounds, what they reuse, and what is drawn."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from conftest import Elsewhere, fresh
from lossatlas.paths import PROJECT

ROUNDS = "results/tables/refined/refine"
TABLE = "results/tables/refined.csv"
FIGURE = "taxonomy_phases"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("refined")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """The example, on a smaller grid, stopped after a round and gone on with."""
    folder = tmp_path_factory.mktemp("refined") / "user"
    shutil.copytree(PROJECT / "examples/refine", folder)
    done = Elsewhere(folder, "config.yaml")
    done.configure(smaller)
    done.snakemake("--cores", "2", f"{ROUNDS}/1.json")
    assert not (folder / TABLE).exists()
    done.snakemake("--cores", "2", TABLE, FIGURE)
    return done


def smaller(content: dict) -> None:
    one = content["experiments"]["refined"]
    one |= {"load": {"width": [1, 2, 4, 8]}, "temperature": {"batch_size": [8, 32, 128]}}
    one["refine"] = {"budget": 6, "start": 2, "batch": 1}


@pytest.fixture
def ready(finished: Elsewhere, tmp_path: Path) -> Elsewhere:
    return Elsewhere(finished.copy(tmp_path / "user").root, "config.yaml")


def bought(project: Elsewhere, number: int) -> list[str]:
    return json.loads((project.root / ROUNDS / f"{number}.json").read_text())["bought"]


def trained(project: Elsewhere) -> int:
    return len(list((project.root / "results/cells").glob("*/train/*.safetensors")))


def test_what_is_measured_and_what_is_inferred(finished: Elsewhere) -> None:
    every = bought(finished, 2)
    assert bought(finished, 1) == every[:5]
    assert len(every) == 6
    assert trained(finished) == 6
    table = pd.read_csv(finished.root / TABLE)
    assert set(table["cell"]) == set(every)
    left_out = pd.read_csv(finished.root / "results/tables/refined.inferred.csv")
    assert len(left_out) == 12 - len(set(every))
    assert not set(left_out["cell"]) & set(every)
    drawn = pd.read_csv(finished.root / f"results/figures/{FIGURE}.csv")
    assert (drawn["measured"] == "no").sum() == len(left_out)
    assert finished.jobs(TABLE, FIGURE) == {}


def test_lost_rounds_train_nothing(ready: Elsewhere) -> None:
    shutil.rmtree(ready.root / ROUNDS)
    before = trained(ready)
    ready.snakemake("--cores", "2", TABLE, FIGURE)
    assert trained(ready) == before
    assert ready.jobs(TABLE, FIGURE) == {}


def test_a_larger_budget_goes_on(ready: Elsewhere) -> None:
    before = bought(ready, 2)
    ready.configure(lambda content: content["experiments"]["refined"]["refine"].update(budget=7))
    assert "train_replicas" not in ready.jobs(TABLE)  # before it is known which
    ready.snakemake("--cores", "2", TABLE)
    assert bought(ready, 3)[:6] == before
    assert trained(ready) == 7


def test_the_whole_grid_measures_what_is_missing(ready: Elsewhere) -> None:
    ready.configure(lambda content: content["experiments"]["refined"].pop("refine"))
    jobs = ready.jobs(TABLE)
    lacking = 12 - len(set(bought(ready, 2)))
    assert jobs["train_replicas"] == lacking
    assert jobs["hessian"] == jobs["performance"] == lacking


def test_a_cell_bought_again_gets_replicas(finished: Elsewhere, tmp_path: Path) -> None:
    """In a project whose rounds buy the first cell again, whatever they are told."""
    project = fresh(tmp_path / "project")
    shutil.copytree(finished.root / "results", project.root / "results")
    shutil.copy(finished.root / "config.yaml", project.root / "config.yaml")
    project.config = "config.yaml"
    code = "workflow/lossatlas/refine/rounds.py"
    project.edit(code, "for number in chosen]", "for number in chosen and [0]]")
    every = bought(finished, 1)[:4]
    folder = project.root / "results/cells" / every[0]
    before = {one.name for one in (folder / "parts/hessian").iterdir()}
    project.snakemake("--cores", "2", TABLE)
    assert bought(project, 2) == [*every, every[0], every[0]]
    table = pd.read_csv(project.root / TABLE)
    trace = table[table["metric"] == "hessian_trace"].groupby("cell")["replica"].apply(list)
    assert trace[every[0]] == list(range(9))
    assert all(trace[cell] == [0, 1, 2] for cell in every[1:])
    pairs = table[(table["metric"] == "cka") & (table["cell"] == every[0])]
    assert len(pairs) == 9 * 8 / 2
    after = {one.name for one in (folder / "parts/hessian").iterdir()}
    assert before < after  # three replicas were measured before, and are not measured again
    assert project.jobs(TABLE) == {}
    printed = project.snakemake("-n", f"results/cells/{every[0]}/metrics/hessian.99.h5", ok=False)
    assert "has no 99 replicas" in printed
