"""A device that is not there: tensors on `meta` stand for those of a GPU.

`Pretend` watches every operation. As CUDA does, it refuses tensors of two devices in one operation.
It counts what would make the host wait for the device (a value that is read, a size that depends on
values, a copy to the host) and what is sent to the device. Where a value is read, it is made up.
"""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

DEVICE = torch.device("meta")
_READS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"}
_COPIES = {"aten::_to_copy", "aten::copy_"}


class Pretend(TorchDispatchMode):
    """Counts launches, waits and what is sent, of what runs inside.

    Attributes:
        value: What a number that is read from the device is.
        launches: Operations on the device.
        waits: Line of the library where the host waits -> how often.
        sent: Line of the library where tensors are sent to the device -> how many.
    """

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value, self.launches = value, 0
        self.waits: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        if name in _COPIES:
            return self._copy(func, name, given, args, kwargs)
        if all(t.device != DEVICE for t in given):
            return func(*args, **kwargs)
        if name in _READS:
            self.waits[_where()] += 1
            kind = float if given[0].is_floating_point() else int
            return bool(self.value) if name != "aten::_local_scalar_dense" else kind(self.value)
        if name == "aten::index":
            args = self._masked(args)
            given = [t for t in tree_flatten(args)[0] if isinstance(t, Tensor)]
        if name == "aten::nonzero":
            self.waits[_where()] += 1
            return torch.zeros(given[0].numel(), given[0].dim(), dtype=torch.long, device=DEVICE)
        strangers = [t for t in given if t.device != DEVICE and t.dim() > 0]
        assert not strangers, f"{name} takes tensors of the host and of the device: {_where()}"
        self.launches += not func.is_view
        return func(*args, **kwargs)

    def _copy(self, func: Any, name: str, given: list[Tensor], args: Any, kwargs: Any) -> Any:
        source = given[-1]
        if name == "aten::copy_":
            target = given[0].device
        else:
            target = torch.device(kwargs.get("device") or source.device)
        if source.device != DEVICE and target == DEVICE:
            self.sent[_where()] += 1
        elif source.device == DEVICE and target != DEVICE:
            self.waits[_where()] += 1
            if name == "aten::copy_":
                return given[0].fill_(self.value)
            return torch.full(source.shape, self.value, dtype=kwargs.get("dtype") or source.dtype)
        elif source.device == DEVICE:
            self.launches += 1
        return func(*args, **kwargs)

    def _masked(self, args: Any) -> Any:
        """Let a mask pick everything: how much it picks, the host would have to wait for."""
        picks = []
        for index in args[1]:
            if index is not None and index.dtype == torch.bool:
                self.waits[_where()] += 1
                places = torch.zeros(index.numel(), dtype=torch.long, device=DEVICE)
                picks += [places] * index.dim()
            else:
                picks.append(index)
        return args[0], picks


def _where() -> str:
    """Name the innermost lines of the library that asked."""
    stack = [f for f in traceback.extract_stack() if "/lossatlas/" in f.filename]
    frames = [f"{Path(f.filename).stem}:{f.lineno} {f.name}" for f in stack[-2:]]
    return " > ".join(frames) or "outside the library"
