"""The authors' published results: drawn without a network, and compared with their archive."""

import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest

import published
from conftest import Project, mirrored

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]

FIGURES = ("taxonomy_reference_phase_diagram", "taxonomy_reference_phases")
MADE = "results/reference/taxonomy_published.csv"
SHIPPED = "resources/taxonomy_published.csv"

# Python loads this file first in every process that has its folder in PYTHONPATH.
REFUSING = """
import os, socket

def refuse(*asked, **_):
    with open(os.environ["REFUSED"], "a") as file:
        print(*asked, file=file)
    raise ConnectionRefusedError("no network in this test")

class Refusing(socket.socket):
    def connect(self, address):
        return super().connect(address) if self.family == socket.AF_UNIX else refuse(address)

    def connect_ex(self, address):
        return super().connect_ex(address) if self.family == socket.AF_UNIX else refuse(address)

socket.socket, socket.getaddrinfo = Refusing, refuse
"""


@pytest.fixture
def atlas(project: Project) -> Project:
    """A fresh copy with the default config."""
    project.config = "config.yaml"
    return project


@pytest.fixture
def refused(atlas: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Refuse the copy every connection; returns the file that lists those that were tried."""
    (tmp_path / "refusing").mkdir()
    (tmp_path / "refusing/sitecustomize.py").write_text(REFUSING)
    monkeypatch.delenv("LOSSATLAS_MIRROR", raising=False)
    file = tmp_path / "refused"
    atlas.variables = {"PYTHONPATH": str(tmp_path / "refusing"), "REFUSED": str(file)}
    return file


def archive() -> bytes:
    """An archive in which one cell has its training losses, and no other number is there."""
    content = pickle.dumps({run: {"loss": run / 4, "accuracy": 50.0} for run in range(5)})
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        folder = "different_knobs_subset_10/bs_16/lr_decay/ResNet18_w2/metrics"
        info = tarfile.TarInfo(f"{folder}/loss_acc.pkl")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_the_default_atlas_downloads_nothing(atlas: Project) -> None:
    jobs = atlas.jobs()
    assert jobs["reference"] == 1
    assert jobs["figure"] == 25
    assert not {"download", "taxonomy_import"} & set(jobs)


def test_published_results_are_drawn_without_a_network(atlas: Project, refused: Path) -> None:
    environment = {**os.environ, **atlas.variables}
    call = "import socket; socket.create_connection(('127.0.0.1', 9))"
    tried = subprocess.run([sys.executable, "-c", call], env=environment, stderr=subprocess.PIPE)
    assert b"no network in this test" in tried.stderr
    refused.unlink()
    atlas.snakemake("--cores", "2", *FIGURES)
    assert not refused.exists(), refused.read_text()
    assert not (atlas.root / "results/downloads").exists()
    for name in FIGURES:
        for extension in ("png", "pdf", "csv"):
            assert (atlas.root / f"results/figures/{name}.{extension}").stat().st_size > 5000
    drawn = pd.read_csv(atlas.root / "results/figures/taxonomy_reference_phases.csv")
    assert len(drawn) == 210
    assert atlas.jobs(*FIGURES) == {}


def test_a_missing_table_is_one_line(atlas: Project) -> None:
    (atlas.root / SHIPPED).unlink()
    printed = atlas.snakemake("-n", FIGURES[0], ok=False)
    said = f"{SHIPPED}: no such file (restore the file from the repository)"
    assert printed.splitlines()[-1] == said
    assert "Traceback" not in printed


def test_a_damaged_table_is_one_line(atlas: Project) -> None:
    atlas.edit(SHIPPED, "\n16,2,", "\n16,2,x")
    printed = atlas.snakemake("--cores", "1", FIGURES[0], ok=False)
    said = re.compile(
        f"lossatlas: {SHIPPED}, line \\d+: column train_loss.0 has 'x[0-9.]+', which is"
    )
    assert any(said.match(line) for line in printed.splitlines()), printed
    assert "Traceback" not in printed


def test_import_says_where_the_table_differs(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And keeps the table that it made; once that one is shipped, they are equal."""
    mirrored(project, tmp_path / "mirror", archive())
    monkeypatch.setenv("LOSSATLAS_MIRROR", str(tmp_path / "mirror"))
    printed = project.snakemake("--cores", "1", "taxonomy_import", ok=False)
    said = f"lossatlas: {MADE}: differs from {SHIPPED} first in line 3: '# archive: "
    assert any(line.startswith(said) for line in printed.splitlines())
    assert "Traceback" not in printed
    made = (project.root / MADE).read_text()
    assert "\n16,2,0,0.25,0.5,0.75,1,50,50,50,50,50,,,,," in made
    shutil.copy(project.root / MADE, project.root / SHIPPED)
    printed = project.snakemake("--cores", "1", "taxonomy_import")
    assert f"equal: {SHIPPED} and the table made from the archive, {MADE}" in printed.splitlines()


def test_import_of_the_published_archive(project: Project) -> None:
    published.archive()
    printed = project.snakemake("--cores", "1", "taxonomy_import")
    assert f"equal: {SHIPPED} and the table made from the archive, {MADE}" in printed.splitlines()
