"""Second names of results: taken back by the same work only, and forgotten at the end."""

import os
from pathlib import Path

import pytest

from lossatlas import kept

OUTPUTS = ["results/cells/a/0.safetensors", "results/cells/a/0.h5"]


@pytest.fixture(autouse=True)
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results/cells/a").mkdir(parents=True)
    for name in OUTPUTS:
        Path(name).write_text(name)


def remove() -> None:
    """What Snakemake does before it starts a job."""
    for name in OUTPUTS:
        Path(name).unlink(missing_ok=True)


def test_the_same_work_takes_its_results_back() -> None:
    kept.keep(OUTPUTS, "work")
    before = [os.stat(name).st_mtime_ns for name in OUTPUTS]
    remove()
    assert kept.take_back(OUTPUTS, "work")
    assert [Path(name).read_text() for name in OUTPUTS] == OUTPUTS
    assert [os.stat(name).st_mtime_ns for name in OUTPUTS] == before


@pytest.mark.parametrize("outputs", [OUTPUTS, OUTPUTS[1:]])
def test_other_work_does_not(outputs: list[str]) -> None:
    kept.keep(OUTPUTS, "work")
    remove()
    assert not kept.take_back(outputs, "work, with other code")
    assert not any(Path(name).exists() for name in OUTPUTS)


def test_only_the_last_work_is_kept() -> None:
    kept.keep(OUTPUTS, "old")
    kept.keep(OUTPUTS, "new")
    assert not kept.take_back(OUTPUTS, "old")
    assert kept.take_back(OUTPUTS, "new")


def test_half_of_the_names_is_nothing() -> None:
    Path(OUTPUTS[1]).unlink()
    kept.keep(OUTPUTS, "work")
    remove()
    assert not kept.take_back(OUTPUTS, "work")
    assert not Path(OUTPUTS[0]).exists()


def test_forgotten_results_are_made_anew() -> None:
    kept.keep(OUTPUTS, "work")
    kept.keep(OUTPUTS[1:], "other work")
    kept.forget(["results/report.html", OUTPUTS[0]])
    remove()
    assert not kept.take_back(OUTPUTS, "work")
    assert kept.take_back(OUTPUTS[1:], "other work")
    kept.forget(OUTPUTS)
    assert not Path("results/state/kept").exists()
    kept.forget(OUTPUTS)
