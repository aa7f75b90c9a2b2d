"""Kills jobs, or everything, at random moments while Snakemake works."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from lossatlas import paths
from lossatlas.differences import differences

SUFFIXES = (".h5", ".safetensors", ".csv", ".png", ".pdf", ".yaml", ".npz")
LONGEST = 4.0  # seconds between the sight of a job and the shot at it, at most
PATIENCE = 0.02  # seconds between looks
EVERYTHING = "snakemake and its jobs"
WARM = "process that runs short jobs"


def scripts(root: Path) -> dict[int, str]:
    """Return pid -> name of the script of every job of the project that runs now."""
    found = {}
    folder = f"{root.resolve()}/.snakemake/scripts/tmp"
    for entry in Path("/proc").glob("[0-9]*"):
        for word in _words(entry)[1:]:
            if word.startswith(folder) and word.endswith(".py"):
                found[int(entry.name)] = word.split(".")[-2]
    return found


def _words(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def warm_process(snakemake: int) -> int | None:
    """Return the pid of the process that runs the short jobs of this Snakemake, if there is one."""
    forks = []
    for entry in Path("/proc").glob("[0-9]*"):
        words = _words(entry)
        if "lossatlas.warm" in words and f"/{snakemake}-" in words[-2]:
            forks.append(int(entry.name))
    return min(forks, default=None)  # all others are forks of it


def owners(root: Path) -> dict[str, int]:
    """Return name of the lease -> pid of each job that holds one."""
    found = {}
    for path in (root / "results/state/leases").glob("*"):
        with contextlib.suppress(OSError, ValueError):
            held = json.loads(path.read_text())
            if not held["done"] and Path(f"/proc/{held['pid']}/cwd").resolve() == root.resolve():
                found[path.name] = held["pid"]
    return found


class Runner:
    """Snakemake in a session of its own, started again as often as it takes."""

    def __init__(self, root: Path, config: str, *targets: str, cores: int = 2) -> None:
        self.root, self.log, self.targets = root, root / "runner.log", targets
        self.command = [sys.executable, "-m", "snakemake", "--configfile", config]
        self.cores = cores
        self.process: subprocess.Popen[bytes] | None = None

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.command, "--cores", str(self.cores), *words],
                cwd=self.root,
                env=kept,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self, *more: str) -> None:
        """Start, with more targets if need be; jobs that were killed are tried again."""
        self.process = self._start("--retries", "50", *self.targets, *more)

    def works(self) -> bool:
        """Say whether Snakemake runs."""
        return self.process is not None and self.process.poll() is None

    def kill_all(self) -> None:
        """Kill Snakemake and its jobs, then unlock the folder as Snakemake advises."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self._start("--unlock").wait(120) == 0, self.log.read_text()[-3000:]

    def finish(self, seconds: float = 900) -> None:
        """Run to the end."""
        if not self.works():
            self.start()
        code = self.process.wait(seconds) if self.process else 1
        assert code == 0, self.log.read_text()[-3000:]


def kinds_of(whole: Path) -> dict[str, tuple[str, Path]]:
    """Return name of the lease -> (kind of job, result) for all results of a finished run."""
    found = {}
    for file in results(whole / "results"):
        path = Path("results") / file
        found[Path(paths.lease(str(path))).name] = (_kind(whole, path), path)
    return found


def _kind(whole: Path, path: Path) -> str:
    if path.parts[1] not in paths.ENTRIES:  # the folder of one config
        path = Path(path.parts[0], *path.parts[2:])
    part = path.parts[1]
    if part == "cells" and path.parts[3] == "train":
        spec = yaml.safe_load((whole / path.parent.parent / "spec.yaml").read_text())
        return "recording" if "record" in spec["recipe"] else "training"
    if part == "cells":
        return path.stem
    names = {"downloads": "download", "data": "conversion", "studies": "study", "figures": "figure"}
    if part != "tables":
        return names[part]
    if path.name == "claims.csv":
        return "claims"
    return "table" if len(path.parts) == 3 else "collection"


class Killer:
    """Shoots at jobs until each kind has been hit as often as was asked for.

    A job is shot at a random time after it was first seen, which is when it took the lease on its
    results: imports, work and writing are hit in proportion to the time that they take.

    Args:
        runner: What works.
        kinds: As `kinds_of` returns.
        wanted: Kind of job -> how often it is to be killed; also `EVERYTHING` and `WARM`.
        seed: Of the moments.
    """

    def __init__(
        self,
        runner: Runner,
        kinds: Mapping[str, tuple[str, Path]],
        wanted: Mapping[str, int],
        seed: int,
    ) -> None:
        self.runner, self.kinds, self.wanted = runner, kinds, wanted
        self.chance = random.Random(seed)
        self.killed: collections.Counter[str] = collections.Counter()
        self.with_state = 0
        self._at: dict[int, float] = {}

    def missing(self) -> set[str]:
        """Return the kinds that have not been killed often enough."""
        return {kind for kind, times in self.wanted.items() if self.killed[kind] < times}

    def work(self, seconds: float) -> None:
        """Kill until nothing is missing; whenever all is done too early, some is made anew."""
        end = time.monotonic() + seconds
        while self.missing():
            assert time.monotonic() < end, (self.missing(), self.runner.log.read_text()[-3000:])
            if self.runner.works():
                self._look()
                time.sleep(PATIENCE)
            else:
                self.runner.start(*self._make_work())

    def _make_work(self) -> list[str]:
        """Remove results of the kinds that are missing, and return them."""
        process = self.runner.process
        assert process is None or process.returncode == 0, self.runner.log.read_text()[-3000:]
        if process is None:
            return []
        removed = []
        for kind, path in self.kinds.values():
            if self._wants(kind):
                (self.runner.root / path).unlink(missing_ok=True)
                removed.append(str(path))
        return removed

    def _wants(self, kind: str) -> bool:
        """Say whether to shoot at this kind: at any, if only what runs them is still missing."""
        missing = self.missing()
        return kind in missing or (kind in self.wanted and missing <= {EVERYTHING, WARM})

    def _look(self) -> None:
        now, held = time.monotonic(), owners(self.runner.root)
        for lease, pid in held.items():
            if pid not in self._at and lease in self.kinds and self._wants(self.kinds[lease][0]):
                self._at[pid] = now + LONGEST * self.chance.random() ** 2
        for lease, pid in held.items():
            if self._at.get(pid, now + 1) > now:
                continue
            del self._at[pid]
            self._shoot(pid, self.kinds[lease][0])
            return
        self._at = {pid: at for pid, at in self._at.items() if pid in held.values()}

    def _shoot(self, pid: int, kind: str) -> None:
        if not self._wants(kind):
            return
        last = self.missing() <= {EVERYTHING, WARM}
        self.with_state += self._has_state()
        assert self.runner.process is not None
        other = self.chance.random()
        if EVERYTHING in self.missing() and (last or other < 0.15):
            self.runner.kill_all()
            self.killed[EVERYTHING] += 1
            self.runner.start()
            return
        warm = warm_process(self.runner.process.pid) if last or other > 0.85 else None
        if warm is not None and WARM in self.missing():
            pid, kind = warm, WARM
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.killed[kind] += 1

    def _has_state(self) -> bool:
        state = self.runner.root / "results/state"
        return any(path.is_file() for path in state.glob("*"))


def results(root: Path) -> list[Path]:
    """Return all files of a results folder that hold results, relative to it."""
    found = (path.relative_to(root) for path in sorted(root.rglob("*")))
    return [path for path in found if path.suffix in SUFFIXES and path.parts[0] != "state"]


def assert_same(one: Path, other: Path) -> int:
    """Compare results folders: bytes, and contents of records without times; return how many."""
    files = results(one)
    assert files == results(other)
    for file in files:
        if file.suffix == ".h5":
            assert differences(one / file, other / file) == [], file
        else:
            assert (one / file).read_bytes() == (other / file).read_bytes(), file
    left = [p for p in (other / "state").rglob("*") if p.is_file() and p.parent.name != "codes"]
    left += [path for path in other.rglob(".*.????????") if path.suffix != ".made"]
    assert not left, left
    return len(files)
