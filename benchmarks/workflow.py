"""What the workflow itself costs, against its budgets: parsing, dry runs, importing.

    python benchmarks/workflow.py

A ratio is budget over measurement: above 1 keeps the budget.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
Row = tuple[str, float, float, float]
REPEATS = 5


def snakemake(*arguments: str, folder: str, file: Path = PROJECT / "Snakefile") -> float:
    """Return the seconds that a Snakemake command takes in a folder."""
    command = [sys.executable, "-m", "snakemake", "-s", str(file), *arguments]
    command += ["--directory", folder, "--workflow-profile", str(PROJECT / "profiles/default")]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def row(name: str, budget: float, measure: Callable[[], float]) -> Row:
    """Return budget / seconds: median, lowest, highest."""
    ratios = [budget / measure() for _ in range(REPEATS)]
    print(f"  {name}: {budget / statistics.median(ratios):.2f} s of {budget:g} s", flush=True)
    return name, statistics.median(ratios), min(ratios), max(ratios)


def run(_peer: Path | None = None) -> list[Row]:
    """Return (name, median ratio, lowest, highest) of each budget."""
    rows = []
    default, paper = str(PROJECT / "config.yaml"), str(PROJECT / "config/taxonomy.yaml")
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "Snakefile"
        bare.write_text('rule all:\n    output: "all"\n    shell: "touch all"\n', encoding="utf-8")

        def parse() -> float:
            targets = ["--list-target-rules"]
            own = snakemake(*targets, "--configfile", default, folder=folder)
            return own - snakemake(*targets, folder=folder, file=bare)

        print(f"  first parsing, digests of the code included: {parse():.2f} s", flush=True)
        rows.append(row("parsing, beyond a workflow of one rule", 1.0, parse))

        def dry() -> float:
            table = "results/taxonomy/tables/lr_decay.csv"
            return snakemake(table, "-n", "--configfile", paper, folder=folder)

        rows.append(row("dry run of 182 cells x 5 seeds, all metrics", 20.0, dry))
    return rows


if __name__ == "__main__":
    for name, median, low, high in run():
        print(f"{name:46} {median:5.2f}  ({low:.2f} to {high:.2f})", flush=True)
