"""`make coverage`: simulate every standard error, and write the table into docs/uncertainty.md."""

from __future__ import annotations

import sys
import time
from multiprocessing import Pool

from intervals import of_cells, of_runs
from intervals.coverage import Result, simulate
from lossatlas.paths import PROJECT

PAGE = PROJECT / "docs" / "uncertainty.md"
START, END = "<!-- coverage -->\n", "<!-- end -->"


def all_cases():
    """Return all cases."""
    return [*of_cells.cases(), *of_runs.cases()]


def run(number: int) -> Result:
    """Simulate a case, and say so."""
    case, began = all_cases()[number], time.monotonic()
    found = simulate(case)
    words = f"{case.error}; {case.data}: {found.covered:.3f}, width {found.width:.2f}"
    mark = "" if found.fine else "  !" if case.why else "  !!"
    print(f"{words} ({time.monotonic() - began:.0f} s){mark}", flush=True)
    return Result(number, found.repeats, found.undefined, found.covered, found.width)  # type: ignore[arg-type]


def table(found: list[tuple]) -> str:
    """Return the rows of the page."""
    head = "| standard error | simulated | covered | width / oracle | undefined | |\n"
    lines = [head + "|---|---|---|---|---|---|"]
    for case, one in found:
        lost = f"{one.undefined:.0%}" if one.undefined else ""
        note = "" if one.fine else case.why or "outside of 90 to 98%"
        cells = (case.error, case.data, f"{one.covered:.1%}", f"{one.width:.2f}", lost, note)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Simulate all; 1 if a case that should cover does not."""
    cases = all_cases()
    with Pool() as pool:
        results = pool.map(run, range(len(cases)), chunksize=1)
    found = list(zip(cases, results, strict=True))
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(START)
    PAGE.write_text(f"{before}{START}{table(found)}{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    return int(any(not one.fine and not case.why for case, one in found))


if __name__ == "__main__":
    sys.exit(main())
