"""The smoke atlas, end to end; and what Snakemake says to a user's mistakes."""

import re
import shutil

import pandas as pd
import pytest
import yaml

from conftest import Project
from lossatlas import store
from lossatlas.differences import differences

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]

FIGURES = ("taxonomy_phase_diagram", "taxonomy_phases", "taxonomy_curves", "taxonomy_spectra")
PANELS = [
    "test_accuracy",
    "train_loss",
    "log_hessian_eigenvalue",
    "log_hessian_trace",
    "mode_connectivity",
    "cka",
    "l2_distance",
]


def test_figures_and_tables_are_there(finished: Project) -> None:
    for name in FIGURES:
        for extension in ("png", "pdf", "csv"):
            assert (finished.root / f"results/smoke/figures/{name}.{extension}").stat().st_size > 0
    drawn = pd.read_csv(finished.root / "results/smoke/figures/taxonomy_phase_diagram.csv")
    errors = ["stderr", "df", "stderr_status"]
    assert list(drawn.columns) == ["metric", "load", "temperature", "value", *errors, "status"]
    assert set(PANELS) <= set(drawn["metric"])
    assert len(drawn[drawn["metric"] == "cka"]) == 4


def test_table_has_one_row_per_scalar(ready: Project) -> None:
    ready.snakemake("--cores", "1", "results/smoke/tables/smoke.csv")
    table = pd.read_csv(ready.root / "results/smoke/tables/smoke.csv")
    columns = "experiment cell width batch_size metric replica partner value stderr df status"
    assert list(table.columns) == columns.split()
    accuracies = table[table["metric"] == "test_accuracy"]
    assert len(accuracies) == 4 * 2
    assert accuracies["value"].between(0, 100).all()


def test_a_second_run_has_equal_contents(finished: Project, project: Project) -> None:
    """Two runs of the same cell are equal, times left out, from training to metrics."""
    cell = next((finished.root / "results/cells").glob("*w1-b32*")).name
    files = [f"results/cells/{cell}/metrics/{name}.h5" for name in ("cka", "hessian", "distance")]
    files.append(f"results/cells/{cell}/metrics/connectivity.h5")
    project.snakemake("--cores", "2", *files)
    for file in [*files, f"results/cells/{cell}/train/0-1.h5"]:
        assert differences(finished.root / file, project.root / file) == []
    one, two = (p.root / f"results/cells/{cell}/train/0-1.safetensors" for p in (finished, project))
    assert one.read_bytes() == two.read_bytes()


def test_log_has_one_line_per_epoch(finished: Project) -> None:
    import json

    for log in (finished.root / "results/logs/train").glob("*.log"):
        lines = [json.loads(line) for line in log.read_text().splitlines() if line[0] == "{"]
        assert [line["epoch"] for line in lines] == [1, 2, 3]
        assert {"learning_rate", "train_loss", "seconds"} <= set(lines[0])


def test_every_cell_says_what_it_is(finished: Project) -> None:
    from lossatlas.spec.cells import from_spec

    cells = list((finished.root / "results/cells").iterdir())
    assert len(cells) == 4
    for cell in cells:
        assert from_spec(yaml.safe_load((cell / "spec.yaml").read_text())).id == cell.name


def test_found_where_the_catalogue_looks(project: Project) -> None:
    printed = project.snakemake("-n", "--snakefile", "workflow/Snakefile", "data")
    assert "dataset" in printed


def test_every_target_is_explained(project: Project) -> None:
    printed = project.snakemake("--list-target-rules")
    for target in ("data", "train", "metrics", "figures", "claims", "taxonomy", *FIGURES):
        assert re.search(rf"^{target}\n +\S|^{target} .*\S", printed, re.MULTILINE), (
            target,
            printed,
        )


def test_plan_and_status_run_nothing(ready: Project) -> None:
    printed = ready.snakemake("plan")
    assert re.search(r"smoke +4 +8 +24 ", printed), printed
    printed = ready.snakemake("status")
    assert re.search(r"replicas trained +│ +8 │ +0 │ +0 │ +0 │ +8 ", printed), printed
    cell = next((ready.root / "results/cells").iterdir())
    (cell / "metrics/cka.h5").unlink()
    assert re.search(r"cells: cka +│ +3 │ +1 ", ready.snakemake("status"))


def one_line(printed: str, says: str) -> None:
    assert "Traceback" not in printed, printed
    assert any(says in line for line in printed.splitlines()), printed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["experiments"]["smoke"].update(seedz=3), "unknown key 'seedz' (did you mean"),
        (lambda c: c["experiments"]["smoke"]["load"].update(width=[0]), "width is 0"),
        (lambda c: c["figures"].update(taxonomy_fases=None), "unknown figure 'taxonomy_fases'"),
        (
            lambda c: c["models"].update(mine={"builder": "nowhere:Net"}),
            "no module named 'nowhere'",
        ),
    ],
)
def test_bad_config_at_parse(project: Project, change, says: str) -> None:
    project.configure(change)
    one_line(project.snakemake("-n", ok=False), says)


def test_config_that_is_no_yaml(project: Project) -> None:
    (project.root / project.config).write_text("experiments: [")
    assert "Traceback" not in project.snakemake("-n", ok=False)


def test_damaged_inputs_are_one_line_and_lose_nothing(ready: Project) -> None:
    cell = next((ready.root / "results/cells").iterdir())
    weights = cell / "train/0-1.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    target = f"results/cells/{cell.name}/metrics/cka.h5"
    assert ready.jobs(target) == {"train_replicas": 1, "cka": 1}, "they are trained again"
    other = next(c for c in (ready.root / "results/cells").iterdir() if c != cell)
    weights.write_bytes((other / "train/0-1.safetensors").read_bytes())
    assert ready.jobs(target) == {"train_replicas": 1, "cka": 1}
    weights.write_bytes(whole[:-9] + bytes(9))  # which only who reads it all can see
    (ready.root / target).unlink()
    shutil.rmtree(cell / "parts")
    printed = ready.snakemake("--cores", "1", target, ok=False)
    one_line(printed, "truncated or damaged: its checksum is wrong")
    assert "failed: " in ready.snakemake("status")
    weights.write_bytes(whole)
    ready.snakemake("--cores", "1", target)
    assert store.read_about(ready.root / target).status == "ok"


def test_truncated_and_foreign_records(ready: Project) -> None:
    import h5py

    cell = next((ready.root / "results/cells").iterdir())
    path = cell / "metrics/cka.h5"
    path.write_bytes(path.read_bytes()[:200])
    table = "results/smoke/tables/smoke/cka.csv"
    again = {"cka": 1, "collect": 1}
    assert ready.jobs(table) == again
    with h5py.File(path, "w") as file:
        file["x"] = 1
    assert ready.jobs(table) == again, "what does not say what made it is made again"
    ready.snakemake("--cores", "1", table)
    assert store.read(path, "cka").status == "ok"


def test_unwritable_results(project: Project) -> None:
    (project.root / "results").write_text("a file where a folder should be")
    printed = project.snakemake("--cores", "1", "data", ok=False)
    one_line(printed, "results: is not a folder that can be written to (")


def test_own_model_and_added_figure(project: Project) -> None:
    """A researcher's own network, in a file of their own, drawn under a name of their own."""
    (project.root / "mynet.py").write_text(
        "from torch import nn\n\n\n"
        "def net(num_classes, in_channels, image_size, hidden=4):\n"
        "    pixels = in_channels * image_size**2\n"
        "    first, last = nn.Linear(pixels, hidden), nn.Linear(hidden, num_classes)\n"
        "    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)\n"
    )

    def change(content: dict) -> None:
        content["models"] = {"mine": {"builder": "mynet:net"}}
        content["experiments"]["smoke"].update(
            model="mine",
            load={"model.hidden": [2, 4]},
            temperature={"batch_size": [128]},
            metrics=["performance", "hessian", "cka", "connectivity", "distance"],
        )
        content["figures"] = {
            "my_diagram": {"draws": "taxonomy_phase_diagram", "experiment": "smoke"}
        }

    project.configure(change)
    assert "my_diagram" in project.snakemake("--list-target-rules")
    project.snakemake("--cores", "2", "my_diagram")
    drawn = pd.read_csv(project.root / "results/smoke/figures/my_diagram.csv")
    assert sorted(drawn["load"].unique()) == [2, 4]
    (project.root / "mynet.py").write_text((project.root / "mynet.py").read_text() + "\nX = 1\n")
    assert project.jobs("results/smoke/figures/my_diagram.csv")["train_replicas"] == 2


def test_the_paper_grid_is_planned_quickly(project: Project) -> None:
    import time

    project.config = "config/taxonomy.yaml"
    started = time.monotonic()
    jobs = project.jobs("results/taxonomy/tables/lr_decay.csv")
    assert time.monotonic() - started < 40  # the budget of 20 s is measured by make bench
    assert jobs["hessian"] == 14 * 13
    assert jobs["train_replicas"] > 14 * 13


def test_default_config_is_the_documented_one() -> None:
    from lossatlas.paths import PROJECT

    content = yaml.safe_load((PROJECT / "config.yaml").read_text())
    assert "digits" in content["datasets"]
