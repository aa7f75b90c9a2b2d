"""The device, chosen once per process, and how exact its arithmetic is."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from typing import Any

import torch

from lossatlas import __version__
from lossatlas.errors import UserError

CODE_PATH = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@cache
def choose() -> torch.device:
    """Return the device: $LOSSATLAS_DEVICE, or a GPU if there is one, or the CPU.

    TF32 is switched off, and cuDNN is held to deterministic algorithms: curvature and resumed
    training need both. On the CPU, memory that is freed stays with the process.

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
    if device.type == "cpu":
        _keep_memory()
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return device


def _keep_memory() -> None:
    """Let what is freed stay with the process, where the C library is GNU's.

    Else it may go back to the system and come back as new pages, a fault for each 4 KiB of every
    activation: 1.3 times as slow for ResNet18 of width 8 on 32 x 32 images, and 1.0 to 1.1 where
    the C library has met larger tensors, after which it keeps more by itself.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def set_threads(threads: int) -> None:
    """Use this many CPU threads in this process."""
    torch.set_num_threads(max(1, threads))


def provenance(**more: Any) -> dict[str, Any]:
    """Return what a result depends on besides its spec: versions, device, dtype, code path."""
    device = choose()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    versions = {"lossatlas": __version__, "torch": torch.__version__}
    versions["python"] = platform.python_version()
    found = {"versions": versions, "device": name, "dtype": "float32", "code_path": code_path()}
    return {**found, **more}


def code_path() -> dict[str, Any]:
    """Return what decides which kernels of torch's libraries run, and so the last bits of results.

    Its keys: `cpu` (the widest vector instructions that torch uses, such as "AVX2"), `threads`, and
    those of the variables in `CODE_PATH` that are set.
    """
    cpu = torch.backends.cpu.get_cpu_capability()
    chosen = {name: os.environ[name] for name in CODE_PATH if name in os.environ}
    return {"cpu": cpu, "threads": torch.get_num_threads(), **chosen}


def peak_gpu() -> dict[str, int]:
    """Return the most bytes that this process had on a GPU, if it had one."""
    if not torch.cuda.is_available():
        return {}
    return {"peak_gpu_bytes": torch.cuda.max_memory_allocated()}
