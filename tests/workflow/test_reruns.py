"""Each row of the rerun table: which edit reruns which jobs, and nothing else."""

from pathlib import Path

import pytest

from conftest import Project, mirrored

CLAIMS = {"verdicts": 1, "all_claims": 1}
CELLS, EACH = 4, {"performance", "hessian", "connectivity", "cka", "distance"}

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def test_nothing_to_be_done(finished: Project) -> None:
    assert finished.jobs() == {}
    assert "Nothing to be done" in finished.snakemake("--cores", "1")


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
    """A new metric, the recorder (nothing is recorded here), a new version: nothing is trained."""
    ready.edit(
        "workflow/lossatlas/training/recorder.py", "class Recorder:", "NEW = 1\n\n\nclass Recorder:"
    )
    ready.edit(
        "workflow/lossatlas/training/recorder.py", "    def begin(", "    new = 1\n\n    def begin("
    )
    ready.edit("workflow/lossatlas/measuring.py", "ADAPTERS = {", 'ADAPTERS = {\n    "new": "a:b",')
    ready.edit("workflow/lossatlas/__init__.py", '__version__ = "0.', '__version__ = "1.')
    assert ready.jobs() == {}


def test_the_code_of_a_metric(ready: Project) -> None:
    ready.edit("workflow/lossatlas/connectivity/measure.py", "PAPER_POINTS = 5", "PAPER_POINTS = 7")
    assert ready.jobs("results/tables/smoke/connectivity.csv") == {
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
