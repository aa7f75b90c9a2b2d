"""Convolutions without gradients that add what is to be added and end in ReLU, in one pass."""

from __future__ import annotations

import operator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from lossatlas.models import direct
from lossatlas.models.layout import fast
from lossatlas.models.quick import is_common, is_plain

_SUMS = (operator.add, torch.add)


def fuse(graph: fx.Graph, network: nn.Module) -> None:
    """Put ReLU, and a sum before it, into the convolutions that few channels make fast so.

    Args:
        graph: Of the network; changed.
        network: Its convolutions change their forward, not their type or weights.
    """
    for node in list(graph.nodes):
        if is_relu(node, network) and len(node.args) == 1 and isinstance(node.args[0], fx.Node):
            conv, rest = _terms(node.args[0], network)
            if conv is not None:
                _replace(graph, node, conv, rest)
    for node in graph.nodes:
        module = module_of(node, network)
        if type(module) is nn.Conv2d and is_common(module) and direct.few(module.weight):
            module.forward = partial(forward, module)  # type: ignore[method-assign]


def forward(
    conv: nn.Conv2d,
    input: Tensor,  # noqa: A002 (as torch names it)
    rest: Tensor | None = None,
    *,
    relu: bool = False,
) -> Tensor:
    """Return a convolution of images (N, C, H, W), plus a rest, after ReLU: (N, O, H, W)."""
    common = is_plain(input, conv.weight) and input.dtype == torch.float32
    if common and direct.fits(input, conv.weight):
        floor = 0.0 if relu else float("-inf")
        return direct.correlate(input, conv.weight, conv.bias, rest, floor)
    y = nn.Conv2d.forward(conv, fast(input))
    if rest is not None:
        y += rest
    return y.relu_() if relu else y


def is_relu(node: fx.Node, network: nn.Module) -> bool:
    """Say whether a node is a ReLU that leaves its input as it is."""
    if node.kwargs and node.kwargs != {"inplace": False}:  # which torch adds to F.relu
        return False
    module = module_of(node, network)
    return node.target in (F.relu, torch.relu) or (type(module) is nn.ReLU)


def module_of(node: object, network: nn.Module) -> nn.Module | None:
    """Return the module that a node calls, if it calls one."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return network.get_submodule(str(node.target))
    return None


def _terms(source: fx.Node, network: nn.Module) -> tuple[fx.Node | None, fx.Node | None]:
    """Return the convolution and the rest that a node is the sum of, where a convolution is one."""
    if _is_candidate(source, network):
        return source, None
    if source.target in _SUMS and not source.kwargs and len(source.users) == 1:
        first, second = source.args
        if isinstance(first, fx.Node) and isinstance(second, fx.Node) and first is not second:
            for conv, rest in ((first, second), (second, first)):
                if _is_candidate(conv, network):
                    return conv, rest
    return None, None


def _is_candidate(node: object, network: nn.Module) -> bool:
    conv = module_of(node, network)
    if type(conv) is not nn.Conv2d or not is_common(conv) or not direct.few(conv.weight):
        return False
    assert isinstance(node, fx.Node)
    return len(node.users) == len(node.args) == 1 and not node.kwargs


def _replace(graph: fx.Graph, relu: fx.Node, conv: fx.Node, rest: fx.Node | None) -> None:
    """Let a convolution do all that is done from it to a ReLU, where the ReLU is."""
    source = relu.args[0]
    given = conv.args if rest is None else (*conv.args, rest)
    with graph.inserting_before(relu):
        made = graph.call_module(str(conv.target), given, {"relu": True})
    relu.replace_all_uses_with(made)
    graph.erase_node(relu)
    if source is not conv:
        assert isinstance(source, fx.Node)
        graph.erase_node(source)
    graph.erase_node(conv)
