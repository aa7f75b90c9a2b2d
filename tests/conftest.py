"""Shared settings: one thread per test process, so that tests run side by side."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
# What a shell without job control starts in the background ignores Ctrl-C, and so would all that
# tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

import lossatlas  # noqa: E402, F401 -- sets MKL_CBWR before a test calls torch


@pytest.fixture(autouse=True)
def own_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget modules that a test imported from its folder: another test has its own `mynet`."""
    yield
    base = os.path.join(str(tmp_path_factory.getbasetemp()), "")
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(base):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if not entry.startswith(base)]
