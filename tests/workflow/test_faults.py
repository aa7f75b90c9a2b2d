"""Faults while Snakemake works: kills, a full disk, two at once, an older schema."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Project
from faults.killing import Runner, assert_same, kill_at_random, scripts
from lossatlas import store

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def test_a_handful_of_kills(finished: Project, ready: Project) -> None:
    """`make test-faults` does fifty."""
    for path in (ready.root / "results").rglob("*"):
        if path.suffix in {".png", ".csv"} or path.name in {"cka.h5", "connectivity.h5"}:
            path.unlink()
    runner = Runner(ready.root, ready.config)
    counts = kill_at_random(runner, 6, seed=1)
    runner.finish()
    assert counts.total() == 6
    assert_same(finished.root / "results", ready.root / "results")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 kB."""
    where = tmp_path / "disk"
    where.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(where)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_full_disk_then_space_again(finished: Project, project: Project, small_disk: Path) -> None:
    (project.root / "results").symlink_to(small_disk)
    printed = project.snakemake("--cores", "1", "data", ok=False)
    assert "No space left on device" in printed
    assert not list(small_disk.rglob("*.h5"))
    resize = ["mount", "-o", "remount,size=8m", str(small_disk)]
    subprocess.run(resize, check=True)
    project.snakemake("--cores", "1", "data")
    for name in ("digits.h5",):
        one, two = (p.root / "results/data" / name for p in (finished, project))
        assert one.read_bytes() == two.read_bytes()


def background(project: Project, *arguments: str) -> subprocess.Popen:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *arguments, "--configfile", project.config],
        cwd=project.root,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(test: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_two_at_once(finished: Project, ready: Project) -> None:
    """The second is refused with advice; one that is told not to care waits for the first."""
    cell = min((ready.root / "results/cells").iterdir())
    targets = [cell / "train/0-1.safetensors", cell / "train/0-1.h5"]
    for path in targets:
        path.unlink()
    target = str(targets[0].relative_to(ready.root))
    first = background(ready, "--cores", "1", target)
    leases = ready.root / "results/state/leases"
    until(lambda: list(leases.glob("*")))
    (worker,) = scripts(ready.root)
    os.kill(worker, signal.SIGSTOP)
    refused = ready.snakemake("--cores", "1", target, ok=False)
    assert "--unlock" in refused
    second = background(ready, "--cores", "1", "--nolock", target)
    until(lambda: len(scripts(ready.root)) == 2)
    time.sleep(3)
    os.kill(worker, signal.SIGCONT)
    outputs = [one.communicate(timeout=120)[0] for one in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert "waiting for another job that works on it" in outputs[1]
    assert "another job has made it" in outputs[1]
    assert_same(finished.root / "results", ready.root / "results")


def test_older_schema_is_refused_and_kept(ready: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = min((ready.root / "results/cells").iterdir())
    path = cell / "metrics/cka.h5"
    record = store.read(path)
    monkeypatch.setattr(store, "SCHEMA", 0)
    store.write(path, record)
    before = path.read_bytes()
    printed = ready.snakemake("--cores", "1", "results/tables/smoke/cka.csv", ok=False)
    assert "has schema 0" in printed
    assert "use the version that wrote it" in printed
    assert path.read_bytes() == before
