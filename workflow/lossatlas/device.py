"""The device, chosen once per process, and how exact its arithmetic is."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from lossatlas import __version__
from lossatlas.errors import UserError


@cache
def choose() -> torch.device:
    """Return the device: $LOSSATLAS_DEVICE, or a GPU if there is one, or the CPU.

    TF32 is switched off, and cuDNN is held to deterministic algorithms: curvature and resumed
    training need both.

    Raises:
        UserError: If the device that is asked for is not there.
    """
    wanted = os.environ.get("LOSSATLAS_DEVICE", "")
    fallback = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted or fallback)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        fix = f"unset it to use '{fallback}'"
        raise UserError(f"'{wanted}': {reason}", where="LOSSATLAS_DEVICE", fix=fix) from None
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return device


def set_threads(threads: int) -> None:
    """Use this many CPU threads in this process."""
    torch.set_num_threads(max(1, threads))


def provenance(**more: Any) -> dict[str, Any]:
    """Return what a result depends on besides its spec: versions, device, number type."""
    device = choose()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    versions = {"lossatlas": __version__, "torch": torch.__version__}
    versions["python"] = platform.python_version()
    return {"versions": versions, "device": name, "dtype": "float32", **more}


@contextmanager
def timed(times: dict[str, Any]) -> Iterator[None]:
    """Fill `times` with when the block started, how long it took, and where it ran."""
    started, clock = time.time(), time.perf_counter()
    yield
    times["started"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
    times["seconds"] = time.perf_counter() - clock
    times["host"] = platform.node()
    if torch.cuda.is_available():
        times["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
