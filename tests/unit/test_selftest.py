"""The self-test sees planted faults, each in its child process, and the doctor says what to do."""

import faulthandler
import os
import signal
import time

import pytest
import torch
from torch import nn

from lossatlas import doctor, selftest


def planted(monkeypatch: pytest.MonkeyPatch, change) -> None:
    """Let each layer's result, or what it does meanwhile, be changed."""

    def spoil(layer: nn.Module) -> None:
        forward = layer.forward
        layer.forward = lambda x: change(forward(x))

    monkeypatch.setattr(selftest, "avoid_faults", spoil)
    monkeypatch.setattr(selftest, "SHAPES", ((12, 24, 3, 1, 8, 4),))


def killed(result: torch.Tensor) -> None:
    faulthandler.disable()  # of the child: it would print the stack
    os.kill(os.getpid(), signal.SIGSEGV)


def test_nothing_is_wrong() -> None:
    assert selftest.run() == ""
    assert doctor.arithmetic().level == "ok"


def test_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, killed)
    check = doctor.arithmetic()
    assert check.level == "problem"
    assert "end the process (SIGSEGV)" in check.what
    assert "ONEDNN_MAX_CPU_ISA" in check.fix


def test_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda y: time.sleep(60))
    assert selftest.run(0.5) == "no answer after 0.5 s"


def test_wrong_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda y: y * 1.001 if y.dtype == torch.float32 else y)
    assert "kernel 3, stride 1, 8 pixels, 4 images: result is wrong by 1.0e-03" in selftest.run()


def test_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda y: y * float("nan") if y.dtype == torch.float32 else y)
    assert "result is wrong by nan" in selftest.run()


def test_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))
    planted(monkeypatch, lambda y: y * (1 + 1e-6 * next(calls)))
    assert "result differs from run to run" in selftest.run()
