"""The benchmark of GPUs runs on a CPU as far as it goes, keeps what it has, and adds up hours."""

import csv
import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    found = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "benchmarks/gpu.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["gpu_benchmark"] = module
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(gpu: ModuleType) -> ModuleType:
    return sys.modules["_gpu_results"]


def test_cut_at_once_it_keeps_what_it_has(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("LOSSATLAS_DEVICE", "cpu")
    arguments = ["--device", "cpu", "--small", "--seconds", "0", "--folder", str(tmp_path)]
    assert gpu.main(arguments) == 0
    assert "the time was up" in capsys.readouterr().err
    with (tmp_path / "gpu-cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    whats = [row["what"] for row in rows]
    assert whats.count("CPU against device") == 4
    assert {row["value"] for row in rows if row["what"] == "resumed equals whole"} == {"1.0"}
    assert "step" not in whats


def test_without_a_gpu_it_says_so(gpu: ModuleType, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "no GPU that torch can use" in capsys.readouterr().err


def test_hours_of_the_grid(gpu: ModuleType, rows: ModuleType, tmp_path: Path) -> None:
    """Step times that are products of powers of both axes are met exactly."""
    results = gpu.Results(tmp_path / "x.csv", 60)
    for width in (2, 16, 128):
        for batch in (16, 128, 1024):
            results.add("step", width, batch, 5, "eager", 0.01 * width * batch**0.5, "ms")
    expected = sum(
        5 * 100 * (50_000 // batch) * 0.01 * width * batch**0.5 / 3.6e6
        for width in rows.WIDTHS
        for batch in rows.BATCHES
    )
    assert gpu.hours(results, "eager") == pytest.approx(expected, rel=1e-9)
    assert gpu.hours(results, "graphs") is None
    results.add("step", 128, 2048, 5, "eager", math.nan, "ms", "out of memory")
    assert gpu.hours(results, "eager") == pytest.approx(expected, rel=1e-9)


def test_a_hole_in_the_table_gives_no_hours(gpu: ModuleType, tmp_path: Path) -> None:
    results = gpu.Results(tmp_path / "x.csv", 60)
    for width, batch in ((2, 16), (2, 128), (8, 16)):
        results.add("step", width, batch, 5, "eager", 1.0, "ms")
    assert gpu.hours(results, "eager") is None


def test_work_of_a_step(gpu: ModuleType) -> None:
    """The multiply-adds of width 64 are those of the literature: 555 million per image."""
    flops, moved, parameters = gpu.work_of(64, 32)
    assert flops == pytest.approx(3 * 2 * 555e6, rel=0.01)
    assert parameters == 11_173_962
    assert moved > 0


def test_the_page_has_a_place_for_the_table(gpu: ModuleType) -> None:
    page = (ROOT / "benchmarks/README.md").read_text("utf-8")
    assert len(gpu.MARK.findall(page)) == 1
