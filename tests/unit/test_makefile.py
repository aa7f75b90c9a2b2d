"""`make` that is cut off at any moment of the set-up: the same command does it, and then the work.

The environment and pip are real; `uv` is a program of ours that is installed from a wheel, notes
what it was asked, makes what it would install, and waits to be killed when a test wants it to.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lossatlas.paths import PROJECT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here"),
]

UV = """#!/bin/sh
here=$(dirname "$0")
pause() {
    if [ -e "slow-$1" ]; then rm "slow-$1"; touch "$here/../half" waiting; exec sleep 60; fi
}
echo "uv $2" $(for word; do case $word in *.lock | --editable) echo "$word" ;; esac; done) >> asked
case "$*" in
"pip sync"*)
    pause sync
    printf '#!/bin/sh\\necho snakemake >> asked\\nexit $(cat status)\\n' > "$here/snakemake"
    chmod +x "$here/snakemake" ;;
*--editable*)
    pause editable
    for packages in "$here"/../lib/python*/site-packages; do
        mkdir -p "$packages/lossatlas"
        touch "$packages/lossatlas/__init__.py"
        cp warm.py "$packages/lossatlas/warm.py"
        echo "$PWD/workflow" > "$packages/__editable__.lossatlas-0.pth"
    done ;;
*) pause dev ;;
esac
"""
WARM = """import os, pathlib, time
def import_all():
    if os.path.exists("slow-compile"):
        os.unlink("slow-compile")
        pathlib.Path(".venv/half").touch()
        pathlib.Path("waiting").touch()
        time.sleep(60)
    with open("asked", "a") as asked:
        print("compiled", file=asked)
"""
SET_UP = ["uv sync requirements.lock", "uv install --editable", "compiled"]
DEV = ["uv install requirements-dev.lock"]


def wheel(folder: Path) -> str:
    """Make a wheel of our `uv`, of many files to be cut off between, and return its lock file."""
    name = "uv-1-py3-none-any.whl"
    files = {f"uv/{number}.txt": "" for number in range(300)}
    files["uv-1.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: uv\nVersion: 1\n"
    files["uv-1.dist-info/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files["uv-1.data/scripts/uv"] = UV
    record = [f"{file},," for file in (*files, "uv-1.dist-info/RECORD")]
    files["uv-1.dist-info/RECORD"] = "\n".join(record) + "\n"
    with zipfile.ZipFile(folder / name, "w") as archive:
        for file, text in files.items():
            entry = zipfile.ZipInfo(file)
            entry.external_attr = (0o100755 if "scripts" in file else 0o100644) << 16
            archive.writestr(entry, text)
    return f"uv==1 --hash=sha256:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n"


class Copy:
    """A folder with the Makefile and what it needs."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked = root, root / "asked"
        (root / "envs").mkdir()
        shutil.copy2(PROJECT / "Makefile", root)
        (root / "envs/bootstrap.lock").write_text(wheel(root))
        (root / "requirements.lock").touch()
        (root / "requirements-dev.lock").touch()
        (root / "warm.py").write_text(WARM)
        (root / "status").write_text("0")

    def start(self, *targets: str) -> subprocess.Popen:
        local = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.root), "PIP_NO_CACHE_DIR": "1"}
        return subprocess.Popen(
            ["make", "-s", f"PYTHON={sys.executable}", *targets],
            cwd=self.root,
            env={**os.environ, **local},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def make(self, *targets: str, code: int = 0) -> str:
        """Run to the end, and return what is printed."""
        run = self.start(*targets)
        printed = run.communicate(timeout=300)[0]
        assert run.returncode == code, printed
        return printed

    def cut(self, number: int, happens: Callable[[], object], *targets: str) -> None:
        """Send everything a signal as soon as something happens."""
        run = self.start(*targets)
        end = time.monotonic() + 300
        while not happens():
            assert run.poll() is None, run.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.002)
        os.killpg(run.pid, number)
        printed = run.communicate(timeout=60)[0]
        assert run.returncode != 0, printed
        assert "snakemake" not in self.said()

    def slow(self, number: int, stage: str, *targets: str) -> None:
        """Cut off one stage of the set-up."""
        (self.root / f"slow-{stage}").touch()
        waiting = self.root / "waiting"
        self.cut(number, waiting.exists, *targets)
        waiting.unlink()
        assert (self.root / ".venv/half").exists()

    def said(self) -> list[str]:
        """Return what was asked of programs since the last call."""
        lines = self.asked.read_text().splitlines() if self.asked.exists() else []
        self.asked.unlink(missing_ok=True)
        return lines


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def exists(copy: Copy, pattern: str) -> Callable[[], object]:
    def found() -> Path | None:
        try:
            return next(copy.root.glob(pattern), None)
        except FileNotFoundError:  # a folder that `make` takes away meanwhile
            return None

    return found


def test_killed_at_every_stage(copy: Copy) -> None:
    packages, number = ".venv/lib/python*/site-packages", signal.SIGKILL
    for begun in (".venv/bin/python", f"{packages}/pip", f"{packages}/uv"):
        copy.cut(number, exists(copy, begun))
    for stage in ("sync", "editable", "compile"):
        copy.slow(number, stage)
    printed = copy.make()
    assert copy.said() == [*SET_UP, "snakemake"]
    assert "The pictures are in results/figures/" in printed.splitlines()[-1]
    assert not (copy.root / ".venv/half").exists()
    copy.make()
    assert copy.said() == ["snakemake"]
    ends = {3: "make: only data are missing (exit status 3)", 1: "make: something failed"}
    for status, says in ends.items():
        (copy.root / "status").write_text(str(status))
        printed = copy.make(code=2)
        assert any(line.startswith(says) for line in printed.splitlines()), printed


def test_interrupted_then_what_tests_need_comes_with_them_and_stays(copy: Copy) -> None:
    dev = ".venv/.ready-dev"
    copy.cut(signal.SIGINT, exists(copy, ".venv/bin/python"))
    copy.slow(signal.SIGINT, "sync")
    copy.make()
    assert copy.said() == [*SET_UP, "snakemake"]
    copy.slow(signal.SIGINT, "dev", dev)
    copy.make(dev)
    assert copy.said() == [*SET_UP, *DEV]
    assert not (copy.root / ".venv/half").exists()
    copy.make(dev)
    assert copy.said() == []
    copy.make()
    assert copy.said() == ["snakemake"]
    os.utime(copy.root / "requirements.lock")
    copy.make()
    assert copy.said() == ["uv sync requirements-dev.lock", *SET_UP[1:], "snakemake"]
    copy.make(dev)
    assert copy.said() == DEV


@pytest.mark.parametrize("name", ["a b", "a'b", "a$b", "a;b", "a(b"])
def test_a_folder_whose_name_shells_read_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    copy = Copy(tmp_path / name)
    printed = copy.make(code=2)
    said = f"{copy.root}: jobs cannot start in a folder with a space or a sign of the shell"
    assert sum(said in line for line in printed.splitlines()) == 1
    assert "Traceback" not in printed
    assert not (copy.root / ".venv").exists()


def test_the_library_is_found_in_any_locale(tmp_path: Path) -> None:
    """Its path is told from the environment: it holds no letter of the folder's name."""
    (tmp_path / "t\u00e9st").mkdir()
    copy = Copy(tmp_path / "t\u00e9st")
    (copy.root / "workflow").mkdir()
    copy.make()
    (file,) = copy.root.glob(".venv/lib/python*/site-packages/__editable__.lossatlas-0.pth")
    assert file.read_bytes().isascii()
    assert (file.parent / file.read_text().strip()).resolve() == copy.root / "workflow"
    command = [str(copy.root / ".venv/bin/python"), "-c", "import sys; print(sys.path[-1])"]
    variables = {
        key: value for key, value in os.environ.items() if key not in ("LANG", "PYTHONUTF8")
    }
    done = subprocess.run(
        command, env={**variables, "LC_ALL": "C"}, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.fsdecode(done.stdout).strip().endswith("/workflow")
