"""Archives that nobody serves: all that can do without them is drawn, and the end says so."""

import signal

import pytest

from conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]

# Nothing listens at this port of this machine. The file has a folder, as those of Fashion-MNIST.
ROW = "far\t1\tthere/far.npz\t9\t{sha}\thttp://127.0.0.1:9/far.npz\tnone\t900\t300\t10\t1\t8\t\n"
LAST = "lossatlas: data are missing: 'there/far.npz'; "


def experiment(dataset: str) -> dict:
    return {
        "dataset": dataset,
        "model": "resnet18",
        "recipe": "short",
        "load": {"width": [1]},
        "temperature": {"batch_size": [128]},
        "seeds": 2,
        "together": 2,
        "metrics": ["connectivity"],
    }


CONFIG = {
    "datasets": {"digits": {"fraction": 0.2}, "far": None},
    "models": {"resnet18": None},
    "recipes": {"short": {"epochs": 1}},
    "experiments": {"near": experiment("digits"), "far": experiment("far")},
    "metrics": {"connectivity": {"epochs": 1, "points": 5}},
    "figures": {
        "curves_near": {"draws": "taxonomy_curves", "experiment": "near"},
        "curves_far": {"draws": "taxonomy_curves", "experiment": "far"},
    },
}


def test_data_that_cannot_be_had(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LOSSATLAS_MIRROR", raising=False)
    project.configure(lambda c: (c.clear(), c.update(CONFIG)))
    table = project.root / "resources/datasets.tsv"
    table.write_text(table.read_text() + ROW.format(sha="0" * 64))
    figures = project.root / "results/smoke/figures"

    lines = project.snakemake(status=3).splitlines()
    assert {path.name for path in figures.glob("[!.]*")} == {
        f"curves_near.{kind}" for kind in ("png", "pdf", "csv")
    }
    assert lines[-1].startswith(LAST + "all that does not need them is made (put them under")
    assert "LOSSATLAS_MIRROR or as 'mirror_dir'" in lines[-1]
    assert sum(line.startswith(LAST) for line in lines) == 1
    assert not any("Traceback" in line for line in lines)

    project.snakemake("curves_near")  # nothing is missing for it

    for path in figures.iterdir():
        path.unlink()
    project.edit("workflow/figure.py", "as s:", "as s:\n    import os; os.kill(os.getpid(), 11) #")
    printed = project.snakemake(status=1)
    assert printed.splitlines()[-1].startswith(LAST + "other jobs failed, too: see above")
    log = (project.root / "results/smoke/logs/figure/curves_near.log").read_text()
    assert f"lossatlas: killed by {signal.Signals(11).name}: a fault in a compiled library" in log
    assert "killed by SIGSEGV" in printed
    printed = project.snakemake("curves_near", status=1)
    assert LAST not in printed
