"""Metrics on the real graph: nothing is measured twice; one's own, outside of the checkout."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import Project, fresh
from lossatlas import store

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]

METRICS = {
    "hessian": {"samples": 64, "iterations": 8, "probes": 9, "density_probes": 0},
    "cka": {"samples": 64, "batch_size": 32},
    "connectivity": {"pairs": "first", "epochs": 1, "points": 3},
}


def told(root: Path, metric: str) -> dict[str, list]:
    """Return what the job of a metric said that it measures and takes, of the only cell."""
    (log,) = (root / f"results/logs/{metric}").iterdir()
    return json.loads(next(line for line in log.read_text().splitlines() if '"measures"' in line))


def test_one_more_seed_measures_what_is_new(project: Project) -> None:
    def change(content: dict) -> None:
        one = content["experiments"]["smoke"]
        one.update(load={"width": [1]}, temperature={"batch_size": [128]}, metrics=list(METRICS))
        content.update(metrics=METRICS, figures={})

    project.configure(change)
    tables = [f"results/smoke/tables/smoke/{name}.csv" for name in METRICS]
    project.snakemake("--cores", "2", *tables)
    assert told(project.root, "hessian") == {"measures": [[0], [1]], "takes": []}
    project.configure(lambda c: c["experiments"]["smoke"].update(seeds=3))
    jobs = {"train_replicas": 1, "hessian": 1, "cka": 1, "collect": 2}
    assert project.jobs(*tables) == jobs  # the first two seeds are connected as before
    project.snakemake("--cores", "2", *tables)
    assert told(project.root, "hessian") == {"measures": [[2]], "takes": [[0], [1]]}
    assert told(project.root, "cka") == {"measures": [[0, 2], [1, 2]], "takes": [[0, 1]]}
    assert told(project.root, "connectivity") == {"measures": [[0, 1]], "takes": []}
    assert len(pd.read_csv(project.root / tables[1]).query("metric == 'cka'")) == 3
    (record,) = project.root.glob("results/cells/*/metrics/hessian.h5")
    assert store.read(record).times["units_measured"] == 1
    project.configure(lambda c: c["metrics"]["hessian"].update(chunk=16))
    assert project.jobs(*tables) == {}  # it costs memory, and no number
    project.configure(lambda c: c["metrics"]["hessian"].update(samples=32))
    project.snakemake("--cores", "2", *tables)
    assert told(project.root, "hessian")["measures"] == [[0], [1], [2]]
    assert store.read(record).settings["chunk"] == 16
    kept = list(record.parents[1].glob("parts/hessian/*"))
    assert len(kept) == 6  # those of both settings: another config may ask for the first


OWN = '''
import json
from pathlib import Path

import lossatlas as la

from sizes import HALF


class GradientNorm(la.Metric):
    """L2 norm of the gradient of the mean training loss."""

    per = "replica"
    samples: int = 100
    outputs = [la.Output("gradient_norm", unit="1", doc="norm of the full-batch gradient")]
    files = ["scale.json"]

    def measure(self, net, data):
        scale = json.loads((Path(__file__).parent / "scale.json").read_text())
        return la.Value(HALF * scale * net.gradient(data.train[: self.samples]).norm())


class Apart(la.Metric):
    """Distance of two replicas."""

    per = "pair"
    outputs = [la.Output("apart")]

    def measure(self, one, other, data):
        return {"apart": (one.flat - other.flat).norm()}
'''
CONFIG = yaml.safe_load("""
datasets: {digits: {fraction: 0.1}}
models: {mlp: {width: 4, depth: 1}}
recipes: {short: {epochs: 1, batch_size: 32}}
metrics:
  slope: {kind: "gradient_norm:GradientNorm", samples: 50}
  apart: {kind: "gradient_norm:Apart"}
  performance: {}
  hessian: {samples: 50, density_probes: 2, iterations: 8, probes: 9}
experiments:
  first:
    {dataset: digits, model: mlp, recipe: short, load: {width: [2, 4]},
     temperature: {batch_size: [32]}, seeds: 2, metrics: [slope, apart, performance, hessian]}
figures:
  my_spectra: {draws: taxonomy_spectra, experiment: first}
""")


def test_a_metric_of_ones_own_outside_of_the_checkout(tmp_path: Path) -> None:
    checkout, folder = fresh(tmp_path / "checkout").root, tmp_path / "mine"
    folder.mkdir()
    (folder / "gradient_norm.py").write_text(OWN)
    (folder / "sizes.py").write_text("HALF = 0.5\n")
    (folder / "scale.json").write_text("1")
    (folder / "first.yaml").write_text(yaml.safe_dump(CONFIG))

    def run(*arguments: str, ok: bool = True) -> str:
        command = [sys.executable, "-m", "snakemake", "-s", str(checkout / "Snakefile")]
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [*command, *arguments, "--configfile", "first.yaml"],
            cwd=folder, capture_output=True, text=True, env=variables, timeout=600,
        )  # fmt: skip
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    def jobs() -> dict[str, int]:
        printed = run("-n", *targets)
        counts = re.findall(r"^(\w+) +(\d+)$", printed, re.MULTILINE)
        return {name: int(count) for name, count in counts if name not in ("total", "my_spectra")}

    targets = ["results/first/tables/first.csv", "my_spectra"]
    run("--cores", "2", *targets)
    table = pd.read_csv(folder / "results/first/tables/first.csv")
    norms = table[table["metric"] == "gradient_norm"]
    assert len(norms) == 4
    assert (norms["status"] == "ok").all()
    assert len(table[table["metric"] == "apart"]) == 2
    assert (folder / "results/first/figures/my_spectra.png").stat().st_size > 0
    (record,) = list(folder.glob("results/cells/*w2*/metrics/slope.h5"))
    assert store.read(record).scalars[0].unit == "1"
    assert jobs() == {}
    redone = {"metric": 4, "collect": 2, "table": 1}  # both are of one file
    for name, text in (
        ("gradient_norm.py", OWN.replace("HALF * scale", "HALF * HALF * scale")),
        ("sizes.py", "HALF = 0.25\n"),
    ):
        before = (folder / name).read_text()
        (folder / name).write_text(text)
        assert jobs() == redone, name
        (folder / name).write_text(before)
    (folder / "scale.json").write_text("2")
    assert jobs() == {"metric": 2, "collect": 1, "table": 1}  # just the one that reads it
    run("--cores", "2", *targets)
    twice = pd.read_csv(folder / "results/first/tables/first.csv").query(
        "metric == 'gradient_norm'"
    )
    assert twice["value"].tolist() == pytest.approx((2 * norms["value"]).tolist())
    (folder / "scale.json").unlink()
    printed = run("-n", ok=False)
    assert "scale.json: no such file" in printed
    assert "Traceback" not in printed
