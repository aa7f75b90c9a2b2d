"""The examples, all in one folder outside the checkout: a model, data and a figure of a user's."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import Elsewhere, Project
from lossatlas.paths import PROJECT
from lossatlas.store import read

EXAMPLES = PROJECT / "examples"
KINDS = ("model", "dataset", "metric", "figure")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plugins")]


def at(folder: Path) -> Elsewhere:
    """Put the files of all examples into one folder, and their configs together."""
    folder.mkdir(parents=True)
    together: dict[str, dict] = {}
    for kind in KINDS:
        for file in (EXAMPLES / kind).glob("*.py"):
            shutil.copy2(file, folder)
        for section, parts in yaml.safe_load((EXAMPLES / kind / "config.yaml").read_text()).items():
            together.setdefault(section, {}).update(parts)
    (folder / "config.yaml").write_text(yaml.safe_dump(together, sort_keys=False))
    return Elsewhere(folder, "config.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    done = at(tmp_path_factory.mktemp("plugins") / "user")
    done.snakemake("--cores", "2", "all", "metrics")
    return done


@pytest.fixture
def ready(finished: Elsewhere, tmp_path: Path) -> Elsewhere:
    shutil.copytree(finished.root, tmp_path / "user", symlinks=True)
    return Elsewhere(tmp_path / "user", "config.yaml")


def test_they_run(finished: Elsewhere) -> None:
    results = finished.root / "results"
    for extension in ("png", "pdf", "csv"):
        assert (results / f"figures/accuracy.{extension}").stat().st_size > 0
    drawn = pd.read_csv(results / "figures/accuracy.csv")
    assert len(drawn) == 3 * 2 * 2
    accuracies = pd.read_csv(results / "tables/own_dataset.csv").query("metric == 'test_accuracy'")
    assert (accuracies["value"] > 80).all()
    assert len(pd.read_csv(results / "tables/own_model.csv").query("metric == 'test_loss'")) == 4
    assert finished.jobs("all", "metrics") == {}


def test_a_metric_and_its_figure(finished: Elsewhere) -> None:
    results = finished.root / "results"
    rows = pd.read_csv(results / "tables/own_metric/slope.csv")
    assert list(rows["metric"]) == ["gradient_norm"] * 4
    assert (rows["value"] > 0).all()
    assert (results / "figures/slopes.png").stat().st_size > 0


def test_one_more_seed_measures_the_new_replica(ready: Elsewhere) -> None:
    ready.configure(lambda c: c["experiments"]["own_metric"].update(seeds=3))
    table = "results/tables/own_metric/slope.csv"
    before = pd.read_csv(ready.root / table)
    assert ready.jobs(table) == {"train_replicas": 2, "metric": 2, "collect": 1}
    ready.snakemake("--cores", "2", table)
    after = pd.read_csv(ready.root / table)
    pd.testing.assert_frame_equal(
        after[after["replica"] < 2].reset_index(drop=True), before, check_exact=True
    )
    record = read(next((ready.root / "results/cells").glob("*/metrics/slope.h5")))
    assert (record.times["units"], record.times["units_measured"]) == (3, 1)


def test_each_change_reruns_what_it_concerns(ready: Elsewhere) -> None:
    for file in ("mynet.py", "stripes.py", "accuracy.py"):
        path = ready.root / file
        path.write_text(path.read_text() + "\n# A remark.\n")
    assert ready.jobs("all", "metrics") == {}
    ready.edit("accuracy.py", "accuracy (%)", "share (%)")
    assert ready.jobs("all", "metrics") == {"figure": 1}
    ready.edit("gradient_norm.py", ".norm())", ".norm(2))")
    ready.edit("gradient_norm.py", "gradient norm (nats)", "gradient norm")
    metric = {"metric": 2, "collect": 1, "table": 1, "figure": 1}
    assert ready.jobs("results/tables/own_metric.csv", "results/figures/slopes.csv") == metric
    shutil.copy2(EXAMPLES / "metric/gradient_norm.py", ready.root)
    ready.edit("mynet.py", ".relu()", ".tanh()")
    model = {"train_replicas": 4, "performance": 2, "collect": 1, "table": 1}
    assert ready.jobs("all", "metrics") == {"figure": 1, **model}


def test_other_data_are_other_cells(ready: Elsewhere) -> None:
    ready.edit("stripes.py", "default_rng(0)", "default_rng(1)")
    data = {"dataset": 1, "train_replicas": 2, "performance": 1, "collect": 1, "table": 1}
    assert ready.jobs("all", "metrics") == data


def test_a_figure_has_its_place_in_reports(ready: Elsewhere) -> None:
    printed = ready.snakemake("--list-target-rules")
    assert "accuracy (Accuracy on training and test images against width, a dot for" in printed
    ready.snakemake("--report", "report.zip", "accuracy")
    shutil.unpack_archive(ready.root / "report.zip", ready.root / "unpacked")
    (page,) = (ready.root / "unpacked").rglob("report.html")
    text = page.read_text()
    for words in ("my figures", "our atlas", "Lines are means over replicas."):
        assert words in text or json.dumps(words)[1:-1] in text, words
    ready.snakemake("--cores", "1", "report")
    text = (ready.root / "results/report.html").read_text()
    assert "Lines are means over replicas." in text


def test_nothing_of_a_config_from_elsewhere_runs(tmp_path: Path) -> None:
    """It is planned without its modules, or with modules that mark a file when they run."""
    user = at(tmp_path / "user")
    marks = "open('mark', 'w').close()\n"
    for file in user.root.glob("*.py"):
        file.write_text(marks + file.read_text())
    off = ("--config", "plugins=off")
    assert user.jobs("metrics", *off)["train_replicas"] == 12
    assert "own_dataset" in user.snakemake("plan", *off)
    printed = user.snakemake("--cores", "1", "metrics", *off, "--keep-going", ok=False)
    assert "plug-ins are off, and 'stripes:stripes' is one (if you trust it" in printed
    assert "plug-ins are off, and 'mynet:Net' is one" in printed
    assert "Traceback" not in printed
    for file in user.root.glob("*.py"):
        file.unlink()
    assert user.jobs("all", *off)["figure"] == 2
    assert not (user.root / "mark").exists()


def test_a_shell_command_is_no_builder(project: Project) -> None:
    project.configure(lambda c: c["models"].update(resnet18={"builder": "subprocess:getoutput"}))
    printed = project.snakemake("-n", ok=False)
    says = "'subprocess' is neither in this folder nor in a package that declares plug-ins (write"
    assert any(says in line for line in printed.splitlines())
    assert "Traceback" not in printed
