"""Runs a function on many arguments, each in a forked process: crashes and hangs stay there."""

import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Child:
    """A process at work on one argument; its answer comes through a pipe."""

    argument: Any
    pid: int
    end: float
    answer: bytearray = field(default_factory=bytearray)


def each(
    function: Callable[[Any], Any], arguments: Iterable[Any], seconds: float, workers: int = 1
) -> Iterator[tuple[Any, Any]]:
    """Yield (argument, what the function returned, or a text that says how it failed).

    Args:
        function: What it returns must be JSON; a text counts as a failure.
        arguments: One process for each.
        seconds: That each may take.
        workers: Processes at the same time.

    The caller must not have run anything on several threads: their pool does not survive a fork.
    """
    waiting, children = iter(arguments), selectors.DefaultSelector()
    more = True
    while more or children.get_map():
        while more and len(children.get_map()) < workers:
            argument = next(waiting, None)
            more = argument is not None
            if more:
                pipe, child = _start(function, argument, seconds)
                children.register(pipe, selectors.EVENT_READ, child)
        for key, _ in children.select(0.2):
            if data := os.read(key.fd, 1 << 16):
                key.data.answer += data
            else:
                children.unregister(key.fd)
                os.close(key.fd)
                yield key.data.argument, _outcome(key.data)
        for key in list(children.get_map().values()):
            if time.monotonic() > key.data.end:
                os.kill(key.data.pid, signal.SIGKILL)
                children.unregister(key.fd)
                os.close(key.fd)
                os.waitpid(key.data.pid, 0)
                yield key.data.argument, f"no answer after {seconds:.0f} s"


def _start(function: Callable[[Any], Any], argument: Any, seconds: float) -> tuple[int, Child]:
    sys.stdout.flush()
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return ours, Child(argument, pid, time.monotonic() + seconds)
    try:
        os.close(ours)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the C library says of broken memory
        try:
            answer = function(argument)
        except Exception:  # noqa: BLE001 -- told to the caller
            answer = traceback.format_exc()
        with os.fdopen(theirs, "w") as pipe:
            json.dump(answer, pipe)
    finally:
        os._exit(0)


def _outcome(child: Child) -> Any:
    _, status = os.waitpid(child.pid, 0)
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return json.loads(child.answer) if child.answer else "ended without an answer"
