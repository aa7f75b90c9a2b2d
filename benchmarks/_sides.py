"""The two sides of a comparison, each in a process of its own, as its users run it.

Our jobs set how the C library keeps memory (`lossatlas.device`), which would make the other side
faster, too, if it ran in the same process.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Self

import torch

from lossatlas import device


class Side:
    """A process forked from this one, that does its work when it is asked to.

    Args:
        work: Called with whatever `run` is given; its result must be picklable.
        ours: Prepare the process as our jobs do.
    """

    def __init__(self, work: Callable[..., Any], *, ours: bool) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=_serve, args=(end, work, ours))
        self.process.start()
        end.close()

    def run(self, *arguments: Any) -> tuple[float, Any]:
        """Return seconds and the result: of the processors, children included, if one thread works.

        Raises:
            RuntimeError: If the work fails, with its traceback.
        """
        self.pipe.send(arguments)
        seconds, result, failure = self.pipe.recv()
        if failure:
            raise RuntimeError(failure)
        return seconds, result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.pipe.send(None)
        self.process.join()


def _serve(pipe: Connection, work: Callable[..., Any], ours: bool) -> None:
    if ours:
        device.choose()
    clock = _processor if torch.get_num_threads() == 1 else time.perf_counter
    while (arguments := pipe.recv()) is not None:
        started = clock()
        try:
            result, failure = work(*arguments), ""
        except Exception:  # noqa: BLE001 -- it is told in the other process
            result, failure = None, traceback.format_exc()
        pipe.send((clock() - started, result, failure))


def _processor() -> float:
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + workers.ru_utime + workers.ru_stime
