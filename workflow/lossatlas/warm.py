"""A process that has imported everything once, and forks for each short job of this machine.

Importing torch takes seconds, which is most of a short job. So the first job of a run starts one
process that imports what jobs need and then waits at a socket. Later jobs give it their script and
their terminal, and get back how the script ended. A job never waits for it: while it is not there
yet, or where it can't be (another operating system, more than one thread), a job runs by itself.

A job and its fork live and die together: the fork ends when the job's connection does, signals
are passed on, and the job ends as its fork ended. If the process dies, or cannot fork, its jobs run
by themselves. It leaves with Snakemake. It has one thread and never touches a GPU, so that a fork
of it is a process like any other.

The socket's place stands in an environment variable, which only Snakemake's main process sets.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lossatlas import fingerprint, private, watch
from lossatlas.errors import UserError
from lossatlas.watch import PASSED_ON

VARIABLE = "LOSSATLAS_WARM"
OFF = "off"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
IMPORTS = (
    "snakemake.logging",
    "snakemake.iocontainers",
    "lossatlas.training.job",
    "lossatlas.figures.draw",
)
LOOK = 1.0  # seconds between looks at whether Snakemake is still there
PATIENCE = 5.0  # seconds for a job to say what it wants
LONGEST = 100  # characters of a socket's path, on every system


def invite(*, here: bool) -> None:
    """Tell the jobs that this process starts where to find a warm process; called by Snakemake's.

    Args:
        here: Jobs run on this machine, as children of this process.
    """
    if os.environ.get(VARIABLE) == OFF:
        return
    os.environ.pop(VARIABLE, None)
    if here and sys.platform == "linux":
        with contextlib.suppress(OSError, UserError):  # a full disk, another user's folder
            folder = Path(tempfile.gettempdir()) / f"lossatlas-warm-{os.getuid()}"
            private.make(folder)
            place = str(folder / f"{os.getpid()}-{time.monotonic_ns()}")
            if len(place) <= LONGEST:
                os.environ[VARIABLE] = place


def hand_over(threads: int, log: str = "") -> None:
    """Let the warm process run this script, and end as it ends; return if there is none left.

    Args:
        threads: Threads that the job may use.
        log: Of the job; it tells of a signal that the script died of.

    Raises:
        SystemExit: With the script's exit code.
    """
    place = os.environ.pop(VARIABLE, "")
    if not place or place == OFF or threads != 1 or not private.ours(Path(place).parent):
        return
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(place)
    except OSError:
        connection.close()
        _start(place)
        return
    if not private.same_user(connection):  # it would get this job's variables
        connection.close()
        return
    before = {number: signal.getsignal(number) for number in PASSED_ON}
    told = []

    def pass_on(number: int, _frame: object) -> None:
        told.append(number)
        with contextlib.suppress(OSError):  # the fork has just ended
            connection.send(bytes([number]))

    for one in PASSED_ON:
        signal.signal(one, pass_on)
    ignored = [int(one) for one, handler in before.items() if handler is signal.SIG_IGN]
    answer = _ask(connection, ignored)
    if answer:
        watch.end(int(answer), log)
    for one, handler in before.items():  # the fork is dead, too: it held the connection
        signal.signal(one, handler)
    for number in told:
        os.kill(os.getpid(), number)


def _ask(connection: socket.socket, ignored: list[int]) -> bytes:
    """Have this script run in a fork, and return how it ended; nothing if nobody can tell."""
    place = {"script": sys.argv[0], "cwd": os.getcwd(), "environment": dict(os.environ)}
    said = {**place, "ignored": ignored}
    ends = array.array("i", [0, 1, 2])
    sys.stdout.flush()
    sys.stderr.flush()
    with connection, contextlib.suppress(OSError):
        connection.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ends)])
        connection.sendall(json.dumps(said).encode() + b"\n")
        with _woken_by_signals() as waking:
            both = [connection.fileno(), waking]
            while both[0] not in select.select(both, [], [])[0]:
                os.read(waking, 64)  # the signal's handler runs before the next look
            return connection.recv(16)
    return b""


@contextlib.contextmanager
def _woken_by_signals() -> Iterator[int]:
    """Give a file that can be read after a signal: one just before a wait would go unheard."""
    waking, woken = os.pipe()
    os.set_blocking(woken, False)
    before = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    try:
        yield waking
    finally:
        signal.set_wakeup_fd(before)
        os.close(waking)
        os.close(woken)


def _start(place: str) -> None:
    """Start the warm process, unless another job has."""
    try:
        os.close(os.open(f"{place}.started", os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return
    command = [sys.executable, "-m", "lossatlas.warm", place]
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    null = subprocess.DEVNULL
    subprocess.Popen(  # noqa: S603 -- our own interpreter and module
        command, env=environment, stdin=null, stdout=null, stderr=null, start_new_session=True
    )


def import_all() -> None:
    """Import what jobs need; the set-up does so too, to have it compiled once."""
    for name in IMPORTS:
        importlib.import_module(name)
    registry = importlib.import_module("lossatlas.metrics.registry")
    for metric in registry.built_in().values():
        for name in registry.imports(metric):
            importlib.import_module(name)


@dataclass(frozen=True)
class _Job:
    """What a job says, its terminal, the way to it, and the process that forks for it."""

    said: dict[str, Any]
    ends: list[int]
    connection: socket.socket
    server: int

    def refuse(self) -> None:
        """Let the job run by itself."""
        self.connection.close()
        for end in self.ends:
            os.close(end)


class _Server:
    """Accepts jobs and forks for each."""

    def __init__(self, place: str) -> None:
        self.place, self.snakemake = place, int(Path(place).name.partition("-")[0])
        self.jobs: dict[int, socket.socket] = {}
        self.ready = threading.Event()

    def prepare(self) -> bool:
        """Import; say whether forks are safe: no thread but this one, and no source changed."""
        watcher = threading.Thread(target=self._leave_with_snakemake, daemon=True)
        watcher.start()
        sources = fingerprint.Sources.read()
        import_all()
        self.ready.set()
        if fingerprint.Sources.read().digest != sources.digest:
            return False
        fingerprint.remember(sources)  # forks check that this is the code of their job
        end = time.monotonic() + PATIENCE
        while len(os.listdir("/proc/self/task")) > 1:  # the watcher takes a moment to end
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def _leave_with_snakemake(self) -> None:
        while not self.ready.wait(LOOK):
            if not self._wanted():
                self._clean()
                os._exit(0)

    def _wanted(self) -> bool:
        try:
            os.kill(self.snakemake, 0)
        except ProcessLookupError:
            return False
        return True

    def serve(self) -> str | None:
        """Fork for each job until Snakemake is gone; in a fork, return the script to run."""
        woken, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(self.place)
            door.listen(128)
            while self.jobs or self._wanted():
                ready = select.select([door.fileno(), woken], [], [], LOOK)[0]
                if woken in ready:
                    os.read(woken, 1024)
                    self._report()
                job = _hear(door) if door.fileno() in ready else None
                if job is None:
                    continue
                try:
                    process = os.fork()
                except OSError:  # no memory or no process is left
                    job.refuse()
                    continue
                if not process:
                    signal.set_wakeup_fd(-1)
                    os.close(woken)
                    os.close(waker)
                    for other in self.jobs.values():
                        other.close()
                    break
                self.jobs[process] = job.connection
                for end in job.ends:
                    os.close(end)
            else:
                self._clean()
                return None
        return _become(job)

    def _report(self) -> None:
        """Tell the jobs whose forks have ended."""
        while self.jobs:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            with self.jobs.pop(process) as connection, contextlib.suppress(OSError):
                connection.send(str(os.waitstatus_to_exitcode(status)).encode())

    def _clean(self) -> None:
        """Remove what stands in the folder of sockets."""
        for path in (self.place, f"{self.place}.started"):
            with contextlib.suppress(OSError):
                os.unlink(path)


def _become(job: _Job) -> str:
    """Turn this fork into the job and return its script."""
    watch.by_another()
    watch.die_with_parent(job.server)
    for number in (*PASSED_ON, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in job.said["ignored"]:  # by whoever started the job, as `nohup` does
        signal.signal(number, signal.SIG_IGN)
    for end, place in zip(job.ends, (0, 1, 2), strict=True):
        os.dup2(end, place)
        os.close(end)
    os.chdir(job.said["cwd"])
    os.environ.clear()
    os.environ.update(job.said["environment"])
    threading.Thread(target=_live_with, args=(job.connection,), daemon=True).start()
    return str(job.said["script"])


def _hear(door: socket.socket) -> _Job | None:
    """Receive what a job wants and its three ends of the terminal; None if it has gone."""
    size, text = array.array("i").itemsize, b""
    ends = array.array("i")
    try:
        connection, _ = door.accept()
        if not private.same_user(connection):  # it could have anything run
            connection.close()
            return None
        connection.settimeout(PATIENCE)
        _, extra, _, _ = connection.recvmsg(1, socket.CMSG_LEN(3 * size))
        for _level, _kind, content in extra:
            ends.frombytes(content)
        while not text.endswith(b"\n"):
            if not (part := connection.recv(1 << 16)):
                raise ConnectionError
            text += part
    except OSError:
        for end in ends:
            os.close(end)
        return None
    connection.settimeout(None)
    return _Job(json.loads(text), list(ends), connection, os.getpid())


def _live_with(connection: socket.socket) -> None:
    """Pass the job's signals on to this process, and die when the job has died."""
    while number := connection.recv(1):
        os.kill(os.getpid(), number[0])
    os.kill(os.getpid(), signal.SIGKILL)


def _run(script: str) -> NoReturn:
    """Run the script and leave at once: an interpreter that tidies up would copy all it shares."""
    sys.argv = [script]
    sys.path[0] = str(Path(script).parent)
    code: object = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # noqa: BLE001 -- as an interpreter does
        traceback.print_exc()
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()  # noqa: SLF001 -- what an interpreter calls
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code or 0)


def main() -> None:
    """Serve at the place named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = _Server(sys.argv[1])
    if not private.ours(Path(sys.argv[1]).parent):
        return
    if not server.prepare():
        return
    gc.freeze()  # forks share what is here, as long as nobody writes to it
    script = server.serve()
    if script is not None:
        _run(script)


if __name__ == "__main__":
    main()
