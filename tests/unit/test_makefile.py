"""`make` that is interrupted while it sets up does the set-up again, and then the work."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lossatlas.paths import PROJECT

# Stands in for the programs of the environment: says what it was asked, and may take its time.
PROGRAM = """#!/bin/sh
echo "$(basename "$0") $1 $2" >> asked
if [ "$1 $2" = "pip sync" ] && [ -e slow ]; then rm slow; touch waiting; exec sleep 60; fi
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_interrupted_set_up(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "envs/bootstrap.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(PROJECT / name, tmp_path / name)
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("python", "uv", "snakemake"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    (tmp_path / "slow").touch()
    first = subprocess.Popen(["make", "-s"], cwd=tmp_path, start_new_session=True)
    end = time.monotonic() + 60
    while not (tmp_path / "waiting").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGINT)
    assert first.wait(30) != 0
    assert "snakemake" not in (tmp_path / "asked").read_text()
    (tmp_path / "asked").unlink()
    subprocess.run(["make", "-s"], cwd=tmp_path, check=True)
    asked = (tmp_path / "asked").read_text().split("\n")
    assert [line.split()[:3] for line in asked if line.startswith("uv")] == [
        ["uv", "pip", "sync"],
        ["uv", "pip", "install"],
    ]
    assert asked[-2].startswith("snakemake")
    (tmp_path / "asked").unlink()
    subprocess.run(["make", "-s"], cwd=tmp_path, check=True)
    assert (tmp_path / "asked").read_text().strip() == "snakemake"
