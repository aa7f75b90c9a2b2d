"""Hands each job of one machine its GPU: several narrow runs share one, a wide one has it alone.

A slot is a file in a folder of this machine, locked with `flock` and held open while the job runs.
The kernel gives the lock back however the job ends, `kill -9` included: there is nothing to clean.
A scheduler's allocation is left alone: there each job's own GPU is called 0.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
PAUSE = 0.5  # seconds between looks for a free slot


def in_allocation(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether a scheduler has given this job its devices."""
    return any(environment.get(name) for name in SCHEDULERS)


def visible(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of the GPUs: those of CUDA_VISIBLE_DEVICES, or all.

    `torch.cuda.device_count` asks the driver's management library, so CUDA is not initialised and
    CUDA_VISIBLE_DEVICES may still be set.
    """
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def folder() -> Path:
    """Return the folder of this machine, and of this user, that holds the locks."""
    return Path(tempfile.gettempdir()) / f"lossatlas-gpus-{os.getuid()}"


@contextlib.contextmanager
def gpu(
    runs_per_gpu: int,
    *,
    whole: bool = False,
    pool: list[str] | None = None,
    where: Path | None = None,
) -> Iterator[str | None]:
    """Wait for a place on a GPU, show this process that GPU alone, and hold the place.

    Args:
        runs_per_gpu: How many narrow runs share a GPU.
        whole: Wait for a GPU of one's own.
        pool: Names of the GPUs; None asks `visible`.
        where: Folder of the locks, on a disk of this machine; None is `folder()`.

    Yields:
        The GPU's name, or None where there is no GPU, or a scheduler hands them out.
    """
    names = [] if in_allocation() else (visible() if pool is None else pool)
    if not names:
        yield None
        return
    root = folder() if where is None else where
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    name, held = (_whole if whole else _part)(root, names, runs_per_gpu)
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = name
    try:
        yield name
    finally:
        for file in held:
            file.close()
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _lock(path: Path, kind: int) -> IO[str] | None:
    """Return the locked file, or None if another process has it."""
    file = path.open("a")
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in name)


def _part(root: Path, names: list[str], runs_per_gpu: int) -> tuple[str, list[IO[str]]]:
    """Take one slot: the first of every GPU before the second of any."""
    while True:
        for number in range(runs_per_gpu):
            for name in names:
                gate = _lock(root / f"{_safe(name)}.gate", fcntl.LOCK_SH)
                if gate is None:  # a wide run has it, or waits for it
                    continue
                with gate:
                    slot = _lock(root / f"{_safe(name)}.{number}", fcntl.LOCK_EX)
                if slot is not None:
                    return name, [slot]
        time.sleep(PAUSE)


def _whole(root: Path, names: list[str], runs_per_gpu: int) -> tuple[str, list[IO[str]]]:
    """Close one GPU's gate to narrow runs, then wait until those that are there have ended."""
    while True:
        for name in names:
            gate = _lock(root / f"{_safe(name)}.gate", fcntl.LOCK_EX)
            if gate is not None:
                held = [gate]
                for number in range(runs_per_gpu):
                    slot = (root / f"{_safe(name)}.{number}").open("a")
                    fcntl.flock(slot, fcntl.LOCK_EX)
                    held.append(slot)
                return name, held
        time.sleep(PAUSE)
