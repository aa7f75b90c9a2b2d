"""A job that dies of a signal: its log says of which, whoever ran it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lossatlas import warm, watch
from lossatlas.paths import LIBRARY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are not watched here")

SERVER = "from lossatlas import warm; warm.import_all = lambda: None; warm.main()"
JOB = """
import os, signal, sys, time
from types import SimpleNamespace
from lossatlas.entry import job
scripts = os.environ["PYTHONPATH"]
given = SimpleNamespace(scriptdir=scripts, threads=1, output=[], resources={}, log=["log"])
with job(given):
    print("working", end=os.environ.get("END", "\\n"), flush=True)
    BODY
"""


def until(happens: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(params=["warm", "alone"])
def variables(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What a job's environment says of the warm process; there is one, or there may be none."""
    known = {**os.environ, "PYTHONPATH": str(LIBRARY.parent)}
    if request.param == "alone":
        yield {**known, warm.VARIABLE: warm.OFF}
        return
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        place = Path(folder) / f"{os.getpid()}-1"
        command = [sys.executable, "-c", SERVER, str(place)]
        with subprocess.Popen(command, env=known) as process:
            until(place.exists)
            yield {**known, warm.VARIABLE: str(place)}
            process.kill()


def start(folder: Path, body: str, variables: dict[str, str], **more: str) -> subprocess.Popen:
    script = folder / "job.py"
    script.write_text(JOB.replace("BODY", body))
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=folder,
        env={**variables, **more},
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("SIGSEGV", "a fault in a compiled library"),
        ("SIGABRT", "a fault in a compiled library"),
        ("SIGKILL", "probably for its memory"),
        ("SIGXCPU", "its limit of processor time"),
    ],
)
def test_log_names_the_signal(
    tmp_path: Path, variables: dict[str, str], name: str, says: str
) -> None:
    body = f"os.kill(os.getpid(), signal.{name})"
    job = start(tmp_path, body, variables, END="")
    complaints = job.communicate(timeout=60)[1]
    log = (tmp_path / "log").read_text()
    last = log.splitlines()[-1]
    assert log.startswith("working")
    assert log.endswith("\n")
    assert last.startswith(f"lossatlas: killed by {name}: {says}")
    assert complaints == last + "\n"
    assert job.returncode == -getattr(signal, name)
    assert ("job.py" in log) is (name in ("SIGSEGV", "SIGABRT"))  # where it was


def test_ended_from_outside_is_no_fault(tmp_path: Path, variables: dict[str, str]) -> None:
    job = start(tmp_path, "time.sleep(60)", variables)
    log = tmp_path / "log"
    until(lambda: log.exists() and log.read_text())
    job.terminate()
    job.communicate(timeout=60)
    assert job.returncode == -signal.SIGTERM
    assert log.read_text().splitlines()[-1].startswith("lossatlas: interrupted; ended by SIGTERM")


WARNED = """told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    print(os.getpid(), flush=True)
    while not told:
        time.sleep(0.05)
    time.sleep(0.5)
    print("told", len(told))
    sys.exit(75)
"""


def test_a_warning_reaches_the_work_once(tmp_path: Path, variables: dict[str, str]) -> None:
    job = start(tmp_path, WARNED, variables)
    log = tmp_path / "log"
    until(lambda: log.exists() and log.read_text().count("\n") == 2)
    os.killpg(job.pid, signal.SIGTERM)
    job.communicate(timeout=60)
    assert job.returncode == 75
    assert log.read_text().splitlines()[-1] == "told 1"


def test_work_stops_goes_on_and_dies_with_its_watcher(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    job = start(tmp_path, "print(os.getpid(), flush=True); time.sleep(60)", variables)
    log = tmp_path / "log"
    until(lambda: log.exists() and log.read_text().count("\n") == 2)
    work = int(log.read_text().split()[1])

    def state() -> str:
        return Path(f"/proc/{work}/stat").read_text().rpartition(")")[2].split()[0]

    if variables[warm.VARIABLE] == warm.OFF:
        job.send_signal(signal.SIGTSTP)
        until(lambda: state() == "T")
        job.send_signal(signal.SIGCONT)
        until(lambda: state() != "T")
    job.kill()
    job.communicate(timeout=60)
    until(lambda: not Path(f"/proc/{work}").exists() or state() == "Z")


def test_signals_without_a_name() -> None:
    assert watch.line(40) == "lossatlas: killed by signal 40"
