"""What a run costs, before it: a calibration that the plan reads, and a pilot in its own folder."""

import json
import re

import pytest

from conftest import Project

pytestmark = pytest.mark.slow

PILOT = ("--config", "pilot=true")
CALIBRATION = "results/smoke/calibration.json"


def tiny(project: Project) -> None:
    """Leave one narrow perceptron, two batch sizes, and the quick metrics."""

    def change(content: dict) -> None:
        content["models"] = {"resnet18": {"builder": "mlp", "depth": 1}}
        content["experiments"]["smoke"]["load"] = {"width": [2]}
        content["experiments"]["smoke"]["metrics"] = ["performance", "distance"]
        content["figures"] = {}
        content["metrics"] = {}

    project.configure(change)


def test_calibrate_then_plan(project: Project) -> None:
    tiny(project)
    printed = project.snakemake("plan", "--cores", "1")
    assert "Times: estimated: no calibration (snakemake calibrate)" in printed
    printed = project.snakemake("calibrate", "--cores", "1")
    assert re.search(r"\d+ passes measured on .*: snakemake plan now knows them", printed), printed
    path = project.root / CALIBRATION
    found = json.loads(path.read_text())
    assert {row["kind"] for row in found["rows"]} == {"train", "gradient", "product", "evaluate"}
    printed = project.snakemake("plan", "--cores", "1")
    assert f"Times: measured on {found['device']}, {found['date']}" in printed
    assert "Nothing to be done" in project.snakemake("calibrate", "--cores", "1")
    assert json.loads(path.read_text()) == found
    path.write_text("{")
    printed = project.snakemake("plan", "--cores", "1")
    assert f"Times: estimated: {CALIBRATION}: is damaged: JSONDecodeError" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("config", ["config.yaml", "config/smoke.yaml"])
def test_the_plan_counts_every_job(project: Project, config: str) -> None:
    project.config = config
    printed = project.snakemake("plan", "--cores", "1")
    (told,) = re.findall(r"^Jobs in all: ([\d,]+);", printed, re.MULTILINE)
    jobs = project.jobs("all", "train", "metrics")
    assert int(told.replace(",", "")) == sum(jobs.values())


def test_no_gpu_is_one_line(project: Project) -> None:
    tiny(project)
    project.variables = {"LOSSATLAS_DEVICE": "cuda"}
    printed = project.snakemake("calibrate", "--cores", "1", ok=False)
    assert "lossatlas: LOSSATLAS_DEVICE: 'cuda': " in printed
    assert "Traceback" not in printed
    assert not (project.root / CALIBRATION).exists()


def test_a_pilot_lies_apart_and_ends_with_its_table(project: Project) -> None:
    tiny(project)
    printed = project.snakemake("--cores", "2", *PILOT)
    assert "What the pilot took, and what the run takes and asks for (walltime 24 h)" in printed
    assert printed.count("fits") == 2 * 3
    results = project.root / "results"
    assert not (results / "cells").exists()
    assert (results / "data/digits.h5").exists()
    assert len(list((results / "pilot/cells").iterdir())) == 2
    assert project.jobs(*PILOT) == {"pilot": 1}  # the table alone is made again
    run = project.jobs("all")
    assert "dataset" not in run
    assert (run["train_replicas"], run["performance"]) == (2, 2)  # nothing of it is reused
    given = ("--set-resources", "train_replicas:mem_mb=100")
    printed = project.snakemake("--cores", "1", *given, *PILOT, status=1)
    said = re.findall(r"^lossatlas: training of (\S+) needs (.*)$", printed, re.MULTILINE)
    assert len({cell for cell, _ in said}) == 2
    assert all("asks for 0.1 (set: --set-resources train_replicas:mem_mb=" in s for _, s in said)
    assert "Traceback" not in printed


def test_a_pilot_is_asked_for_by_the_config(project: Project) -> None:
    printed = project.snakemake("pilot", "--cores", "1", ok=False)
    assert "pilot: a pilot has settings of its own (snakemake --config pilot=true)" in printed
    printed = project.snakemake("-n", "--config", "pilot=maybe", ok=False)
    assert "pilot: Input should be true or false" in printed
    printed = project.snakemake("-n", "--config", "pilot=true", "rehearse=true", ok=False)
    assert "rehearse: is a pilot as well (choose one of the two)" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("name", ["taxonomy", "simplex", "diffusion"])
def test_the_graph_of_a_paper_s_pilot(project: Project, name: str) -> None:
    project.config = f"config/{name}.yaml"
    jobs = project.jobs(*PILOT)
    assert jobs["pilot"] == 1
    assert "figure" not in jobs
    assert sum(jobs.values()) < 900
