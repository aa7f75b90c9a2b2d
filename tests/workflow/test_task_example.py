"""The example of tasks on the real graph: a regression, a language model, losses of one's own."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lossatlas
from conftest import Elsewhere
from lossatlas.paths import PROJECT

TABLES = tuple(f"results/tables/task_{name}.csv" for name in ("counts", "rows", "tokens"))

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tasks")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    folder = tmp_path_factory.mktemp("tasks") / "user"
    shutil.copytree(PROJECT / "examples/task", folder)
    done = Elsewhere(folder, "config.yaml")
    done.snakemake("--cores", "2", *TABLES, "all")
    return done


@pytest.fixture
def ready(finished: Elsewhere, tmp_path: Path) -> Elsewhere:
    shutil.copytree(finished.root, tmp_path / "user", symlinks=True)
    return Elsewhere(tmp_path / "user", "config.yaml")


def numbers(project: Elsewhere, name: str) -> pd.DataFrame:
    return pd.read_csv(project.root / f"results/tables/task_{name}.csv")


def test_losses_and_scores(finished: Elsewhere) -> None:
    """A regression has no accuracy; the language model learns, but for the noise in its data."""
    rows = numbers(finished, "rows")
    assert "test_accuracy" not in set(rows["metric"])
    tokens = numbers(finished, "tokens").query("metric == 'test_accuracy' and width == 16")
    assert tokens["value"].max() > 50  # chance is 12.5%
    assert (finished.root / "results/figures/token_phases.png").stat().st_size > 0
    assert finished.jobs(*TABLES, "all") == {}


def test_curvature_of_a_loss_of_one_s_own(
    finished: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of Poisson's likelihood of a linear model is X^T diag(mean) X / n."""
    monkeypatch.chdir(finished.root)
    (cell,) = (finished.root / "results/cells").glob("counts*")
    found = numbers(finished, "counts").set_index(["metric", "replica"])["value"]
    for seed in (0, 1):
        one = lossatlas.load(cell.name, seed)
        inputs = one.data.train.tensor.numpy().astype(float)
        x = np.hstack([inputs, np.ones((len(inputs), 1))])
        weight, bias = (p.detach().numpy().astype(float) for p in one.module.parameters())
        rates = np.exp(inputs @ weight[0] + bias[0])
        chosen = 200  # images in the loss: the trace of 200 differs from that of all by sampling
        hessian = x.T @ (rates[:, None] * x) / len(x)
        top = np.linalg.eigvalsh(hessian)[-1]
        assert chosen < len(x)
        assert found["hessian_eigenvalue", seed] == pytest.approx(top, rel=0.25)
        targets = one.data.test.labels.numpy()[:, 0].astype(float)
        tested = one.data.test.tensor.numpy().astype(float) @ weight[0] + bias[0]
        loss = float(np.mean(np.exp(tested) - targets * tested))
        assert found["test_loss", seed] == pytest.approx(loss, rel=1e-5)


def test_each_change_reruns_what_it_concerns(ready: Elsewhere) -> None:
    path = ready.root / "counts.py"
    path.write_text(path.read_text() + "\n# A remark.\n")
    assert ready.jobs(*TABLES) == {}
    ready.edit("counts.py", "params.sub_(gradient.sign(), alpha=rate)", "params.sub_(gradient)")
    jobs = {"train_replicas": 2, "performance": 1, "hessian": 1, "distance": 1}
    found = ready.jobs(*TABLES)
    assert {key: found.get(key) for key in jobs} == jobs
    assert "connectivity" not in found


def test_a_metric_that_the_task_cannot_have(ready: Elsewhere) -> None:
    ready.configure(lambda c: c["experiments"]["task_rows"]["metrics"].append("simplex_volume"))
    printed = ready.snakemake("-n", ok=False)
    assert "needs one class per example, and the task is 'regression'" in printed
    assert "Traceback" not in printed
