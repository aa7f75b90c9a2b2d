"""Compiles kernels for the processor at hand, once per process and only those that are called."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

Kernel = Callable[..., None]


@cache
def usable() -> bool:
    """Say whether kernels can be compiled here, are made for this processor, and not switched off.

    `LOSSATLAS_KERNELS=off` leaves all to torch.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    if os.environ.get("LOSSATLAS_KERNELS") == "off":
        return False
    try:
        kernel("scale", relu=False, more=False)
    except Exception:  # noqa: BLE001 -- no compiler, or a system that runs no code made here
        return False
    return True


@cache
def kernel(name: str, *how: int, **also: bool) -> Kernel:
    """Return a kernel as a function of pointers and numbers; other threads run beside it.

    Args:
        name: Of the function that writes it, which says what it takes.
        how: Given to that function after the module.
        also: Given to it by name.

    Raises:
        KeyError: If there is no such function.
        ValueError: If it cannot be written for these.
    """
    from llvmlite import binding, ir  # half a second, and not all need it

    from lossatlas.kernels import convolution, norm, pooling, transform

    machine = _machine()
    module = ir.Module()
    module.triple = binding.get_process_triple()
    known: dict[str, Callable[..., None]] = {
        "correlate": convolution.correlate,
        "taps_slope": convolution.taps_slope,
        "moments": norm.moments,
        "slopes": norm.slopes,
        "scale": norm.scale,
        "mix": norm.mix,
        "pool": pooling.pool,
        "pooled_taps": pooling.pooled_taps,
        "pooled_images": pooling.pooled_images,
        "spread": transform.spread,
        "gather": transform.gather,
    }
    known[name](module, *how, **also)
    code = binding.parse_assembly(str(module))
    code.verify()
    engine = binding.create_mcjit_compiler(code, machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    kinds = {"i64": ctypes.c_int64, "float": ctypes.c_float, "ptr": ctypes.c_void_p}
    function = module.get_global(name)
    arguments: list[Any] = [kinds[str(one.type)] for one in function.args]
    call = ctypes.CFUNCTYPE(None, *arguments)
    return call(engine.get_function_address(name))


_ENGINES: list[Any] = []  # they hold the code


def _machine() -> Any:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features().flatten()
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(binding.get_host_cpu_name(), features, opt=3)
