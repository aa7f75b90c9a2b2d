"""The warm process: jobs that it forks are processes like any other."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lossatlas import warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no warm process here")

# A warm process that imports nothing first, so that the tests are quick.
SERVER = "from lossatlas import warm; warm.import_all = lambda: None; warm.main()"
# A job, as `entry.job` makes it: all after the line about handing over runs in the fork.
JOB = """
import os, sys, time
from lossatlas import warm
warm.hand_over({threads})
{body}
"""


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        yield Path(folder) / f"{os.getpid()}-1"


@pytest.fixture
def server(place):
    command = [sys.executable, "-c", SERVER, str(place)]
    with subprocess.Popen(command) as process:
        _until(place.exists)
        yield process
        process.kill()


def _until(happens, seconds=60):
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


def _start(tmp_path, place, body, threads=1, **variables):
    script = tmp_path / "job.py"
    script.write_text(JOB.format(threads=threads, body=body))
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, warm.VARIABLE: str(place), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


PARENT = "print(os.getppid(), os.getcwd(), os.environ.get('WORD'), sys.argv[0])"


def test_job_runs_in_a_fork_with_its_own_folder_variables_and_terminal(tmp_path, place, server):
    job = _start(tmp_path, place, PARENT + "; print('oh', file=sys.stderr)", WORD="yes")
    printed, complaints = job.communicate(timeout=60)
    expected = [str(server.pid), str(tmp_path), "yes", str(tmp_path / "job.py")]
    assert printed.split() == expected
    assert (complaints, job.returncode) == ("oh\n", 0)


def test_warm_process_is_told_of_once(tmp_path, place, server):
    job = _start(tmp_path, place, f"print(os.environ.get({warm.VARIABLE!r}))")
    assert job.communicate(timeout=60)[0] == "None\n"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("sys.exit(75)", 75),
        ("sys.exit()", 0),
        ("sys.exit('no')", 1),
        ("raise ValueError('no')", 1),
        ("os.kill(os.getpid(), 9)", -9),
        ("os.abort()", -signal.SIGABRT),
    ],
)
def test_job_ends_as_its_fork_ends(tmp_path, place, server, body, code):
    job = _start(tmp_path, place, body)
    _, complaints = job.communicate(timeout=60)
    assert job.returncode == code
    assert (complaints.endswith("no\n")) == (code == 1)


def test_what_was_printed_last_is_printed_and_exit_functions_run(tmp_path, place, server):
    body = "import atexit; atexit.register(print, 'left'); sys.stdout.write('unfinished ')"
    job = _start(tmp_path, place, body)
    assert job.communicate(timeout=60) == ("unfinished left\n", "")


def test_signals_reach_the_fork(tmp_path, place, server):
    body = """
import signal
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))
print("listening", flush=True)
while True:  # a signal just before a long sleep would be heard after it
    time.sleep(0.1)
"""
    job = _start(tmp_path, place, body)
    assert job.stdout.readline() == "listening\n"
    job.send_signal(signal.SIGUSR1)
    job.communicate(timeout=30)
    assert job.returncode == 7


def _alive(process):
    return Path(f"/proc/{process}").exists()


def test_fork_dies_with_its_job(tmp_path, place, server):
    job = _start(tmp_path, place, "print(os.getpid(), flush=True); time.sleep(60)")
    fork = int(job.stdout.readline())
    assert fork != job.pid
    job.kill()
    job.communicate(timeout=30)
    _until(lambda: not _alive(fork))


TWICE = """
first = not os.path.exists("begun")
open("begun", "w").close()
print(os.getpid(), flush=True)
if first:
    time.sleep(60)
"""


def test_job_runs_by_itself_when_the_warm_process_dies(tmp_path, place, server):
    job = _start(tmp_path, place, TWICE)
    fork = int(job.stdout.readline())
    server.kill()
    printed, complaints = job.communicate(timeout=30)
    assert (int(printed), complaints, job.returncode) == (job.pid, "", 0)
    server.wait(30)
    _until(lambda: not _alive(fork))


def test_a_warning_is_not_lost_with_the_warm_process(tmp_path, place, server):
    """The fork has no time to obey: the job, which is then alone, is told once more."""
    job = _start(tmp_path, place, "import signal\nsignal.signal(15, signal.SIG_IGN)\n" + TWICE)
    job.stdout.readline()
    job.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    server.kill()
    assert job.communicate(timeout=30)[0] == ""
    assert job.returncode == -signal.SIGTERM


def test_job_runs_by_itself_when_there_is_no_fork(tmp_path, place):
    poor = "import os\ndef fork(): raise OSError(12, 'Cannot allocate memory')\nos.fork = fork\n"
    with subprocess.Popen([sys.executable, "-c", poor + SERVER, str(place)]) as server:
        _until(place.exists)
        for _ in range(2):
            job = _start(tmp_path, place, "print(os.getpid())")
            assert int(job.communicate(timeout=60)[0]) == job.pid
        server.kill()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_signals_that_a_job_ignores_its_fork_ignores(tmp_path, place, server, number):
    """`nohup snakemake &`, and a closed terminal; Snakemake itself has its jobs ignore SIGUSR1."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        job = _start(tmp_path, place, "print(os.getppid(), flush=True); time.sleep(0.5); print(1)")
    finally:
        signal.signal(number, before)
    assert int(job.stdout.readline()) == server.pid
    job.send_signal(number)
    assert (job.communicate(timeout=60)[0], job.returncode) == ("1\n", 0)


def test_jobs_run_side_by_side(tmp_path, place, server):
    meet = """
open(f"{os.getpid()}.here", "w").close()
while sum(name.endswith(".here") for name in os.listdir()) < 3:
    time.sleep(0.02)
"""
    jobs = [_start(tmp_path, place, meet) for _ in range(3)]
    for job in jobs:
        job.communicate(timeout=60)
    assert [job.returncode for job in jobs] == [0, 0, 0]


def test_more_threads_than_one_run_by_themselves(tmp_path, place, server):
    job = _start(tmp_path, place, "print(os.getpid())", threads=2)
    assert int(job.communicate(timeout=60)[0]) == job.pid


def test_first_job_runs_by_itself_and_starts_one(tmp_path, place, monkeypatch):
    started = []
    monkeypatch.setenv(warm.VARIABLE, str(place))
    monkeypatch.setattr(warm.subprocess, "Popen", lambda command, **_: started.append(command))
    warm.hand_over(1)
    monkeypatch.setenv(warm.VARIABLE, str(place))
    warm.hand_over(1)  # another job, while the process imports
    assert started == [[sys.executable, "-m", "lossatlas.warm", str(place)]]


def test_it_leaves_with_snakemake_and_cleans_up(place):
    folder = place.parent
    with subprocess.Popen(["sleep", "60"]) as snakemake:
        place = folder / f"{snakemake.pid}-1"
        with subprocess.Popen([sys.executable, "-c", SERVER, str(place)]) as server:
            _until(place.exists)
            snakemake.kill()
            snakemake.wait()
            server.wait(30)
    assert list(folder.iterdir()) == []


def test_nobody_is_invited_where_temporary_files_have_no_place(monkeypatch):
    def full() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.delenv(warm.VARIABLE, raising=False)
    monkeypatch.setattr(warm.tempfile, "gettempdir", full)
    warm.invite(here=True)
    assert warm.VARIABLE not in os.environ


def test_only_a_run_on_this_machine_invites(monkeypatch):
    monkeypatch.delenv(warm.VARIABLE, raising=False)
    warm.invite(here=True)
    assert Path(os.environ[warm.VARIABLE]).name.startswith(f"{os.getpid()}-")
    warm.invite(here=False)
    assert warm.VARIABLE not in os.environ


def test_it_can_be_switched_off(monkeypatch, tmp_path):
    monkeypatch.setenv(warm.VARIABLE, warm.OFF)
    warm.invite(here=True)
    assert os.environ[warm.VARIABLE] == warm.OFF
    warm.hand_over(1)  # returns: the job runs by itself
