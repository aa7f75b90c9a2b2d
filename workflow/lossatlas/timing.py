"""What a job used, for its record: when, how long, how much memory, and where."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            rows = [line.partition(":") for line in file if line.startswith("model name")]
    except OSError:
        rows = []
    return rows[0][2].strip() if rows else platform.processor() or platform.machine() or "CPU"


def stopwatch() -> Callable[[], dict[str, Any]]:
    """Start measuring; the function returned tells what was used since.

    Its keys: `started` (UTC), `seconds`, `cpu_seconds` of all threads, `peak_memory_bytes` of the
    process since its own start, and `host`.
    """
    started, clock, cpu = time.time(), time.perf_counter(), time.process_time()

    def used() -> dict[str, Any]:
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        return {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "seconds": time.perf_counter() - clock,
            "cpu_seconds": time.process_time() - cpu,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
            "host": platform.node(),
        }

    return used
