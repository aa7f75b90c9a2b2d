"""Shared settings: one thread per test process, so that tests run side by side."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import lossatlas  # noqa: F401 -- sets MKL_CBWR before a test calls torch
