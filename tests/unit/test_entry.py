"""How jobs end: one line and an exit code, the details in the log."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lossatlas import slots
from lossatlas.paths import LIBRARY

SCRIPT = """
import sys
from types import SimpleNamespace
from lossatlas.entry import job
given = SimpleNamespace(scriptdir=sys.argv[1], threads=2, output=[], resources={}, log=["log"])
with job(given):
    print("working")
    BODY
"""


ALONE = {key: value for key, value in os.environ.items() if key not in slots.SCHEDULERS}


def ended(folder: Path, body: str, **more: str) -> subprocess.CompletedProcess:
    code = SCRIPT.replace("BODY", body)
    variables = {**os.environ, "PYTHONPATH": str(LIBRARY.parent), **more}
    command = [sys.executable, "-c", code, str(LIBRARY.parent)]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("pass", 0, ""),
        ("import numpy; numpy.ones(1 << 46)", 1, "out of memory (with --retries 2, each"),
        ("import torch; torch.ones(1 << 46)", 1, "out of memory (with --retries 2, each"),
        ("raise MemoryError", 1, "out of memory (with --retries 2, each attempt asks for more"),
        ("raise KeyboardInterrupt", 130, "interrupted; the same command goes on from here"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero (a fault of ours: the log has"),
        (
            "from lossatlas.errors import UserError; raise UserError('no', where='x', fix='do')",
            1,
            "x: no (do)",
        ),
        (
            "from lossatlas.training.state import Preempted; raise Preempted",
            75,
            "told to leave; state saved, run the same command again to go on",
        ),
    ],
)
def test_ends(tmp_path: Path, body: str, code: int, says: str) -> None:
    done = ended(tmp_path, body)
    assert done.returncode == code, done.stderr
    log = (tmp_path / "log").read_text()
    assert log.startswith("working\n")
    assert done.stderr.count("\n") == (1 if says else 0)
    if says:
        assert done.stderr.startswith(f"lossatlas: {says}")
        assert f"lossatlas: {says}" in log
    faulty = "a fault of ours" in says or "out of memory" in says
    assert ("Traceback" in log) is faulty


LIMITED = """import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, 1 << 40))
    for line in range(50):
        print("a line", line)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 40))
    print("goes on:", chr(954), chr(0xdcc3))
"""


def test_a_log_that_is_full_costs_its_lines(tmp_path: Path) -> None:
    ascii_only = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = ended(tmp_path, LIMITED, **ascii_only)
    assert (done.stderr, done.returncode) == ("", 0)
    log = (tmp_path / "log").read_text("utf-8")
    assert log.startswith("working\na line 0\n")
    assert log.endswith("goes on: κ \\udcc3\n")


def test_a_log_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    done = ended(tmp_path, "pass")
    assert done.returncode == 1
    assert done.stderr.startswith("lossatlas: log: cannot be written: Is a directory (")
    assert done.stderr.count("\n") == 1


def test_no_room_for_the_locks_of_gpus_is_one_line(tmp_path: Path) -> None:
    code = SCRIPT.replace("resources={}", "resources={'gpu': 1, 'runs_per_gpu': 2}")
    (tmp_path / "tmp").mkdir()
    folder = tmp_path / "tmp" / f"lossatlas-gpus-{os.getuid()}"
    folder.write_text("")
    variables = {"TMPDIR": str(folder.parent), "CUDA_VISIBLE_DEVICES": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code.replace("BODY", "pass"), str(LIBRARY.parent)],
        cwd=tmp_path,
        env={**ALONE, "PYTHONPATH": str(LIBRARY.parent), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"lossatlas: {folder}: is no folder (")
    assert done.stderr.count("\n") == 1


def test_files_beside_the_users_models_take_no_other_modules_place(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "script.py"
    script.write_text(SCRIPT.replace("BODY", "import mynet, yaml, h5py, random; print(mynet.X)"))
    (tmp_path / "mynet.py").write_text("X = 'found'\n")
    for name in ("yaml", "random", "h5py"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not named by any config')\n")
    done = subprocess.run(
        [sys.executable, str(script), str(LIBRARY.parent)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(LIBRARY.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text() == "working\nfound\n"
