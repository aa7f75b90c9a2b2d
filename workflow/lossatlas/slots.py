"""Hands each job of one machine its GPU: several narrow runs share one, a wide one has it alone.

A slot is a file in a folder of this machine, locked with `flock` and held open while the job runs.
The kernel gives the lock back however the job ends, `kill -9` included: there is nothing to clean.
A scheduler's allocation has locks of its own: GPUs are called 0, 1, ... in each of a machine's.
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

from lossatlas import private

SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
PAUSE = 0.5  # seconds between looks for a free slot


def allocation(environment: Mapping[str, str] = os.environ) -> str:
    """Return the id of the scheduler's job that this process belongs to, or ""."""
    return next((found for name in SCHEDULERS if (found := environment.get(name))), "")


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
    """Return the folder of this machine, user and allocation that holds the locks."""
    name = "-".join(filter(None, ("lossatlas-gpus", str(os.getuid()), _safe(allocation()))))
    return Path(tempfile.gettempdir()) / name


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
        The GPU's name, or None where there is no GPU.

    Raises:
        UserError: If the folder is not this user's alone: locks of others could hold jobs up.
    """
    names = visible() if pool is None else pool
    if not names:
        yield None
        return
    root = folder() if where is None else where
    private.make(root)
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
    """Close one GPU's gate to narrow runs: of an idle one, or else wait until they have ended."""
    while True:
        for how in (fcntl.LOCK_NB, 0):
            for name in names:
                gate = _lock(root / f"{_safe(name)}.gate", fcntl.LOCK_EX)
                if gate is None:
                    continue
                held = [gate]
                try:
                    for number in range(runs_per_gpu):
                        held.append((root / f"{_safe(name)}.{number}").open("a"))
                        fcntl.flock(held[-1], fcntl.LOCK_EX | how)
                except BlockingIOError:
                    for file in held:
                        file.close()
                    continue
                return name, held
        time.sleep(PAUSE)
