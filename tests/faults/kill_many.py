"""Fifty `kill -9` at random moments over all kinds of jobs, then one comparison.

Run by `make test-faults`; the name keeps it out of `make test`.
"""

from pathlib import Path

from faults.killing import Runner, assert_same, kill_at_random, results
from workflow.conftest import fresh

KILLS = 50


def longer(content: dict) -> None:
    content["recipes"]["short"]["epochs"] = 12


def test_fifty_kills(tmp_path: Path) -> None:
    whole, hit = fresh(tmp_path / "whole"), fresh(tmp_path / "hit")
    for one in (whole, hit):
        one.configure(longer)
    whole.snakemake("--cores", "2")
    everything = [hit.root / "results" / file for file in results(whole.root / "results")]
    runner = Runner(hit.root, hit.config)
    counts = kill_at_random(runner, KILLS, seed=5, remove=everything)
    runner.finish()
    compared = assert_same(whole.root / "results", hit.root / "results")
    print(f"\nsurvived {dict(counts)}; {compared} files are equal")
    assert counts.total() >= KILLS
    assert {"train", "metric", "collect", "figure"} <= set(counts)
