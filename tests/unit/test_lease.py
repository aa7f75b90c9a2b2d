"""Leases between real processes: waiting, yielding, taking over, being taken over."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lossatlas import lease as module
from lossatlas.errors import UserError
from lossatlas.lease import Lease, lease
from lossatlas.paths import LIBRARY

OWNER = """
import sys, time
from lossatlas.lease import lease
path, key, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
with lease(path, key) as held:
    print("held" if held else "done", flush=True)
    if held:
        time.sleep(seconds)
"""


def owner(path: Path, key: str, seconds: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path), key, str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(LIBRARY.parent)},
    )


def said(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.05)
    monkeypatch.setattr(module, "BEAT", 0.05)
    monkeypatch.setattr(module, "DEAD", 0.6)
    monkeypatch.setattr(module, "GONE", 1.2)


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    with lease(tmp_path / "deep" / "x", "work") as held:
        assert held
        assert (tmp_path / "deep" / "x").exists()
    assert not (tmp_path / "deep" / "x").exists()


def test_same_work_that_ended_well_is_not_done_again(tmp_path: Path) -> None:
    first = owner(tmp_path / "x", "work", 1.0)
    assert said(first) == "held"
    assert Lease(tmp_path / "x", "work").take() is False
    assert first.wait() == 0


def test_other_work_waits_then_works(tmp_path: Path) -> None:
    first = owner(tmp_path / "x", "old code", 1.0)
    assert said(first) == "held"
    started = time.monotonic()
    with lease(tmp_path / "x", "new code") as held:
        assert held
        assert time.monotonic() - started > 0.5
        assert first.wait() == 0


def test_takes_over_from_a_killed_owner_at_once(tmp_path: Path) -> None:
    first = owner(tmp_path / "x", "work", 600)
    assert said(first) == "held"
    first.send_signal(signal.SIGKILL)
    first.wait()
    started = time.monotonic()
    with lease(tmp_path / "x", "work") as held:
        assert held
        assert time.monotonic() - started < 0.5


def test_a_failed_owner_leaves_the_work_to_the_next(tmp_path: Path) -> None:
    def fail() -> None:
        with lease(tmp_path / "x", "work"):
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    with lease(tmp_path / "x", "work") as held:
        assert held


def elsewhere(path: Path, beats: int) -> None:
    content = {"token": "t", "key": "work", "machine": "other/1", "done": False, "beats": beats}
    path.write_text(json.dumps(content).ljust(module.SIZE))


def test_an_owner_on_another_machine_is_dead_when_it_stands_still(tmp_path: Path) -> None:
    """Its `flock` is not seen here, as on some file systems; only its heartbeat."""
    path = tmp_path / "x"
    elsewhere(path, 1)
    waiting = Lease(path, "work")
    beating = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import json, sys, time\n"
            "for beat in range(2, 12):\n"
            "    time.sleep(0.2)\n"
            "    text = json.dumps({'token': 't', 'key': 'work', 'machine': 'other/1',"
            " 'done': False, 'beats': beat})\n"
            "    open(sys.argv[1], 'r+').write(text.ljust(1024))",
            str(path),
        ]
    )
    started = time.monotonic()
    assert waiting.take() is True
    assert time.monotonic() - started > 1.8 + 0.6
    assert beating.wait() == 0
    waiting.release(done=False)


@pytest.mark.parametrize("mutual", [True, False])
def test_without_flock_the_heartbeat_decides(tmp_path, monkeypatch, mutual) -> None:
    def unsupported(*_) -> None:
        raise OSError(module.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", unsupported)
    first = Lease(tmp_path / "x", "work")
    assert first.take()
    second = Lease(tmp_path / "x", "work")
    if mutual:
        import threading

        threading.Timer(1.5, first.release, kwargs={"done": True}).start()
        assert second.take() is False
    else:
        first._ended.set()  # it dies: no more heartbeats
        assert second.take() is True
        assert first._owns(first._file) is False
        second.release(done=True)


def test_an_owner_that_was_suspended_leaves_without_writing(tmp_path: Path) -> None:
    code = "import lossatlas.lease as m; m.BEAT = 0.1\n" + OWNER
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "x"), "work", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(LIBRARY.parent)},
    )
    assert said(first) == "held"
    elsewhere(tmp_path / "x", 7)
    assert first.wait(10) == module.LOST


LOCKED = """
import fcntl, sys, time
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("where", ["other/1", module.machine()])
def test_a_lock_that_outlives_its_machine_does_not_count(tmp_path: Path, where: str) -> None:
    """A file server may keep it; on this machine, a silent owner with a lock is a suspended one."""
    path = tmp_path / "x"
    content = {"token": "t", "key": "work", "machine": where, "done": False, "beats": 1}
    path.write_text(json.dumps(content).ljust(module.SIZE))
    command = [sys.executable, "-c", LOCKED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert said(first) == "held"
        waiting, started = Lease(path, "work"), time.monotonic()
        end = started + (60 if where == "other/1" else 2.4)
        while (held := waiting._look()) is None and time.monotonic() < end:
            time.sleep(0.05)
        assert held is (True if where == "other/1" else None)
        assert time.monotonic() - started >= 1.2
        waiting.release(done=False)
        first.kill()


def test_a_file_server_that_is_away_costs_no_work(tmp_path: Path) -> None:
    """An owner that cannot look at its lease still has it."""
    code = """
import os, sys, time
import lossatlas.lease as m
m.BEAT = 0.05
stat = os.stat
with m.lease(sys.argv[1], "work"):
    asked = []
    def away(*given, **more):
        asked.append(given)
        raise OSError(5, "Input/output error")
    os.stat = away
    while len(asked) < 5:
        time.sleep(0.01)
    os.stat = stat
    time.sleep(0.2)
    print("goes on", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(LIBRARY.parent)},
    )
    assert (done.stdout, done.returncode) == ("goes on\n", 0), done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("call", ["pread", "fstat", "pwrite"])
def test_a_stale_handle_is_opened_anew(tmp_path: Path, monkeypatch, call: str) -> None:
    """The owner has ended on another machine, and its lease is gone while it is open here."""
    real, failures = getattr(os, call), [1]

    def stale(*given, **more):
        if failures:
            failures.pop()
            raise OSError(module.errno.ESTALE, "Stale file handle")
        return real(*given, **more)

    monkeypatch.setattr(module.os, call, stale)
    with lease(tmp_path / "x", "work") as held:
        assert held
        assert not failures


def test_garbage_and_unwritable_folders(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\x00{")
    with lease(tmp_path / "x", "work") as held:
        assert held
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Lease(tmp_path / "file" / "x", "work").take()
