"""`make coverage`: simulate every standard error, and write the table into docs/uncertainty.md."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing import Pool

from intervals import of_cells, of_runs
from intervals.coverage import Case, Result, simulate
from lossatlas.paths import PROJECT

PAGE = PROJECT / "docs" / "uncertainty.md"
HEAD = """| standard error | simulated | covered | width / oracle | undefined | |
|---|---|---|---|---|---|"""
START, END = "<!-- coverage -->\n", "<!-- end -->"


def all_cases():
    """Return all cases."""
    return [*of_cells.cases(), *of_runs.cases()]


def run(number: int) -> tuple[int, Result]:
    """Simulate a case, and say so."""
    case, began = all_cases()[number], time.monotonic()
    found = simulate(case)
    words = f"{case.error}; {case.data}: {found.covered:.3f}, width {found.width:.2f}"
    mark = "" if found.fine else "  !" if case.why else "  !!"
    print(f"{words} ({time.monotonic() - began:.0f} s){mark}", flush=True)
    return number, found


def row(case: Case, one: Result) -> str:
    """Return a row of the table of the page."""
    lost = f"{one.undefined:.0%}" if one.undefined else ""
    note = "" if one.fine else case.why or "outside of 90 to 98%"
    cells = (case.error, case.data, f"{one.covered:.1%}", f"{one.width:.2f}", lost, note)
    return "| " + " | ".join(cells) + " |"


def main(words: list[str]) -> int:
    """Simulate all cases, or those whose name has a word; 1 if one does not cover as it should.

    Rows of cases that are not simulated stay as they are.
    """
    cases = all_cases()
    wanted = [n for n, c in enumerate(cases) if not words or any(w in c.error for w in words)]
    failed = False
    with Pool(min(2, os.cpu_count() or 1)) as pool:
        for number, one in pool.imap_unordered(run, wanted):
            write(cases, {number: one})
            failed = failed or not (one.fine or cases[number].why)
    return int(failed)


def write(cases: list[Case], results: dict[int, Result]) -> None:
    """Put rows into the table of the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    old, after = rest.split(END, 1)
    kept = {tuple(line.split(" | ")[:2]): line for line in old.splitlines()}
    kept |= {key_of(cases[n]): row(cases[n], one) for n, one in results.items()}
    lines = [HEAD, *(kept[key_of(case)] for case in cases if key_of(case) in kept)]
    text = before + START + "\n".join(lines) + "\n" + END + after
    PAGE.write_text(text, encoding="utf-8")


def key_of(case: Case) -> tuple[str, str]:
    """Return what a row begins with."""
    return f"| {case.error}", case.data


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
