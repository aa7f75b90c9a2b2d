"""Nothing is done twice on the real graph: runs that go on, cells that two configs share."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from conftest import Project
from lossatlas import store

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def logged(root: Path, key: str, folder: str = "train") -> list[dict]:
    """Return the lines of jobs' logs that tell of a key."""
    lines = [line for log in root.glob(f"results/logs/{folder}/*") for line in log.open()]
    return [json.loads(line) for line in lines if f'"{key}"' in line]


def trained(root: Path, epochs: int) -> dict[str, np.ndarray]:
    """Return all weights and all that was recorded of the run of so many epochs."""
    for spec in root.glob("results/cells/*/spec.yaml"):
        if f"epochs: {epochs}\n" in spec.read_text():
            found = safetensors.numpy.load_file(spec.parent / "train/0-1.safetensors")
            record = store.read(spec.parent / "train/0-1.h5")
            found |= {name: array.values for name, array in record.arrays.items()}
            return found | {f"{s.name} {s.replica}": s.y for s in record.series}
    raise AssertionError(f"no run of {epochs} epochs")


def test_a_longer_run_goes_on(project: Project) -> None:
    """At the end of the first run a window is open, which only the longer one fills."""

    def change(content: dict) -> None:
        record = {"start": 2, "length": 16, "stride": 8, "snapshots": 1, "projection": 8}
        content["recipes"]["short"] = {"epochs": 5, "checkpoints": ["best", "final"]}
        content["recipes"]["short"] |= {"batch_size": 96, "record": record}
        one = content["experiments"]["smoke"]
        one.update(load={"width": [1]}, temperature={"batch_size": [96]}, metrics=["diffusion"])
        content.update(metrics={"diffusion": {"fit": [1, 4], "bootstrap": 2}}, figures={})

    project.configure(change)
    anew = project.copy(project.root.parent / "anew")
    anew.configure(lambda c: c["recipes"]["short"].update(epochs=8))
    anew.snakemake("--cores", "1", "train")
    project.snakemake("--cores", "1", "train")
    shutil.rmtree(project.root / "results/logs")
    project.configure(lambda c: c["recipes"]["short"].update(epochs=8))
    project.snakemake("--cores", "2", "metrics")
    assert [line["epochs"] for line in logged(project.root, "goes on from")] == [5]
    assert min(line["epoch"] for line in logged(project.root, "train_loss")) >= 3
    found, wanted = trained(project.root, 8), trained(anew.root, 8)
    assert len(wanted["path_window"]) > len(trained(project.root, 5)["path_window"])
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert project.jobs("metrics") == {}


FAST = {"epochs": 1, "points": 3, "places": 3, "raster": 3, "connectors": 1}
METRICS = {  # per replica, per pair and per cell
    "hessian": {"samples": 32, "iterations": 4, "probes": 3, "density_probes": 0},
    "cka": {"samples": 64, "batch_size": 32},
    "simplex": FAST,
}
OTHERS = {
    "hessian": {**METRICS["hessian"], "iterations": 5},
    "cka": {**METRICS["cka"], "samples": 96},
    "simplex": {**FAST, "raster": 4},
}


def test_two_configs_measure_nothing_twice(project: Project) -> None:
    """They share a cell, and ask other settings of metrics of the same names."""

    def change(content: dict) -> None:
        one = content["experiments"]["smoke"]
        one.update(load={"width": [1]}, temperature={"batch_size": [128]}, metrics=list(METRICS))
        content.update(models={"resnet18": {"builder": "mlp", "width": 2}})
        content.update(metrics=METRICS, figures={})

    project.configure(change)
    first, second = project, Project(project.root, "second.yaml")
    shutil.copy(project.root / project.config, project.root / "second.yaml")
    second.configure(lambda c: c.update(metrics=OTHERS))
    counts, tables = [], []
    for one in (first, second, first, second):
        shutil.rmtree(project.root / "results/logs", ignore_errors=True)
        one.snakemake("--cores", "2", "metrics")
        assert one.jobs("metrics") == {}
        name = Path(one.config).stem
        folder = project.root / f"results/{name}/tables/smoke"
        tables.append({table.name: table.read_text() for table in folder.glob("*.csv")})
        counts.append({m: len(logged(project.root, "measures", m)[0]["measures"]) for m in METRICS})
    everything = {"hessian": 2, "cka": 1, "simplex": 1}
    assert counts == [everything, everything, dict.fromkeys(METRICS, 0), dict.fromkeys(METRICS, 0)]
    assert tables[0] == tables[2] != tables[1] == tables[3]
    first.configure(lambda c: c["experiments"]["smoke"].update(seeds=3))
    first.snakemake("--cores", "2", "metrics")
    assert logged(project.root, "measures", "hessian")[0]["measures"] == [[2]]
