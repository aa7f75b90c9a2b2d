"""Several networks of ordinary layers as one, for training on the CPU.

`torch.vmap` takes nearly any module, and costs more than the layers of a narrow network do. A
module whose forward pass is made of convolutions, BatchNorm, ReLU, sums, a mean over places and
linear layers is run here layer by layer instead, all networks at once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from lossatlas.models.layers import convolve, normalise

Tensors = dict[str, Tensor]
Alone = Callable[[Tensors, Tensors, Tensor], Tensor]
Step = Callable[[Tensors, list[Tensor]], Tensor]

_CLOSE = 1e-6  # BatchNorm of few images magnifies rounding


class Together:
    """A module for G networks at once, in training mode.

    Args:
        module: From images to logits.

    Raises:
        ValueError: If its forward pass is made of anything else than the layers known here.
    """

    def __init__(self, module: nn.Module) -> None:
        if any(m._forward_hooks or m._forward_pre_hooks for m in module.modules()):  # noqa: SLF001
            raise ValueError("it has hooks")
        self.graph = fx.Tracer().trace(module.train())
        self.steps = {
            node: _step(node, module)
            for node in self.graph.nodes
            if node.op not in ("placeholder", "output")
        }

    def __call__(self, params: Tensors, buffers: Tensors, images: Tensor) -> Tensor:
        """Return logits (G, N, classes).

        Args:
            params: Name -> (G, ...); differentiable, once.
            buffers: Name -> (G, ...), contiguous; updated in place.
            images: (G, N, C, H, W).

        Raises:
            KeyError: If a tensor that it needs is not given.
            RuntimeError: If shapes do not fit.
        """
        tensors = {**params, **buffers}
        values: dict[fx.Node, Tensor] = {}
        for node in self.graph.nodes:
            if node.op == "placeholder":
                values[node] = images.permute(0, 2, 3, 4, 1)
            elif node.op == "output":
                return values[node.args[0]].transpose(1, 2)
            else:
                given = [values[one] for one in node.all_input_nodes]
                values[node] = self.steps[node](tensors, given)
        raise ValueError("it returns nothing")

    @torch.no_grad()
    def agrees(
        self, alone: Alone, shapes: Mapping[str, torch.Size], buffers: Tensors, images: Tensor
    ) -> bool:
        """Say whether it gives the module's logits, and does to its buffers what the module does.

        The answer depends on the module alone, not on its weights: a training that is resumed must
        go on as it began. So it is tried on weights drawn here, in float64.

        Args:
            alone: One network in training mode, from parameters, buffers and images to logits.
            shapes: Name of each parameter -> its shape in one network.
            buffers: Name -> (G, ...), G at least 2; not changed.
            images: (G, N, C, H, W); the first few are used.
        """
        draws = torch.Generator().manual_seed(0)
        x = images[:2, :8].double()
        params = {
            name: torch.randn(2, *shape, generator=draws, dtype=x.dtype)
            / max(1, shape[1:].numel()) ** 0.5
            for name, shape in shapes.items()
        }
        start = {n: b[:2].double() if b.is_floating_point() else b[:2] for n, b in buffers.items()}
        ours, theirs = ({name: b.clone() for name, b in start.items()} for _ in range(2))
        logits = self(params, ours, x)
        for index in range(2):
            own, after = ({n: t[index] for n, t in held.items()} for held in (params, theirs))
            if not _close(alone(own, after, x[index]), logits[index]):
                return False
        return all(_close(theirs[name], b) for name, b in ours.items())


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, _CLOSE)


def _step(node: fx.Node, network: nn.Module) -> Step:
    """Return what a node of the graph does to the values it is given."""
    if node.op == "call_module":
        module, name = network.get_submodule(str(node.target)), str(node.target)
        _refuse(node.kwargs or len(node.args) != 1, node)
        build = _MODULES.get(type(module))
        _refuse(build is None, node)
        assert build is not None
        if getattr(module, "inplace", False):
            _refuse(len(node.all_input_nodes[0].users) > 1, node)
        return build(module, name)
    rest, named = node.args[1:], dict(node.kwargs)
    if node.target in (F.relu, torch.relu, "relu"):
        if named.pop("inplace", False):
            _refuse(len(node.all_input_nodes[0].users) > 1, node)
        _refuse(rest or named, node)
        return lambda _, given: torch.relu(given[0])
    if node.target in (operator.add, operator.iadd, torch.add):
        _refuse(named or not all(isinstance(one, fx.Node) for one in node.args), node)
        if node.target is operator.iadd:
            _refuse(len(node.all_input_nodes[0].users) > 1, node)
        return lambda _, given: given[0] + given[-1]
    if node.target in (torch.mean, "mean"):
        dims = named.pop("dim", rest[0] if rest else None)
        _refuse(named or len(rest) > 1 or not _is(dims, [(2, 3), (-2, -1)]), node)
        return lambda _, given: given[0].mean(dim=(2, 3))
    if node.target in (torch.flatten, "flatten"):
        first = named.pop("start_dim", rest[0] if rest else 0)
        _refuse(named or len(rest) > 1 or first != 1, node)
        return lambda _, given: _flatten(given[0])
    raise ValueError(f"{node.op} {node.target} is not known")


def _flatten(x: Tensor) -> Tensor:
    """Return (G, C H W, N)."""
    return x.reshape(len(x), -1, x.shape[-1])


def _refuse(wrong: object, node: fx.Node) -> None:
    if wrong:
        raise ValueError(f"{node.op} {node.target} is used in a way that is not known")


def _is(value: Any, allowed: list[tuple[int, ...]]) -> bool:
    return isinstance(value, (tuple, list)) and tuple(value) in allowed


def _convolution(conv: nn.Conv2d, name: str) -> Step:
    sides = [conv.kernel_size, conv.stride, conv.padding, conv.dilation]
    square = all(isinstance(side, tuple) and len(set(side)) == 1 for side in sides)
    plain = conv.groups == conv.dilation[0] == 1 and conv.padding_mode == "zeros"
    if not (square and plain):
        raise ValueError(f"convolution {name} is not plain")
    stride, padding = int(conv.stride[0]), int(conv.padding[0])

    def run(tensors: Tensors, given: list[Tensor]) -> Tensor:
        weight, bias = tensors[f"{name}.weight"], _maybe(conv, "bias", name, tensors)
        return convolve(given[0], weight, bias, stride, padding)

    return run


def _norm(norm: nn.BatchNorm2d, name: str) -> Step:
    if norm.momentum is None:
        raise ValueError(f"{name} has no momentum")

    def run(tensors: Tensors, given: list[Tensor]) -> Tensor:
        if norm.num_batches_tracked is not None:
            tensors[f"{name}.num_batches_tracked"].add_(1)
        weight, bias, mean, variance = (
            _maybe(norm, part, name, tensors)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        assert norm.momentum is not None
        return normalise(given[0], weight, bias, mean, variance, norm.momentum, norm.eps)

    return run


def _average(pool: nn.AdaptiveAvgPool2d, name: str) -> Step:
    if pool.output_size not in (1, (1, 1)):
        raise ValueError(f"{name} averages over parts")
    return lambda _, given: given[0].mean(dim=(2, 3), keepdim=True)


def _flattening(flatten: nn.Flatten, name: str) -> Step:
    if (flatten.start_dim, flatten.end_dim) != (1, -1):
        raise ValueError(f"{name} flattens otherwise")
    return lambda _, given: _flatten(given[0])


def _linear(linear: nn.Linear, name: str) -> Step:
    def run(tensors: Tensors, given: list[Tensor]) -> Tensor:
        weight, bias = tensors[f"{name}.weight"], _maybe(linear, "bias", name, tensors)
        if bias is None:
            return torch.bmm(weight, given[0])
        return torch.baddbmm(bias[:, :, None], weight, given[0])

    return run


def _maybe(module: nn.Module, part: str, name: str, tensors: Tensors) -> Tensor | None:
    return None if getattr(module, part) is None else tensors[f"{name}.{part}"]


_MODULES: Mapping[type, Callable[[Any, str], Step]] = {
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: _norm,
    nn.Linear: _linear,
    nn.ReLU: lambda _module, _name: lambda _, given: torch.relu(given[0]),
    nn.AdaptiveAvgPool2d: _average,
    nn.Flatten: _flattening,
    nn.Identity: lambda _module, _name: lambda _, given: given[0],
}
