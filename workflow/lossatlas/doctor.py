"""Checks the machine before anything is spent: one line per check, with the fix of a problem."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lossatlas import paths, slots
from lossatlas.errors import UserError
from lossatlas.spec.catalogue import (
    DataSource,
    corrupted_source,
    data_source,
    data_sources,
    files_of,
)
from lossatlas.spec.cost import paths_bytes, vertices_bytes, weights_bytes
from lossatlas.spec.plan import Plan

Level = Literal["ok", "warning", "problem"]
COMMANDS = {"slurm": ("sbatch", "squeue", "scancel"), "cluster-generic": ("qsub", "qstat", "qdel")}
LEAST_VERSIONS = {"torch": (2, 11), "numpy": (2, 0), "h5py": (3, 10), "snakemake": (9, 19)}
PATIENCE = 20.0  # seconds that a scheduler or a mirror has to answer
LONGEST_PAUSE = 180  # seconds between two looks of the Slurm executor at its jobs
RESERVE = 1e9  # bytes for tables, figures, logs and saved states


@dataclass(frozen=True)
class Check:
    """One line: how it stands, what was looked at, and what mends it."""

    level: Level
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:8} {self.what}" + (f" ({self.fix})" if self.fix else "")


def examine(
    plan: Plan,
    executor: str,
    status_command: str | None,
    mirror_dir: str = "",
    *,
    places: int = 0,
    runs_per_gpu: int = 0,
) -> list[Check]:
    """Run all checks.

    Args:
        plan: What is to be made.
        executor: Name of Snakemake's executor: "local", "slurm", "cluster-generic".
        status_command: What the Slurm executor asks for the state of jobs; None is its own choice.
        mirror_dir: Folder with archives.
        places: How many runs may use GPUs at once (profiles/gpu); 0: no limit.
        runs_per_gpu: How many narrow runs share a GPU there; 0: no profile says so.
    """
    sources = {planned.cell.data.source for planned in plan.cells.values()}
    sources |= plan.corruptions
    needed = sum((weights_bytes(cell) or 0) * 1.3 for cell in plan.cells.values()) + RESERVE
    needed += sum(map(paths_bytes, plan.cells.values()))
    needed += sum(corrupted_source(name).size for name in plan.corruptions)
    for cell in plan.cells.values():
        metrics = [plan.config.metric(name, cell.cell) for name in cell.metrics]
        needed += sum(vertices_bytes(cell, metric) for metric in metrics)
    return [
        *versions(),
        device(executor),
        arithmetic(),
        *(shared(slots.visible(), places, runs_per_gpu) if runs_per_gpu else ()),
        writable(Path(paths.ROOT)),
        disk(Path(paths.ROOT), needed),
        *(data(name, mirror_dir) for name in sorted(sources)),
        *scheduler(executor, status_command),
    ]


def versions() -> Iterable[Check]:
    """Check the libraries."""
    for name, least in LEAST_VERSIONS.items():
        wanted = ".".join(map(str, least))
        try:
            found = str(importlib.import_module(name).__version__)
        except ImportError as error:
            yield Check("problem", f"{name}: {error}", "install requirements.lock")
            continue
        numbers = tuple(int("".join(filter(str.isdigit, n)) or 0) for n in found.split(".")[:2])
        old = numbers < least
        yield Check("problem" if old else "ok", f"{name} {found}", f"{wanted}+" if old else "")


def device(executor: str) -> Check:
    """Check what jobs would compute on."""
    import torch

    from lossatlas.device import choose

    try:
        found = choose()
    except UserError as error:
        if executor == "local":
            return Check("problem", str(error))
        return Check("warning", f"not on this machine: {error.what}", "do the nodes have it?")
    if executor != "local":
        return Check("ok", f"device of this machine: {found}; jobs run on the scheduler's nodes")
    if found.type == "cuda":
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check("ok", f"{len(names)} GPU(s): {', '.join(sorted(set(names)))}")
    if Path("/dev/nvidia0").exists():
        return Check(
            "warning", "there is a GPU, but torch does not see it", "install a CUDA build of torch"
        )
    return Check("ok", f"no GPU: {os.cpu_count()} CPU cores")


def arithmetic() -> Check:
    """Check that torch computes rightly on this machine's CPU."""
    from lossatlas import selftest

    if wrong := selftest.run():
        fix = "set ONEDNN_MAX_CPU_ISA=SSE41, which is slower, or install another version of torch"
        return Check("problem", f"torch computes wrongly on this CPU: {wrong}", fix)
    return Check("ok", "convolutions, their derivatives and products of matrices are right here")


def shared(gpus: list[str], places: int, runs_per_gpu: int) -> Iterable[Check]:
    """Check that profiles/gpu fits the machine's GPUs."""
    wanted = len(gpus) * runs_per_gpu
    line = f"{places} runs at once on {len(gpus)} GPU(s), {runs_per_gpu} on each"
    if not gpus:
        yield Check("warning", "no GPU to share", "start without --profile profiles/gpu")
    elif places != wanted:
        yield Check("warning", line, f"set gpu: {wanted} in profiles/gpu")
    else:
        yield Check("ok", line)


def writable(folder: Path) -> Check:
    """Check that results can be written, with a real file."""
    trial = folder / f".doctor.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"x")
        trial.unlink()
    except OSError as error:
        what = f"{folder}/ cannot be written: {error.strerror}"
        return Check("problem", what, "give write permission, free some space, or start elsewhere")
    return Check("ok", f"{folder}/ can be written")


def disk(folder: Path, needed: float) -> Check:
    """Compare free space with what the plan needs."""
    free = shutil.disk_usage(folder if folder.exists() else Path.cwd()).free
    line = f"disk: {free / 1e9:.1f} GB free, the plan needs about {needed / 1e9:.1f} GB"
    if free < needed:
        return Check("problem", line, "free some space, or plan fewer cells or checkpoints")
    return Check("warning" if free < 2 * needed else "ok", line)


def data(name: str, mirror_dir: str, reach: Callable[[str], str] | None = None) -> Check:
    """Check that a data set is there, or can be had.

    Args:
        name: Of the data set.
        mirror_dir: Folder with archives.
        reach: Returns why an address does not answer, or "".
    """
    source = data_sources().get(name) or data_source(name)
    if source.own:
        return Check("ok", f"data set {name}: {source.file or source.target or source.parts[0]}")
    if source.embedded:
        return Check("ok", f"data set {name}: nothing to download")
    if Path(paths.dataset(name)).is_file():
        return Check("ok", f"data set {name}: {paths.dataset(name)}")
    found = [_archive(name, file, mirror_dir, reach) for file in files_of(source)]
    return next((check for check in found if check.level != "ok"), found[-1])


def _archive(
    name: str, source: DataSource, mirror_dir: str, reach: Callable[[str], str] | None
) -> Check:
    """Check that one file of a data set is there, or can be had."""
    local = [paths.download(source.file)]
    if mirror_dir:
        local.append(str(Path(mirror_dir).expanduser() / source.file))
    for path in local:
        if Path(path).is_file():
            return Check("ok", f"data set {name}: {path}")
    reasons = []
    for address in source.mirrors:
        reason = (reach or _reach)(address)
        if not reason:
            return Check("ok", f"data set {name}: {urlsplit(address).hostname} answers")
        reasons.append(f"{urlsplit(address).hostname}: {reason}")
    what = f"data set {name}: not here, and no mirror answers ({'; '.join(reasons)})"
    fix = f"put '{source.file}' into a folder and name it in LOSSATLAS_MIRROR"
    return Check("problem", what, fix)


def _reach(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme == "file":
        return "" if Path(parts.path).is_file() else "no such file"
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=PATIENCE).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def scheduler(executor: str, status_command: str | None) -> Iterable[Check]:
    """Check that the scheduler's commands are there and answer."""
    commands = COMMANDS.get(executor, ())
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        fix = "start on a login node of the cluster, or choose another profile"
        yield Check("problem", f"no {', '.join(missing)} in PATH", fix)
        return
    if commands:
        query = ["squeue", "--noheader"] if executor == "slurm" else ["qstat", "-B"]
        failure = _ask(query)
        what = f"{query[0]} answers" if not failure else f"{query[0]}: {failure}"
        yield Check("problem" if failure else "ok", what, "ask your site" if failure else "")
    if executor == "slurm":
        yield _accounting(status_command or ("sacct" if shutil.which("sacct") else "squeue"))
        yield from _preemption()


def _accounting(command: str) -> Check:
    """Check the trap that `sacct` is installed but accounting is off: runs then wait for ever."""
    if command != "sacct":
        return _memory()
    failure = _ask(["sacct", "--noheader", "--starttime", "now-1minute"])
    if not failure:
        return Check("ok", "sacct answers: accounting is on")
    fix = "set slurm-status-command: squeue in profiles/slurm"
    return Check("problem", f"sacct does not work, the run would hang silently: {failure}", fix)


def _memory() -> Check:
    """Check the trap that squeue forgets ended jobs before Snakemake looks again: it waits on."""
    age = re.search(r"^MinJobAge\s*=\s*(\d+)", _shown("config"), re.MULTILINE)
    if age is None or int(age[1]) > LONGEST_PAUSE:
        return Check("ok", "states of jobs come from squeue: accounting is not needed")
    what = f"squeue forgets ended jobs after {age[1]} s, a run may look every {LONGEST_PAUSE} s"
    fix = "set slurm-status-command: sacct in profiles/slurm, or the run may wait for ever"
    return Check("warning", what, fix)


def _preemption() -> Iterable[Check]:
    """Check the trap that preempted jobs are cancelled: the Slurm executor waits for them."""
    if re.search(r"PreemptMode\s*=\s*\S*CANCEL", _shown("config") + _shown("partition")):
        what = "Slurm cancels preempted jobs here, and Snakemake waits for such a job for ever"
        fix = "name another partition, or interrupt Snakemake then and start it again"
        yield Check("warning", what, fix)


def _shown(what: str) -> str:
    """Return what Slurm says of itself; nothing if it does not answer."""
    try:
        return _run(["scontrol", "show", what]).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _ask(command: list[str]) -> str:
    """Return why a command failed, or ""."""
    try:
        done = _run(command)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    printed = (done.stderr or done.stdout).strip()
    if done.returncode or "disabled" in done.stderr:
        return printed.splitlines()[0] if printed else f"exit code {done.returncode}"
    return ""


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- the commands stand above
        command, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def report(checks: Iterable[Check]) -> int:
    """Print the checks; return 1 if there is a problem."""
    worst = 0
    for check in checks:
        print(check)
        worst = max(worst, int(check.level == "problem"))
    return worst
