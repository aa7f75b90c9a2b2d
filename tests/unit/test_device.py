"""The device and what is set with it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from lossatlas import device
if {chosen}:
    device.choose()
def work():
    held = [torch.ones(2**20) for _ in range(16)]  # 64 MiB
    del held
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(*, chosen: bool) -> int:
    command = [sys.executable, "-c", FAULTS.format(chosen=chosen)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_freed_memory_stays_with_a_process_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSATLAS_DEVICE", "cpu")
    kept, returned = _faults(chosen=True), _faults(chosen=False)
    assert kept < 1.1 * returned + 1_000
    if platform.libc_ver()[0] == "glibc":  # others have no say in it
        assert kept < 10_000, "80 tensors have 81,920 pages"
