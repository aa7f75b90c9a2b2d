"""A plan of 5,000 cells x 5 seeds with five metrics: its dry run, and the same when all is done.

    python benchmarks/scale.py

30,000 jobs: networks so narrow that one job trains the five replicas of a cell. (Wide ones have a
job each.) Takes some minutes, most of them to touch results into place. A ratio is budget over
measurement: above 1 keeps the budget. What Snakemake itself needs for so many jobs, on the
machine at hand, is told by a bare workflow: one training and five metrics per cell, one parameter
each, and no functions.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]
Row = tuple[str, float, float, float]
SECONDS, MEGABYTES = 60.0, 2048.0
CONFIG = {
    "datasets": {"digits": None},
    "models": {"resnet18": None},
    "recipes": {"short": {"epochs": 10}},
    "experiments": {
        "grid": {
            "dataset": "digits",
            "model": "resnet18",
            "recipe": "short",
            "load": {"width": list(range(1, 11))},
            "temperature": {"batch_size": list(range(16, 516))},
            "seeds": 5,
            "together": 5,
            "metrics": ["performance", "hessian", "connectivity", "cka", "distance"],
        }
    },
    "figures": {"taxonomy_phase_diagram": None},
}

BARE = """
rule all:
    input: expand("metrics/{cell}.{metric}", cell=range(5000), metric=list("abcde"))
rule train:
    output: "train/{cell}"
    params: kind="training"
    script: "empty.py"
rule metric:
    input: "train/{cell}"
    output: "metrics/{cell}.{metric}"
    params: kind="metric"
    script: "empty.py"
"""


def ours(folder: Path, *arguments: str) -> tuple[str, float, float]:
    """Run a Snakemake command on our workflow; see `snakemake`."""
    command = ["-s", str(PROJECT / "Snakefile"), *arguments, "--directory", str(folder)]
    command += ["--configfile", str(folder / "config.yaml")]
    return snakemake(*command, "--workflow-profile", str(PROJECT / "profiles/default"))


def bare(folder: Path) -> float:
    """Return the seconds of the dry run of a bare workflow of as many jobs."""
    (folder / "Snakefile").write_text(BARE)
    (folder / "empty.py").write_text("")
    command = ("-s", str(folder / "Snakefile"), "--directory", str(folder), "-n", "--quiet")
    return snakemake(*command)[1]


def snakemake(*arguments: str) -> tuple[str, float, float]:
    """Return what a Snakemake command prints, its seconds, and its peak memory in MiB."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(printed[-3000:])
    cpu = usage.ru_utime + usage.ru_stime
    memory = _mebibytes(usage)
    words = " ".join(word for word in arguments if not word.startswith("/"))
    print(f"  {words}: {seconds:.1f} s ({cpu:.1f} s of a core), {memory:.0f} MiB")
    return printed, seconds, memory


def _mebibytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def pretend(folder: Path) -> None:
    """Put an empty file where each result belongs, in the order in which they would be made."""
    printed, _, _ = ours(folder, "--summary")
    header, *lines = [line.split("\t") for line in printed.splitlines() if "\t" in line]
    place = header.index("output_file")
    for line in lines:
        path = folder / line[place]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    ours(folder, "--touch", "--quiet", "all", "--cores", "2")


def run(_peer: Path | None = None) -> list[Row]:
    """Return (name, ratio, ratio, ratio) of each budget; each is measured once."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
        for what in ("dry run of 5,000 cells x 5 seeds", "the same, all done"):
            printed, seconds, memory = ours(folder, "-n", "--quiet")
            if "done" in what and "Nothing to be done" not in printed:
                raise RuntimeError(f"something is to be done: {printed[-2000:]}")
            rows.append((f"{what}: time", *(SECONDS / seconds,) * 3))
            rows.append((f"{what}: memory", *(MEGABYTES / memory,) * 3))
            if "done" not in what:
                floor = bare(folder) / seconds
                rows.append(("against a bare workflow of as many jobs: time", *(floor,) * 3))
                pretend(folder)
    return rows


if __name__ == "__main__":
    for name, median, low, high in run():
        print(f"{name:46} {median:5.2f}  ({low:.2f} to {high:.2f})", flush=True)
