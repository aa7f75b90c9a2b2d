"""Rows of numbers of a GPU, in a file as soon as they are there, and what follows from them."""

from __future__ import annotations

import csv
import math
import re
import sys
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

WIDTHS = (2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128)
BATCHES = (16, 24, 32, 44, 64, 92, 128, 180, 256, 364, 512, 724, 1024)
REPLICAS, EPOCHS, IMAGES = 5, 100, 50_000
MARK = re.compile(r"<!-- gpu -->.*?<!-- end -->", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One number."""

    what: str
    width: int
    batch: int
    replicas: int
    mode: str
    value: float
    unit: str
    note: str = ""


class Results:
    """Rows, in a file as soon as they are there, and the time that is left."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.end, self.rows = path, time.monotonic() + seconds, list[Row]()
        self.cut = False
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([field.name for field in fields(Row)])

    def add(self, *values: Any) -> Row:
        """Write a row."""
        row = Row(*values)
        self.rows.append(row)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(astuple(row))
        place = f"width {row.width:>3} batch {row.batch:>4} x{row.replicas}" if row.width else ""
        print(
            f"{row.what:<22} {place} {row.mode:<18} {row.value:.4g} {row.unit} {row.note}".rstrip()
        )
        sys.stdout.flush()
        return row

    def left(self, needed: float = 5.0) -> bool:
        """Say whether there are so many seconds left; if not, the run counts as cut."""
        if time.monotonic() + needed < self.end:
            return True
        self.cut = True
        return False


def hours(results: Results, mode: str) -> float | None:
    """Return hours of training the 13 x 13 x 5 grid: step times between those measured, log-log."""
    rows = [r for r in results.rows if r.what == "step" and r.mode == mode and r.value == r.value]
    widths, batches = (sorted({getattr(r, axis) for r in rows}) for axis in ("width", "batch"))
    known = {(r.width, r.batch): math.log(r.value) for r in rows}
    if len(widths) < 2 or any((w, b) not in known for w in widths for b in batches):
        return None
    table = np.array([[known[w, b] for b in batches] for w in widths])
    along = np.array([np.interp(np.log(BATCHES), np.log(batches), row) for row in table])
    every = [np.interp(np.log(WIDTHS), np.log(widths), column) for column in along.T]
    steps = [EPOCHS * (IMAGES // batch) for batch in BATCHES]
    used = sum(float(np.exp(column).sum()) * n for column, n in zip(every, steps, strict=True))
    return REPLICAS * used / 1e3 / 3600


def table(results: Results, name: str) -> str:
    """Return the table of a README."""
    lines = [f"On {name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}:", ""]
    lines += ["| what | width | batch | mode | measured |", "|---|---|---|---|---|"]
    for row in results.rows:
        place = f"| {row.width or ''} | {row.batch or ''} "
        lines.append(f"| {row.what} {place}| {row.mode} | {row.value:.4g} {row.unit} {row.note} |")
    return "\n".join(["<!-- gpu -->", *lines, "<!-- end -->"])
