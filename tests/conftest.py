"""Shared settings: one thread per test process, so that tests run side by side."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
# What a shell without job control starts in the background ignores Ctrl-C, and so would all that
# tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

import lossatlas  # noqa: E402, F401 -- sets MKL_CBWR before a test calls torch
