"""Each row of the rerun table: which edit reruns which jobs, and nothing else."""

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest

from conftest import Project, mirrored
from lossatlas.store import read

CLAIMS = {"verdicts": 1, "all_claims": 1}
NEW = '''
"""A metric that is added to the checkout: one file."""
from lossatlas.metrics.base import Metric, Output, Value


class New(Metric):
    """The seed."""

    outputs = (Output("new_number", "", "the seed"),)

    def measure(self, net, data):
        return Value(net.seed)
'''
CELLS, EACH = 4, {"performance", "hessian", "connectivity", "cka", "distance"}

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def test_nothing_to_be_done(finished: Project) -> None:
    assert finished.jobs() == {}
    assert "Nothing to be done" in finished.snakemake("--cores", "1")


def test_marks_of_jobs_that_were_cut_off_after_they_had_written(ready: Project) -> None:
    """Results that are whole and say what made them are neither incomplete nor made again."""
    marks = ready.root / ".snakemake/incomplete"
    marks.mkdir(exist_ok=True)
    results = [p for p in (ready.root / "results").rglob("*.h5") if "/parts/" not in str(p)]
    assert len(results) > CELLS
    for result in results:
        name = base64.b64encode(str(result.relative_to(ready.root)).encode()).decode()
        (marks / name).touch()
    assert ready.jobs() == {}


def test_docstring_comment_readme(ready: Project) -> None:
    ready.edit("workflow/lossatlas/training/engine.py", '"""The training engine', '"""An engine')
    ready.edit("workflow/lossatlas/similarity/alignment.py", "\n\ndef cka(", "\n\n# Why.\ndef cka(")
    ready.edit("workflow/train.py", '"""Train', '"""We train')
    (ready.root / "README.md").write_text("changed")
    assert ready.jobs() == {}


def test_where_an_archive_comes_from(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = mirrored(project, tmp_path / "mirror", b"an archive")
    monkeypatch.setenv("LOSSATLAS_MIRROR", str(tmp_path / "mirror"))
    project.snakemake("--cores", "1", target)
    monkeypatch.delenv("LOSSATLAS_MIRROR")
    assert project.jobs(target) == {}


def test_style_of_a_figure(ready: Project) -> None:
    ready.configure(lambda c: c["figures"]["taxonomy_phases"].update(dpi=100))
    assert ready.jobs() == {"figure": 1}


def test_caption_of_a_figure(ready: Project) -> None:
    caption = ready.root / "workflow/report/taxonomy_curves.rst"
    caption.write_text(caption.read_text() + "\nMore.\n")
    assert ready.jobs() == {"figure": 1}


def test_setting_of_a_metric(ready: Project) -> None:
    ready.configure(lambda c: c["metrics"]["cka"].update(samples=96))
    expected = {"cka": CELLS, "collect": 1, **CLAIMS}
    expected |= {"figure": 2}
    assert ready.jobs() == expected


def test_one_more_width(ready: Project) -> None:
    ready.configure(lambda c: c["experiments"]["smoke"]["load"].update(width=[1, 2, 3]))
    expected = {
        "train_replicas": 2,
        "collect": 5,
        **CLAIMS,
        "figure": 4,
    }
    assert ready.jobs() == {**expected, **dict.fromkeys(EACH, 2)}


def test_more_seeds(ready: Project) -> None:
    ready.configure(lambda c: c["experiments"]["smoke"].update(seeds=3))
    expected = {
        "train_replicas": CELLS,
        "collect": 5,
        **CLAIMS,
        "figure": 4,
    }
    assert ready.jobs() == {**expected, **dict.fromkeys(EACH, CELLS)}


def test_loss_in_the_training_step(ready: Project) -> None:
    ready.edit(
        "workflow/lossatlas/training/engine.py", "losses.sum()", "losses.sum() + 0 * losses[0]"
    )
    expected = {
        "train_replicas": CELLS,
        "collect": 5,
        **CLAIMS,
        "figure": 4,
    }
    assert ready.jobs() == {**expected, **dict.fromkeys(EACH, CELLS)}


def test_code_that_training_does_not_run(ready: Project) -> None:
    """A new metric, key or version, the recorder (nothing is recorded here), other papers."""
    ready.edit(
        "workflow/lossatlas/training/recorder.py", "class Recorder:", "NEW = 1\n\n\nclass Recorder:"
    )
    ready.edit(
        "workflow/lossatlas/training/recorder.py", "    def begin(", "    new = 1\n\n    def begin("
    )
    (ready.root / "workflow/lossatlas/metrics/new.py").write_text(NEW)
    ready.edit("workflow/lossatlas/__init__.py", '__version__ = "0.', '__version__ = "1.')
    ready.edit(
        "workflow/lossatlas/spec/parts.py", "    epochs: int", "    new: int = 1\n    epochs: int"
    )
    store = "workflow/lossatlas/store/__init__.py"
    ready.edit(store, "    unit: str", "    new: str = ''\n    unit: str")
    assert ready.jobs() == {}
    ready.edit("workflow/lossatlas/claims/simplex.py", 'PAPER = "', 'PAPER = "as told by ')
    assert ready.jobs() == CLAIMS, "those of the other papers are as they were"


DRAWN = {"collect": 5, **CLAIMS, "figure": 4}
MEASURED = {**DRAWN, **dict.fromkeys(EACH, CELLS)}
EDITS = [  # code that only a script, a method or a reader leads to
    ("training/checkpoints.py", "    wanted = set(seeds)", MEASURED),
    (
        "spec/parts.py",
        "        share = images * self.fraction",
        {**MEASURED, "train_replicas": CELLS},
    ),
    ("models/__init__.py", "    make = plugins.load", {**MEASURED, "train_replicas": CELLS}),
    ("../metric.py", "    measuring.measure_cell", MEASURED),
]


@pytest.mark.parametrize(("file", "line", "expected"), EDITS)
def test_code_that_decides_numbers(
    ready: Project, file: str, line: str, expected: dict[str, int]
) -> None:
    indent = " " * (len(line) - len(line.lstrip()))
    ready.edit(f"workflow/lossatlas/{file}", line, f"{indent}_ = 1\n{line}")
    assert ready.jobs() == expected


def test_data_replaced_together_with_their_row(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row's version, size, hash and shape count; its mirrors and licence do not."""
    monkeypatch.setenv("LOSSATLAS_MIRROR", str(tmp_path))
    table = project.root / "resources/datasets.tsv"
    start, target = table.read_text(), "results/data/mine.h5"

    def replace(classes: int, licence: str) -> None:
        labels = np.arange(12) % classes
        images = np.random.default_rng(classes).random((12, 4, 4), dtype=np.float32)
        both = {"train_images": images, "test_images": images}
        np.savez(tmp_path / "mine.npz", train_labels=labels, test_labels=labels, **both)
        body = (tmp_path / "mine.npz").read_bytes()
        about = [len(body), hashlib.sha256(body).hexdigest(), "", licence]
        row = ["mine", "1", "mine.npz", *about, 12, 12, classes, 1, 4, ""]
        table.write_text(start + "\t".join(map(str, row)) + "\n")

    replace(2, "none")
    project.snakemake("--cores", "1", target)
    replace(2, "MIT")
    assert project.jobs(target) == {}
    replace(3, "MIT")
    assert project.jobs(target) == {"download": 1, "dataset": 1}
    project.snakemake("--cores", "1", target)
    assert read(project.root / target).settings["classes"] == 3
    assert project.jobs(target) == {}


OWN = {
    "datasets": {"digits": {"fraction": 0.1}},
    "models": {"mine": {"builder": "own_net:Net"}},
    "recipes": {"short": {"epochs": 1}},
    "experiments": {
        "own": {
            "dataset": "digits",
            "model": "mine",
            "recipe": "short",
            "seeds": 1,
            "metrics": ["performance"],
        }
    },
}
NET = """
import json
from importlib import import_module
from pathlib import Path

from torch import nn

LOSSATLAS_FILES = ["own_sizes.json"]


class Net(nn.Sequential):
    def __init__(self, num_classes, in_channels, image_size):
        (hidden,) = json.loads(Path(__file__).with_name("own_sizes.json").read_text())
        width = in_channels * image_size**2
        parts = import_module("own_parts")
        super().__init__(nn.Flatten(), parts.linear(width, hidden), nn.Linear(hidden, num_classes))
"""


def test_files_of_the_users_own(project: Project) -> None:
    """A helper that is imported by a literal name, and a file that is declared."""
    files = {
        "own_net.py": NET,
        "own_parts.py": "from torch import nn\n\nlinear = nn.Linear\n",
        "own_sizes.json": "[4]",
    }
    for name, text in files.items():
        (project.root / name).write_text(text)
    project.configure(lambda c: (c.clear(), c.update(OWN)))
    project.snakemake("--cores", "1", "metrics")
    assert project.jobs("metrics") == {}
    changes = {"own_parts.py": files["own_parts.py"] + "x = 1\n", "own_sizes.json": "[5]"}
    for name, text in changes.items():
        (project.root / name).write_text(text)
        expected = {"train_replicas": 1, "performance": 1, "collect": 1, "table": 1}
        assert project.jobs("metrics") == expected
        (project.root / name).write_text(files[name])
    assert project.jobs("metrics") == {}
    kept = list((project.root / "results/state/codes").glob("*.json"))
    assert any("own_sizes.json" in path.read_text() for path in kept)
    (project.root / "own_sizes.json").unlink()
    printed = project.snakemake("-n", "metrics", ok=False)
    assert "own_net.py: declares the file 'own_sizes.json', which is not there" in printed
    assert "Traceback" not in printed


def test_the_code_of_a_metric(ready: Project) -> None:
    ready.edit("workflow/lossatlas/connectivity/measure.py", "PAPER_POINTS = 5", "PAPER_POINTS = 7")
    assert ready.jobs("results/smoke/tables/smoke/connectivity.csv") == {
        "connectivity": CELLS,
        "collect": 1,
    }


def test_one_figure_needs_its_own_metrics_alone(project: Project) -> None:
    jobs = project.jobs("taxonomy_spectra")
    assert jobs == {
        "dataset": 1,
        "train_replicas": CELLS,
        "hessian": CELLS,
        "collect": 1,
        "figure": 1,
    }
