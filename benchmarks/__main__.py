"""Runs every benchmark in a process of its own: `python -m benchmarks --peers FOLDER`.

FOLDER holds checkouts of the repositories that we measure against, each under its own name:

    loss_landscape_taxonomy    nsfzyzz/loss_landscape_taxonomy
    loss-surface-simplexes     g-benton/loss-surface-simplexes

Without a checkout the comparisons with it are left out. All numbers are ratios within one run:
median (lowest to highest); above 1 means that ours is faster, smaller or more exact. Some rows
compare with a budget of seconds instead; what those say depends on the machine, so its speed at a
plain loop is printed before and after.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
NO_DEVICE = 2  # exit status of a benchmark of a device that is not there
PEERS = {
    "training": "loss_landscape_taxonomy",
    "connectivity": "loss_landscape_taxonomy",
    "curvature": "loss_landscape_taxonomy",
    "similarity": "loss_landscape_taxonomy",
    "simplex": "loss-surface-simplexes",
}


def yardstick(additions: int = 10_000_000) -> float:
    """Return the seconds of a plain loop: about half a second where nothing else runs."""
    started, number = time.perf_counter(), 0
    while number < additions:
        number += 1
    return time.perf_counter() - started


def main() -> int:
    """Run them one after another; return how many failed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--peers", default="", help="folder with checkouts of the peers")
    parser.add_argument("names", nargs="*", help="which benchmarks; default: all")
    options = parser.parse_args()
    names = options.names or sorted(p.stem for p in HERE.glob("*.py") if p.stem[0] != "_")
    failed = 0
    print(f"10 million additions: {yardstick():.2f} s", flush=True)
    for name in names:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, str(HERE / f"{name}.py")]
        if name in PEERS:
            peer = Path(options.peers) / PEERS[name] if options.peers else None
            if peer is None or not peer.is_dir():
                print(f"left out: no checkout of {PEERS[name]} (make bench PEERS=folder)")
                continue
            command += ["--peer", str(peer)]
        status = subprocess.run(command, check=False).returncode
        failed += status not in (0, NO_DEVICE)
    print(f"\n10 million additions: {yardstick():.2f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
