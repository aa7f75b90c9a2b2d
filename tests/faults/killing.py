"""Kills jobs, or everything, at random moments while Snakemake works."""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from lossatlas import store

SUFFIXES = (".h5", ".safetensors", ".csv", ".png")


def scripts(root: Path) -> dict[int, str]:
    """Return pid -> kind of every job of the project that runs now."""
    found = {}
    folder = f"{root.resolve()}/.snakemake/scripts/tmp"
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        for word in words[1:]:
            if word.startswith(folder) and word.endswith(".py"):
                found[int(entry.name)] = word.split(".")[-2]
    return found


class Runner:
    """Snakemake in a session of its own, started again as often as it takes."""

    def __init__(self, root: Path, config: str, cores: int = 2) -> None:
        self.root, self.log = root, root / "runner.log"
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

    def start(self) -> None:
        """Start; jobs that were killed are tried again."""
        self.process = self._start("--retries", "20")

    def kill_all(self) -> None:
        """Kill Snakemake and its jobs, then unlock the folder as Snakemake advises."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self._start("--unlock").wait(120) == 0, self.log.read_text()[-3000:]

    def finish(self, seconds: float = 900) -> None:
        """Run to the end."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        code = self.process.wait(seconds) if self.process else 1
        assert code == 0, self.log.read_text()[-3000:]


def kill_at_random(
    runner: Runner, kills: int, seed: int, remove: list[Path] | None = None
) -> collections.Counter[str]:
    """Kill jobs with -9 at random moments; each tenth time Snakemake and all of its jobs.

    Args:
        runner: What works.
        kills: How many times.
        seed: Of the moments.
        remove: Results of which a third is made anew whenever all is done too early.

    Returns:
        Kind of job -> how often one was killed.
    """
    chance = random.Random(seed)
    counts: collections.Counter[str] = collections.Counter()
    runner.start()
    while counts.total() < kills:
        time.sleep(chance.uniform(0.2, 3.0))
        if runner.process is None or runner.process.poll() is not None:
            for path in chance.sample(remove or [], len(remove or []) // 3):
                path.unlink(missing_ok=True)
            runner.start()
            continue
        running = scripts(runner.root)
        if not running:
            continue
        if chance.random() < 0.1:
            runner.kill_all()
            counts["snakemake"] += 1
            runner.start()
            continue
        rarest = min(running, key=lambda pid: (counts[running[pid]], chance.random()))
        try:
            os.kill(rarest, signal.SIGKILL)
        except ProcessLookupError:
            continue
        counts[running[rarest]] += 1
    return counts


def results(root: Path) -> list[Path]:
    """Return all files of a results folder that hold results, relative to it."""
    return [p.relative_to(root) for p in sorted(root.rglob("*")) if p.suffix in SUFFIXES]


def assert_same(one: Path, other: Path) -> int:
    """Compare results folders: bytes, and contents of records without times; return how many."""
    files = results(one)
    assert files == results(other)
    for file in files:
        if file.suffix == ".h5":
            assert store.differences(one / file, other / file) == [], file
        else:
            assert (one / file).read_bytes() == (other / file).read_bytes(), file
    left = [p for p in (other / "state").rglob("*") if p.is_file()]
    left += [p for p in other.rglob(".*.????????") if p.is_file()]
    assert not left, left
    return len(files)
