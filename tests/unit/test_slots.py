"""Places on pretended GPUs, handed out to real processes."""

import collections
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lossatlas import slots
from lossatlas.paths import LIBRARY

JOB = """
import os, sys, time
from pathlib import Path
from lossatlas import slots
where, runs, whole, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "whole", sys.argv[4]
with slots.gpu(runs, whole=whole, where=Path(where)) as name:
    print(name, os.environ["CUDA_VISIBLE_DEVICES"], time.monotonic(), flush=True)
    time.sleep(float(seconds))
    print(time.monotonic(), flush=True)
"""


def job(where: Path, runs: int, kind: str, seconds: float, pool: str) -> subprocess.Popen:
    kept = {k: v for k, v in os.environ.items() if k not in slots.SCHEDULERS}
    variables = {**kept, "PYTHONPATH": str(LIBRARY.parent), "CUDA_VISIBLE_DEVICES": pool}
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(where), str(runs), kind, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env=variables,
    )


def test_no_gpu_holds_more_than_its_share(tmp_path: Path) -> None:
    jobs = [job(tmp_path, 2, "part", 0.4, "0,GPU-abc/1") for _ in range(8)]
    spans = collections.defaultdict(list)
    for one in jobs:
        first, last = one.communicate()[0].splitlines()
        name, shown, started = first.split()
        assert name == shown
        spans[name].append((float(started), float(last)))
    assert set(spans) == {"0", "GPU-abc/1"}
    for held in spans.values():
        for start, _ in held:
            assert sum(a <= start < b for a, b in held) <= 2


def test_the_first_of_every_gpu_comes_before_the_second_of_any(tmp_path: Path, clean: None) -> None:
    place = {"pool": ["0", "1"], "where": tmp_path}
    with slots.gpu(2, **place) as one, slots.gpu(2, **place) as two:
        assert {one, two} == {"0", "1"}


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*slots.SCHEDULERS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def test_kill_9_gives_the_place_back(tmp_path: Path, clean: None) -> None:
    first = job(tmp_path, 1, "part", 600, "3")
    assert first.stdout.readline().startswith("3 3 ")
    first.send_signal(signal.SIGKILL)
    first.wait()
    started = time.monotonic()
    with slots.gpu(1, pool=["3"], where=tmp_path) as name:
        assert name == os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert time.monotonic() - started < 5
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_wide_run_has_its_gpu_alone(tmp_path: Path, clean: None) -> None:
    narrow = job(tmp_path, 2, "part", 1.0, "0")
    begun = narrow.stdout.readline()
    wide = job(tmp_path, 2, "whole", 0.5, "0")
    time.sleep(0.3)
    later = job(tmp_path, 2, "part", 0.0, "0")
    lines = [one.communicate()[0].splitlines() for one in (narrow, wide, later)]
    assert begun
    narrow_end = float(lines[0][-1])
    wide_start, wide_end = float(lines[1][0].split()[2]), float(lines[1][1])
    assert narrow_end <= wide_start
    later_start = float(lines[2][0].split()[2])
    assert later_start <= wide_start or later_start >= wide_end


@pytest.mark.parametrize("name", slots.SCHEDULERS)
def test_allocations_on_one_machine_have_places_of_their_own(clean, monkeypatch, name) -> None:
    """Each calls its GPUs 0, 1, ...; within one of several GPUs, runs spread over them."""
    alone = slots.folder()
    monkeypatch.setenv(name, "7[1].server/../x")
    first = slots.folder()
    monkeypatch.setenv(name, "8")
    assert len({alone, first, slots.folder()}) == 3
    assert alone.parent == first.parent == slots.folder().parent


def test_a_wide_run_takes_an_idle_gpu_first(tmp_path: Path, clean: None) -> None:
    narrow = job(tmp_path, 2, "part", 600, "0,1")
    assert narrow.stdout.readline().startswith("0 0 ")
    started = time.monotonic()
    with slots.gpu(2, whole=True, pool=["0", "1"], where=tmp_path) as name:
        assert name == "1"
    assert time.monotonic() - started < 5
    narrow.kill()
    narrow.wait()
    with slots.gpu(2, whole=True, pool=["0", "1"], where=tmp_path) as name:
        assert name == "0"


def test_a_machine_without_gpus(tmp_path: Path, clean: None) -> None:
    with slots.gpu(4, pool=[], where=tmp_path) as given:
        assert given is None
    assert slots.visible({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert slots.visible({"CUDA_VISIBLE_DEVICES": "2, GPU-x"}) == ["2", "GPU-x"]
