"""Results that are handed on count as done; weights that nothing needs can go, and come back."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Project, fresh

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def lossatlas(project: Project, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lossatlas.cli", *arguments],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(project.root / "workflow")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def weights(project: Project) -> dict[str, bytes]:
    root = project.root / "results/cells"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.safetensors")}


def test_handed_on(ready: Project, tmp_path: Path) -> None:
    ready.snakemake("--cores", "1", "export")
    archive = ready.root / "results/smoke/export.zip"
    assert archive.stat().st_size < 2e6
    other = fresh(tmp_path / "other")
    printed = lossatlas(other, "import", str(archive))
    assert "its config: smoke.yaml" in printed
    assert not weights(other)
    other.config = "smoke.yaml"
    assert other.jobs() == {}
    assert other.jobs("report") == {"report": 1}
    # what is asked for besides has to be trained first
    other.configure(lambda c: c["metrics"].update(hessian={"samples": 17}))
    wanted = other.jobs()
    assert (wanted["train_replicas"], wanted["hessian"]) == (4, 4)


def test_weights_go_and_come_back(ready: Project) -> None:
    before = weights(ready)
    said = lossatlas(ready, "prune", "--configfile", ready.config)
    assert re.search(r"weights of 8 replicas in 4 cells: 4 files, [\d.]+ kB; to train", said)
    assert weights(ready) == before
    # of a cell with a result to come they stay
    cell = min(before).split("/")[0]
    (ready.root / f"results/cells/{cell}/metrics/cka.h5").unlink()
    said = lossatlas(ready, "prune", "--yes", "--configfile", ready.config)
    assert "in 3 cells" in said
    assert "1 cells have none, or results that are still to come" in said
    assert [name.split("/")[0] for name in weights(ready)] == [cell]
    status = ready.snakemake("status")
    assert re.search(r"replicas trained\W+8\W+0\W+0\W+0\W+8\b", status)
    assert ready.jobs() == {}
    ready.snakemake("--cores", "2", "train")
    assert weights(ready) == before
