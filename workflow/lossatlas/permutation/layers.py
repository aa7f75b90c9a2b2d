"""Looking at, and changing, what the layers of a forward pass put out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, Tensors

# Operations whose outputs are features; the n-th of them in a forward pass is layer n.
LAYERS = ("convolution", "linear", "addmm", "mm", "bmm", "baddbmm", "embedding")
Change = Callable[[int, Tensor], Tensor]


def name_of(function: Any) -> str:
    """Return the name of an operation, such as "convolution"."""
    return function._schema.name.removeprefix("aten::")  # noqa: SLF001 -- torch.fx reads it, too


class Mode(TorchDispatchMode):
    """A mode that sees all operations, and does not import `torch._dynamo` (2 to 10 s) for that."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


@contextmanager
def plain(module: nn.Module) -> Iterator[None]:
    """Compute layers by operations of their own, and not whole blocks as one."""
    fast, fused = torch.backends.mha.get_fastpath_enabled(), bool(torch.backends.mkldnn.enabled)
    recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(fused and not recurrent)  # noqa: SLF001 -- `flags` sets more
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._set_mkldnn_enabled(fused)  # noqa: SLF001


class _Layers(Mode):
    """Changes the outputs of layers.

    Attributes:
        count: Layers so far.
    """

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change, self.count = change, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operation."""
        out = func(*args, **(kwargs or {}))
        if name_of(func) in LAYERS:
            out = self.change(self.count, out)
            self.count += 1
        return out


class Changed(Functional):
    """A network whose layers' outputs are looked at, or changed, in each forward pass.

    Args:
        functional: The network.
        layers: How many layers a forward pass has.
        change: Layer and its output -> what takes the output's place.
    """

    def __init__(self, functional: Functional, layers: int, change: Change) -> None:
        self.__dict__.update(vars(functional))
        self._layers_expected, self._change = layers, change

    def _forward(
        self, params: Tensors, buffers: Tensors, x: Tensor | Mapping[str, Tensor]
    ) -> Tensor:
        with torch.no_grad(), plain(self.module), _Layers(self._change) as mode:
            out = super()._forward(params, buffers, x)
        if mode.count != self._layers_expected:
            what = f"a forward pass has {mode.count} layers, and another {self._layers_expected}"
            fix = "set 'matching: weights' and 'repair: false'"
            raise UserError(what, where=self.name, fix=fix)
        return out
