"""The device, chosen once per process, and how exact its arithmetic is."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
    "LOSSATLAS_CUDA_GRAPHS",
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


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device does not have.

    Raises:
        UserError: If it is "bfloat16", and the GPU has no such arithmetic.
    """
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        what = f"{torch.cuda.get_device_name(device)} has no bfloat16"
        raise UserError(what, where="recipe: precision", fix="float32 or tf32")


def rounding(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which networks run in this precision.

    In "bfloat16" products of matrices and convolutions round their inputs and add up in float32;
    weights, their gradients, statistics and losses stay float32 (`torch.autocast`).
    """
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def arithmetic(precision: str, *, deterministic: bool) -> Iterator[None]:
    """Let a GPU round products as a recipe says, and choose among algorithms; the CPU has one way.

    Args:
        precision: "tf32" lets products of matrices and convolutions round to 10 bits.
        deterministic: Take algorithms that give the same bits each time, and do not time others.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    cudnn.deterministic, cudnn.benchmark = deterministic, not deterministic
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


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
