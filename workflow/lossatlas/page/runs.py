"""What training said of each replica: how it ended, how long it took, and its history."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas import paths, store
from lossatlas.page.lines import POINTS, axes_of, rounded, thinned

Json = dict[str, Any]
_END = "final_"  # before the names of numbers of the end of training


def of_cells(cells: Iterable[str]) -> tuple[list[Json], dict[str, list[Json]]]:
    """Return a row per replica, and by cell the curves of training.

    Cells without records, as those trained elsewhere, have neither. Time and memory are those of
    the job, which trains several replicas at once; they stand with each of them.
    """
    runs: list[Json] = []
    curves: dict[str, list[Json]] = {}
    for cell in cells:
        for block in paths.blocks_on_disk(cell):
            if not Path(paths.history(cell, block)).is_file():
                continue
            record = store.read(paths.history(cell, block))
            runs += _runs(cell, block, record)
            curves.setdefault(cell, []).extend(_curves(record))
    return runs, curves


def told(runs: Sequence[Json]) -> dict[str, str]:
    """Return what the head of the page says of all runs: how many, how they ended, where."""
    if not runs:
        return {}
    ends = Counter(run.get("status", "") for run in runs)
    bad = [f"{count} {status}" for status, count in ends.items() if status != "ok"]
    jobs = {run["file"]: run["seconds"] or 0 for run in runs}
    words = f"{len(runs)}, of which {', '.join(bad) or 'none diverged'}"
    devices = ", ".join(sorted({run["device"] for run in runs}))
    hours = f"{sum(jobs.values()) / 3600:.3g} hours in {len(jobs)} jobs on {devices}"
    return {"replicas trained": words, "training": hours, "by": ", ".join(_versions(runs))}


def _versions(runs: Sequence[Json]) -> list[str]:
    return sorted({run["versions"] for run in runs})


def _runs(cell: str, block: str, record: store.Record) -> list[Json]:
    times, made = dict(record.times), dict(record.provenance)
    rows: dict[int, Json] = {}
    for scalar in record.scalars:
        if scalar.replica is None or not scalar.name.startswith(_END):
            continue
        row = rows.setdefault(scalar.replica, {"cell": cell, "replica": scalar.replica})
        row[scalar.name.removeprefix(_END)] = rounded([scalar.value])[0]
        if row.get("status", "ok") == "ok":
            row["status"] = scalar.status
    memory = times.get("peak_memory_bytes")
    same = {
        "together": len(rows),
        "seconds": rounded([times.get("seconds", math.nan)])[0],
        "memory_mb": round(memory / 1e6) if memory else None,
        "device": str(made.get("device", "")),
        "versions": _programs(made.get("versions", {})),
        "started": _moment(str(times.get("started", ""))),
        "file": paths.weights(cell, block),
    }
    return [{**row, **same} for _, row in sorted(rows.items())]


def _programs(versions: Any) -> str:
    known = versions if isinstance(versions, dict) else {}
    return " ".join(f"{name} {known[name]}" for name in ("lossatlas", "torch") if name in known)


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return ""


def _curves(record: store.Record) -> list[Json]:
    found, names = [], {one.name for one in record.series}
    for one in record.series:
        x, y = (np.asarray(values, np.float64) for values in (one.x, one.y))
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        if len(x) < 2:
            continue
        keep = thinned(y, POINTS)
        item: Json = {"series": f"{one.name} of training", "name": f"replica {one.replica}"}
        item |= {"over": axes_of(one), "of": len(record.series) // len(names), "low": None}
        found.append({**item, "x": rounded(x[keep]), "y": rounded(y[keep]), "high": None})
    return found
