"""CUDA graphs: the launches of a step recorded once and replayed with one call.

A narrow network keeps a GPU waiting for the host: its step has hundreds of launches of a few
microseconds of work each. Off unless LOSSATLAS_CUDA_GRAPHS is 1: what it gains has not been
measured (`benchmarks/gpu.py` does).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from lossatlas.errors import UserError, told

VARIABLE = "LOSSATLAS_CUDA_GRAPHS"
_BEFORE = 3  # calls that run as they are: torch chooses algorithms and allocates in the first ones
_SHAPES = 2  # of inputs that get a graph: full batches, and an epoch's last one


def wanted(device: torch.device) -> bool:
    """Say whether graphs are asked for and the device has them.

    Raises:
        UserError: If the variable is neither 0 nor 1.
    """
    value = os.environ.get(VARIABLE, "0")
    if value not in {"", "0", "1"}:
        raise UserError(f"'{value}' is neither 0 nor 1", where=VARIABLE, fix="unset it, or 1")
    return value == "1" and device.type == "cuda"


class Replayed:
    """A function of tensors, replayed from a CUDA graph for each shape of its inputs.

    The function may change tensors in place, but must always be the same launches on the same
    memory; it is given copies of its inputs that stay in their places. The first calls run as they
    are, so that none is made twice. Where the capture fails all calls do, and the reason is told.

    Args:
        function: From tensors to one tensor, which the next call overwrites.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function, self._broken = function, False
        self._calls: dict[tuple[object, ...], int] = {}
        self._captured: dict[tuple[object, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]]
        self._captured = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return what the function returns."""
        key = tuple((tuple(x.shape), x.stride(), x.dtype) for x in inputs)
        if key not in self._captured and not self._ready(key):
            return self._function(*inputs)
        if key not in self._captured:
            try:
                self._capture(key, inputs)
            except RuntimeError as error:  # what cannot be captured runs as it is
                self._broken = True
                print(f"lossatlas: no CUDA graph: {told(error)}", file=sys.stderr, flush=True)
                return self._function(*inputs)
        graph, places, result = self._captured[key]
        torch._foreach_copy_(places, list(inputs))
        graph.replay()
        return result

    def _ready(self, key: tuple[object, ...]) -> bool:
        if self._broken or (key not in self._calls and len(self._calls) >= _SHAPES):
            return False
        self._calls[key] = self._calls.get(key, 0) + 1
        return self._calls[key] > _BEFORE

    def _capture(self, key: tuple[object, ...], inputs: tuple[Tensor, ...]) -> None:
        """Record the launches; they are not run."""
        places = [x.clone(memory_format=torch.preserve_format) for x in inputs]
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            result = self._function(*places)
        self._captured[key] = graph, places, result
