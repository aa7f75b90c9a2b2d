"""What the workflow adds to its jobs (start-up, imports, bookkeeping), against its budgets.

    python benchmarks/overhead.py [--config FILE]

Runs the default atlas in an empty folder. The overhead of a job is its time by Snakemake's clock
less the time that its record says the work itself took (training, or one metric). Jobs without such
a record (tables, figures) are taken to have the mean overhead of the others. A ratio is budget over
measurement: above 1 keeps the budget.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lossatlas import store
from lossatlas.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
SECONDS, SHARE = 6.0, 0.10  # budgets: of a job, and as a part of the atlas
Row = tuple[str, float, float, float]


def run(config: Path) -> list[Row]:
    """Return (name, median ratio, lowest, highest) of each budget."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile")]
        command += ["--directory", folder, "--configfile", str(config)]
        command += ["--workflow-profile", str(PROJECT / "profiles/default")]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        wall = time.perf_counter() - started
        jobs, over = _jobs(Path(folder))
    core_seconds = wall * (os.cpu_count() or 1)
    summed = statistics.mean(over) * jobs
    print(f"  {jobs} jobs, {wall:.0f} s; overhead {statistics.median(over):.2f} s a job", end="")
    print(f" ({min(over):.2f} to {max(over):.2f}), {100 * summed / core_seconds:.1f}% of the atlas")
    ratios = [SECONDS / seconds for seconds in over]
    share = SHARE * core_seconds / summed
    return [
        ("overhead of a job", statistics.median(ratios), min(ratios), max(ratios)),
        ("overhead as a part of the atlas", share, share, share),
    ]


def _jobs(folder: Path) -> tuple[int, list[float]]:
    """Return how many jobs ran, and the overhead of each whose record tells its work."""
    logs, over = set(), []
    root = folder / ".snakemake" / "metadata"
    for entry in root.rglob("*"):
        if not entry.is_file():
            continue
        told = json.loads(entry.read_text(encoding="utf-8"))
        logs.add(tuple(told["log"]))
        coded = "".join(part.removeprefix("@") for part in entry.relative_to(root).parts)
        output = folder / base64.urlsafe_b64decode(coded).decode()
        try:
            work = store.read(output).times["seconds"] if output.suffix == ".h5" else None
        except (UserError, KeyError):  # a data set, a study: no record of its time
            work = None
        if work is not None:
            over.append(told["endtime"] - told["starttime"] - work)
    return len(logs), over


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="overhead")
    parser.add_argument("--config", type=Path, default=PROJECT / "config.yaml")
    for name, median, low, high in run(parser.parse_args().config):
        print(f"{name:46} {median:5.2f}  ({low:.2f} to {high:.2f})", flush=True)
