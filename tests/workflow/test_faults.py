"""Faults while Snakemake works: kills, full and read-only disks, damaged files, interruptions."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Project
from faults.killing import EVERYTHING, Killer, Runner, assert_same, kinds_of, owners, scripts
from lossatlas import paths, store
from lossatlas.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("atlas")]


def test_a_handful_of_kills(finished: Project, ready: Project) -> None:
    """`make test-faults` does more than fifty, of every kind of job."""
    for path in (ready.root / "results").rglob("*"):
        if path.suffix in {".png", ".csv"} or path.name in {"cka.h5", "connectivity.h5"}:
            path.unlink()
    wanted = {"connectivity": 2, "cka": 1, "collection": 1, "figure": 1, EVERYTHING: 1}
    runner = Runner(ready.root, ready.config)
    Killer(runner, kinds_of(finished.root), wanted, seed=1).work(300)
    runner.finish()
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
    subprocess.run(["umount", "-l", str(where)], check=True)


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
        start_new_session=True,
    )


def until(test: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end
        time.sleep(0.05)


def at_lease(root: Path) -> list[int]:
    """Return the jobs that hold a lease, or wait for one."""
    found = []
    for pid in scripts(root):
        with contextlib.suppress(OSError):  # it has just ended
            if any("/state/leases/" in os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir()):
                found.append(pid)
    return found


def test_two_at_once(finished: Project, ready: Project) -> None:
    """The second is refused with advice; one that is told not to care waits for the first."""
    cell = min((ready.root / "results/cells").iterdir())
    targets = [cell / "train/0-1.safetensors", cell / "train/0-1.h5"]
    for path in targets:
        path.unlink()
    target = str(targets[0].relative_to(ready.root))
    first = background(ready, "--cores", "1", target)
    until(lambda: at_lease(ready.root), 600)
    (worker,) = at_lease(ready.root)
    os.kill(worker, signal.SIGSTOP)
    refused = ready.snakemake("--cores", "1", target, ok=False)
    assert "--unlock" in refused
    second = background(ready, "--cores", "1", "--nolock", target)
    until(lambda: len(at_lease(ready.root)) == 2, 600)
    os.kill(worker, signal.SIGCONT)
    outputs = [one.communicate(timeout=600)[0] for one in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert "waiting for another job that works on it" in outputs[1]
    assert "another job has made it" in outputs[1]
    assert_same(finished.root / "results", ready.root / "results")


def test_a_record_of_an_older_schema_is_made_again(
    ready: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = min((ready.root / "results/cells").iterdir())
    path = cell / "metrics/cka.h5"
    record = store.read(path)
    with monkeypatch.context() as patch:
        patch.setattr(store, "SCHEMA", 0)
        store.write(path, record)
    with pytest.raises(UserError, match=r"has schema 0 \(this version reads schema"):
        store.read(path)
    table = "results/smoke/tables/smoke/cka.csv"
    assert ready.jobs(table) == {"cka": 1, "collect": 1}
    ready.snakemake("--cores", "1", table)
    assert [s.value for s in store.read(path).scalars] == [s.value for s in record.scalars]


def states(project: Project) -> list[Path]:
    """Return saved states, those being written left out."""
    return [p for p in (project.root / "results/state").glob("[!.]*") if p.is_file()]


CELL = "digits-resnet18-f0.3-w1-b32"


def cell_of(project: Project) -> Path:
    (found,) = (project.root / "results/cells").glob(f"{CELL}-*")
    return found


@pytest.mark.parametrize(
    ("number", "output", "log"),
    [
        (signal.SIGKILL, "train/0-1.safetensors", "train/{cell}.0-1.log"),
        (signal.SIGTERM, "train/0-1.safetensors", "train/{cell}.0-1.log"),
        (signal.SIGUSR1, "metrics/connectivity.h5", "connectivity/{cell}.log"),
        (signal.SIGKILL, "metrics/connectivity.h5", "connectivity/{cell}.log"),
        (signal.SIGKILL, "metrics/hessian.h5", "hessian/{cell}.log"),
    ],
)
def test_goes_on_where_it_was(
    finished: Project, ready: Project, number: int, output: str, log: str
) -> None:
    """A job that is killed (for its memory, say) or warned is tried again, with more of that."""
    state = "workflow/lossatlas/training/state.py"
    ready.edit(state, "every: float = 60.0", "every: float = 0.0")
    cell = cell_of(ready)
    (cell / output).unlink()
    if output.startswith("metrics"):
        shutil.rmtree(cell / "parts" / Path(output).stem)  # what was measured before
    target = str((cell / output).relative_to(ready.root))
    run = background(ready, "--cores", "1", "--retries", "1", target)
    until(lambda: states(ready) or run.poll() is not None)
    (pid,) = owners(ready.root).values()
    os.kill(pid, number)
    printed = run.communicate(timeout=240)[0]
    assert run.returncode == 0, printed
    killed = number == signal.SIGKILL  # of which the next attempt asks for more, and for no other
    asked = re.findall(r"runtime=(\d+).*mem_mb=(\d+)", printed)
    assert asked == [("30", "2000"), ("30", "4000") if killed else ("60", "2000")]
    assert not list(ready.root.glob("results/logs/**/.*.attempts"))
    assert ("state saved, run the same command again" in printed) is (number != signal.SIGKILL)
    assert '{"resumed": ' in (ready.root / "results/logs" / log.format(cell=cell.name)).read_text()
    assert_same(finished.root / "results", ready.root / "results")
    assert not states(ready)


def test_flipped_bits(ready: Project) -> None:
    """Damage to weights, data and records is named, nothing is deleted, and nothing is measured."""
    cell = cell_of(ready)
    table = "results/smoke/tables/smoke/cka.csv"
    metric = f"results/cells/{cell.name}/metrics/cka.h5"
    for path, target in (
        (cell / "metrics/cka.h5", table),
        (cell / "train/0-1.safetensors", metric),
    ):
        whole = path.read_bytes()
        middle = len(whole) // 2
        hit = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
        path.write_bytes(hit)
        (ready.root / target).unlink()
        shutil.rmtree(cell / "parts/cka", ignore_errors=True)
        printed = ready.snakemake("--cores", "1", target, ok=False)
        assert f"{path.relative_to(ready.root)}: truncated or damaged" in printed
        assert "delete it and run the same command again" in printed
        assert path.read_bytes() == hit
        assert not (ready.root / target).exists()
        path.write_bytes(whole)
    ready.snakemake("--cores", "1", table)


def test_read_only_results(finished: Project, project: Project, small_disk: Path) -> None:
    def remount(how: str) -> None:
        words = ["mount", "-o", f"remount,size=8m,{how}", str(small_disk)]
        subprocess.run(words, check=True)

    (project.root / "results").symlink_to(small_disk)
    remount("ro")
    printed = project.snakemake("--cores", "1", "data", ok=False)
    assert "results: is not a folder that can be written to (" in printed
    remount("rw")
    project.snakemake("--cores", "1", "data")
    one, two = (p.root / "results/data/digits.h5" for p in (finished, project))
    assert one.read_bytes() == two.read_bytes()


def test_stale_lock(finished: Project, ready: Project) -> None:
    """After `kill -9` of everything, the advice is to unlock; then the same command finishes."""
    output = cell_of(ready) / "metrics/cka.h5"
    output.unlink()
    words = ("--cores", "1", str(output.relative_to(ready.root)))
    run = background(ready, *words)
    until(lambda: owners(ready.root))
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert "--unlock" in ready.snakemake(*words, ok=False)
    ready.snakemake("--unlock")
    ready.snakemake(*words)
    assert_same(finished.root / "results", ready.root / "results")


def test_a_run_forgets_second_names_of_its_own_jobs_alone(ready: Project) -> None:
    """After `kill -9` of Snakemake, `snakemake status` must not cost what its jobs made since."""
    train, metric = "train/0-1.safetensors", "metrics/cka.h5"
    outputs = [f"results/cells/{cell_of(ready).name}/{name}" for name in (train, metric)]
    folders = [ready.root / paths.kept(output) / "key" for output in outputs]
    for folder in folders:
        folder.mkdir(parents=True)
    ready.snakemake("status")
    assert all(folder.is_dir() for folder in folders)
    block = ready.root / outputs[0].replace(".safetensors", ".h5")
    block.unlink()
    ready.snakemake("--cores", "1", str(block.relative_to(ready.root)))
    assert [folder.is_dir() for folder in folders] == [False, True]


def test_interrupted_run(finished: Project, ready: Project) -> None:
    """Ctrl-C leaves no lock and nothing half-made; the same command finishes."""
    output = cell_of(ready) / "metrics/connectivity.h5"
    output.unlink()
    words = ("--cores", "1", str(output.relative_to(ready.root)))
    run = background(ready, *words)
    until(lambda: owners(ready.root))
    os.killpg(run.pid, signal.SIGINT)
    printed = run.communicate(timeout=120)[0]
    assert run.returncode != 0, printed
    assert "Traceback" not in printed
    assert not owners(ready.root)
    assert not output.exists()
    ready.snakemake(*words)
    assert_same(finished.root / "results", ready.root / "results")
