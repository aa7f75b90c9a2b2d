"""The example of networks that something else trained: from files to a table, and again."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from conftest import Elsewhere
from lossatlas.paths import PROJECT
from lossatlas.store import read

EXAMPLE = PROJECT / "examples/checkpoints"
TABLE = "results/tables/adopted/performance.csv"
AXES = ["model.hidden", "batch_size"]
ONE = {"adopt": 1, "performance": 1, "collect": 1}

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("checkpoints")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """The example with four of its cells and one metric, and with one file that is not there."""
    root = tmp_path_factory.mktemp("checkpoints") / "user"
    shutil.copytree(EXAMPLE, root)
    subprocess.run([sys.executable, "train_theirs.py"], cwd=root, check=True)
    (root / "runs/hidden=8/batch=32/seed=0.pt").unlink()
    done = Elsewhere(root, "config.yaml")
    chosen = {"load": {"model.hidden": [2, 8]}, "temperature": {"batch_size": [32, 128]}}
    done.configure(lambda c: c["experiments"]["adopted"].update(metrics=["performance"], **chosen))
    done.configure(lambda c: c.pop("figures"))
    done.snakemake("--cores", "2", TABLE)
    return done


@pytest.fixture
def ready(finished: Elsewhere, tmp_path: Path) -> Elsewhere:
    return Elsewhere(shutil.copytree(finished.root, tmp_path / "user"), "config.yaml")


def accuracies(root: Path) -> pd.DataFrame:
    table = pd.read_csv(root / TABLE).query("metric == 'test_accuracy'")
    return table.set_index([*AXES, "replica"])["value"]


def spoil(root: Path, file: str) -> None:
    """Change one weight of a network."""
    state = torch.load(root / file, weights_only=True)
    state["outer.bias"][0] += 1
    torch.save(state, root / file)


def test_numbers_are_those_of_the_networks(
    finished: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(finished.root)
    import numpy as np
    from theirnet import Net

    found = accuracies(finished.root)
    assert len(found) == 7
    data = np.load(finished.root / "theirs.npz")
    images = torch.from_numpy((data["test_images"][:, None] - data["mean"]) / data["std"]).float()
    for (hidden, batch, seed), value in found.items():
        net = Net(10, hidden).eval()
        file = f"runs/hidden={hidden}/batch={batch}/seed={seed:.0f}.pt"
        net.load_state_dict(torch.load(finished.root / file, weights_only=True))
        with torch.no_grad():
            right = net(images).argmax(1).numpy() == data["test_labels"]
        assert value == pytest.approx(100 * right.mean(), abs=0.3)  # one image of 597 may tip
    assert finished.jobs(TABLE) == {}


def test_what_is_missing_is_told(finished: Elsewhere) -> None:
    says = "adopted: fewer replicas in 1 cells: model.hidden=8 batch_size=32 (seed 0)"
    for target in ("plan", "status"):
        assert says in finished.snakemake(target)
    row = next(r for r in finished.snakemake("status").splitlines() if "replicas adopted" in r)
    assert [cell.strip() for cell in row.split("│")[2:7]] == ["7", "0", "0", "0", "7"]


def test_a_file_that_changes_measures_its_cell_again(ready: Elsewhere) -> None:
    before = pd.read_csv(ready.root / TABLE)
    spoil(ready.root, "runs/hidden=2/batch=128/seed=1.pt")
    assert ready.jobs(TABLE) == ONE
    assert "adopt: 1 result not valid: sha256 changed" in ready.snakemake("-n", TABLE)
    ready.snakemake("--cores", "2", TABLE)
    after = pd.read_csv(ready.root / TABLE)
    changed = after["value"] != before["value"]
    assert set(after[changed]["batch_size"]) == {128}
    assert set(after[changed]["model.hidden"]) == {2}
    assert 0 not in set(after[changed]["replica"])
    (name,) = set(after[changed]["cell"])
    record = read(ready.root / f"results/cells/{name}/metrics/performance.h5")
    assert (record.times["units"], record.times["units_measured"]) == (2, 1)
    assert ready.jobs(TABLE) == {}


def test_copies_and_moved_files_are_the_same_replicas(ready: Elsewhere) -> None:
    folder = ready.root / "runs"
    shutil.copytree(folder, ready.root / "copies", copy_function=shutil.copyfile)
    shutil.rmtree(folder)
    shutil.move(ready.root / "copies", folder)
    assert ready.jobs(TABLE) == {}
    folder.rename(ready.root / "elsewhere")
    (ready.root / "runs").symlink_to("elsewhere")
    assert ready.jobs(TABLE) == {}
    ready.edit("config.yaml", "runs/hidden", "elsewhere/hidden")
    assert ready.jobs(TABLE) == {}
    spoil(ready.root, "elsewhere/hidden=2/batch=128/seed=1.pt")
    assert ready.jobs(TABLE) == ONE


def test_one_more_file_measures_the_new_replica(ready: Elsewhere) -> None:
    folder = ready.root / "runs/hidden=8/batch=32"
    shutil.copy(folder / "seed=1.pt", folder / "seed=0.pt")
    printed = ready.snakemake("-n", TABLE, ok=False)
    assert "two replicas are the same weights: 'runs/hidden=8/batch=32/seed=0.pt' and" in printed
    shutil.copy(ready.root / "runs/hidden=8/batch=128/seed=0.pt", folder / "seed=0.pt")
    assert ready.jobs(TABLE) == ONE


def test_files_that_do_not_fit_are_one_line(ready: Elsewhere) -> None:
    folder = ready.root / "runs/hidden=2/batch=128"
    shutil.copy(ready.root / "runs/hidden=8/batch=128/seed=0.pt", folder / "seed=0.pt")
    (folder / "seed=1.pt").write_text("no weights")
    printed = ready.snakemake("--cores", "2", "--keep-going", TABLE, ok=False)
    for says in ("has shape (8, 64), the model wants (2, 64)", "not a file of tensors"):
        assert any(says in line for line in printed.splitlines()), printed
    assert "Traceback" not in printed
    row = next(r for r in ready.snakemake("status").splitlines() if "replicas adopted" in r)
    assert [cell.strip() for cell in row.split("│")[2:7]] == ["5", "0", "2", "0", "7"]


def test_files_that_are_gone_are_one_line(ready: Elsewhere) -> None:
    """A job reads the config again: what it is to adopt may have gone meanwhile."""
    cell = next((ready.root / "results/cells").iterdir()).name
    block = f"results/cells/{cell}/train/9.safetensors"
    printed = ready.snakemake("--cores", "1", block, ok=False)
    assert f"no file for block 9 of cell {cell} (none is called so in the config, or" in printed
    shutil.rmtree(ready.root / "runs/hidden=2")
    gone = [
        path
        for path in (ready.root / "results/cells").glob("*/spec.yaml")
        if "hidden: 2" in path.read_text()
    ]
    block = f"results/cells/{gone[0].parent.name}/train/0.safetensors"
    printed = ready.snakemake("--cores", "1", "--force", block, ok=False)
    assert f"no files of cell '{gone[0].parent.name}' (they are gone, or in none" in printed
    shutil.rmtree(ready.root / "runs")
    printed = ready.snakemake("--cores", "1", TABLE, ok=False)
    assert (
        "experiments.adopted.checkpoints: no file is called 'runs/hidden={model.hidden}" in printed
    )
    assert "Traceback" not in printed
