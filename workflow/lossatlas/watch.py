"""A job works in a process that another one watches, which tells by what signal it died.

A process that the kernel kills for its memory, or that a fault in a compiled library takes down,
writes nothing any more. So the process that Snakemake starts only waits: for a fork of the warm
process (`warm.py`), or else for a fork of itself, made here before anything large is imported. It
passes signals on, adds a line to the job's log when the fork dies of one, and ends as it ended.
The fork dies with it. Only Linux can promise that: elsewhere a job works in its first process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

from lossatlas import attempts

PASSED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
_STOPS = (*PASSED_ON, signal.SIGTSTP, signal.SIGCONT)
_MEMORY = (
    "probably for its memory (with --retries 2 each attempt asks for more of it; fewer --cores"
    " leave more to each job)"
)
_LIBRARY = (
    "a fault in a compiled library (the log shows where it was; look at the versions in `snakemake"
    " doctor`; try LOSSATLAS_WARM=off, then ONEDNN_MAX_CPU_ISA=AVX2; report it with this log)"
)
_CAUSES = {
    signal.SIGKILL: _MEMORY,
    signal.SIGSEGV: _LIBRARY,
    signal.SIGABRT: _LIBRARY,
    signal.SIGBUS: f"{_LIBRARY}, or a file that was cut off or a disk that filled up meanwhile",
    signal.SIGILL: _LIBRARY,
    signal.SIGFPE: _LIBRARY,
    signal.SIGXCPU: "its limit of processor time (ulimit -t)",
    signal.SIGXFSZ: "its limit of a file's size (ulimit -f)",
}

_is_watched = False


def by_another() -> None:
    """Note that the process that asked for this one watches it."""
    global _is_watched
    _is_watched = True


def watched(log: str) -> None:
    """Go on in a fork that this process watches; return at once where there can be none.

    Args:
        log: Of the job; "" if it has none.

    Raises:
        SystemExit: In the process that watches, with the fork's exit code.
    """
    if _is_watched or sys.platform != "linux":
        return
    numbers = {*_STOPS, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # waited for, so none is lost
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would hide how forks end
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    try:
        fork = os.fork()
    except OSError:  # no memory or no process is left
        fork = 0
    if fork:
        end(_wait(fork, numbers), log)
    if os.getpid() != parent:
        by_another()
        os.setsid()  # a terminal's Ctrl-C reaches it once, through its parent
        die_with_parent(parent)
    signal.signal(signal.SIGCHLD, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(fork: int, numbers: set[signal.Signals]) -> int:
    """Pass signals on until the fork has ended; return how, as `subprocess` does."""
    while True:
        number = signal.sigwait(numbers)
        if number == signal.SIGCHLD:
            process, status = os.waitpid(fork, os.WNOHANG)
            if process:
                return os.waitstatus_to_exitcode(status)
        elif number == signal.SIGTSTP:  # which does nothing to a process in a session of its own
            os.kill(fork, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            os.kill(fork, number)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this fork when its parent is gone: nobody could tell of it."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # gone before it was asked
        os.kill(os.getpid(), signal.SIGKILL)


def end(code: int, log: str) -> NoReturn:
    """End as the fork of a job has ended, and tell if that was by a signal.

    Args:
        code: Exit code, or minus the number of the signal.
        log: Of the job; "" if it has none.

    Raises:
        SystemExit: With the exit code.
    """
    if code < 0:
        _tell(-code, log)
        with contextlib.suppress(OSError):  # SIGKILL has no other meaning
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
    sys.exit(code)


def line(number: int) -> str:
    """Return what a log says of a job that died of a signal."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number in PASSED_ON:
        return f"lossatlas: interrupted; ended by {name}, the same command goes on from here"
    cause = _CAUSES.get(signal.Signals(number), "") if name.startswith("SIG") else ""
    return f"lossatlas: killed by {name}{': ' * bool(cause)}{cause}"


def _tell(number: int, log: str) -> None:
    text = line(number)
    print(text, file=sys.stderr, flush=True)
    if not log:
        return
    if number == signal.SIGKILL:
        attempts.lacked(log, "memory")
    elif number in PASSED_ON:
        attempts.lacked(log, "time")
    with contextlib.suppress(OSError), open(log, "a+b") as file:
        start = file.seek(0, os.SEEK_END)
        file.seek(max(0, start - 1))
        unfinished = file.read(1) not in (b"", b"\n")
        file.write(b"\n" * unfinished + text.encode() + b"\n")
