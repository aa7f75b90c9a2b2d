"""Hessian-vector products of a mean loss with respect to the parameters of a network.

The product is H v = d/dθ (g(θ) · v) with g = dL/dθ (Pearlmutter, 1994). Where all images fit into
one pass, the graph of g is kept and each product costs one backward pass through it; on a GPU the
graphs of as many passes as fit are kept. What makes
that pass fast without changing its result is in `written_out`, and images that lie channels-last on
CPUs. Several vectors per pass (batched gradients) were tried and gained nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lossatlas.curvature.differentiable import explained, refuse_once_differentiable
from lossatlas.curvature.written_out import WrittenOut
from lossatlas.data.tensors import Inputs, Split, check_examples
from lossatlas.errors import UserError, nearest
from lossatlas.models.functional import (
    Functional,
    Tensors,
    flatten,
    state_of,
    unflatten,
)
from lossatlas.models.layout import fast
from lossatlas.progress import advance
from lossatlas.tasks import Task
from lossatlas.training.networks import Networks

Loss = Callable[[Tensor, Tensor], Tensor]


class LinearOperator(Protocol):
    """A symmetric linear map of vectors (size,)."""

    size: int
    dtype: torch.dtype
    device: torch.device
    products: int

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the product with a vector (size,)."""
        ...


class HessianOperator:
    """The Hessian of a mean loss at one parameter set, as a function of vectors.

    BatchNorm and dropout are in evaluation mode. Parameters that the loss does not use have zero
    rows and columns; parameters that are frozen or not picked are constants and have none.

    Args:
        functional: The network.
        params: Name -> tensor, of one network; their dtype (float32 or float64) is that of H.
        buffers: Name -> tensor.
        images: (N, C, H, W), or whatever the network takes.
        labels: (N, ...).
        loss: A task, or a function from outputs and labels to the mean over images of a loss.
        parameters: Regular expression; only the parameters whose names it finds vary.
        chunk: Images per pass. The loss is the mean over all images whatever the chunk. The graph
            of a pass that is not kept is built anew for every product.
        differences: Take central differences of gradients instead: for operations without a
            second derivative. Two gradients per product, and about half of the digits.

    Attributes:
        names: The parameters that vary, in the order of the vectors.
        size: P, the length of the vectors.
        products: How many products were taken.

    Raises:
        UserError: If no parameter is picked, an operation has no second derivative, the network
            draws random numbers in evaluation mode, or the loss is no mean, or of no parameter.
    """

    def __init__(
        self,
        functional: Functional,
        params: Mapping[str, Tensor],
        buffers: Tensors,
        images: Inputs,
        labels: Tensor,
        *,
        loss: Loss | Task = F.cross_entropy,
        parameters: str = "",
        chunk: int = 512,
        differences: bool = False,
    ) -> None:
        self.names = pick(functional.trainable, parameters)
        self._some = bool(parameters)  # of which no loss need depend
        self._fixed = {name: p.detach() for name, p in params.items()}
        self._leaves = {name: self._fixed[name].clone().requires_grad_() for name in self.names}
        self._functional, self._buffers = functional, buffers
        self._loss = loss.mean if isinstance(loss, Task) else loss
        images = fast(images, functional)
        self._passes = list(zip(images.split(chunk), labels.split(chunk), strict=True))
        counts = [_units(loss, y) for _, y in self._passes]
        self._shares = [count / sum(counts) for count in counts]
        self.size = sum(p.numel() for p in self._leaves.values())
        first = self._leaves[self.names[0]]
        self.dtype, self.device = first.dtype, first.device
        self.differences, self.products = differences, 0
        self._kept: list[Any] = [None for _ in self._passes]
        self._more = True  # whether there is room for a further graph
        self._check_still()
        if len(self._passes) > 1 and not isinstance(loss, Task):
            self._check_mean()

    def __call__(self, vector: Tensor) -> Tensor:
        """Return H v, detached, for a vector v (P,).

        Raises:
            ValueError: If the vector has another shape.
            UserError: As the class.
        """
        if vector.shape != (self.size,):
            raise ValueError(f"expected a vector ({self.size},), got {tuple(vector.shape)}")
        self.products += 1
        advance("products")
        vector = vector.to(self.device, self.dtype)
        with torch.enable_grad(), explained():
            return self._differ(vector) if self.differences else self._differentiate(vector)

    @torch.no_grad()
    def _check_still(self) -> None:
        """Refuse a network that draws in evaluation mode: each product would be of another H."""
        x = self._passes[0][0][:8]
        calls = [self._functional(self._fixed, self._buffers, x, train=False) for _ in range(2)]
        if not all(isinstance(one, Tensor) for one in calls):  # the user's loss takes them apart
            return
        largest = max(float(calls[0].abs().max()), 1e-6)
        if float((calls[0] - calls[1]).abs().max()) > 1e-4 * largest:
            what = "two calls in evaluation mode give different outputs, so there is no one Hessian"
            fix = "draw random numbers only `if self.training`, as nn.Dropout does"
            raise UserError(what, where=self._functional.name, fix=fix)

    @torch.no_grad()
    def _check_mean(self) -> None:
        """Refuse a loss that is not the mean over images of one: parts would not add up to it."""
        x, y = self._passes[0]
        half = len(x) // 2
        if not half:
            return
        whole = self._value(self._leaves, x, y).item()
        parts = [self._value(self._leaves, x[part], y[part]).item() for part in _halves(half)]
        mean = (half * parts[0] + (len(x) - half) * parts[1]) / len(x)
        if abs(whole - mean) > 1e-3 * max(abs(whole), abs(mean), 1e-6):
            what = (
                f"the loss of {len(x)} examples is {whole:.6g}, and {mean:.6g} as a mean of halves"
            )
            fix = "a Task whose `counts` says what it is a mean over, or a `chunk` that holds all"
            raise UserError(what, where="Hessian", fix=fix)

    def gradient(self) -> Tensor:
        """Return the gradient (P,) of the mean loss, detached."""
        with torch.enable_grad():
            return self._gradient(self._leaves)

    def _gradient(self, leaves: Tensors) -> Tensor:
        total = next(iter(leaves.values())).new_zeros(self.size)
        for (x, y), share in zip(self._passes, self._shares, strict=True):
            gradients = _grad(self._value(leaves, x, y), list(leaves.values()))
            total.add_(_flat(gradients).detach(), alpha=share)
        return total

    def _differentiate(self, vector: Tensor) -> Tensor:
        total = torch.zeros_like(vector)
        for number, ((x, y), share) in enumerate(zip(self._passes, self._shares, strict=True)):
            known = self._kept[number]
            graph = self._graph(x, y) if known is None else known
            if graph is None:
                continue
            keep = known is not None or self._fits(number)
            total.add_(self._through(graph, vector, keep=keep), alpha=share)
            self._kept[number] = graph if keep else None
        return total

    def _fits(self, number: int) -> bool:
        """Say whether the graph of a pass, which was just made, may stay for the next products.

        On a CPU, what `chunk` leaves is other jobs' memory. On a GPU the job has what is free: a
        graph stays where two more of them would fit beside what is needed to go through one.
        """
        if len(self._passes) == 1:
            return True
        if self.device.type != "cuda" or not self._more:
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        reserved = torch.cuda.memory_reserved(self.device)
        used = torch.cuda.memory_allocated(self.device)
        graphs = sum(graph is not None for graph in self._kept[:number]) + 1
        self._more = free + reserved - used > 3 * used / graphs
        return self._more

    def _graph(self, x: Inputs, y: Tensor) -> Any:
        """Return what products of one pass are taken from: its gradient (P,), with the graph.

        None where it is piecewise linear in the parameters: no curvature.
        """
        value = self._value(self._leaves, x, y)
        self._check_depends(value)
        refuse_once_differentiable(value)
        gradient = _flat(_grad(value, list(self._leaves.values()), create_graph=True))
        return gradient if gradient.requires_grad else None

    def _through(self, graph: Any, vector: Tensor, *, keep: bool) -> Tensor:
        """Return the product (P,) of one pass, and keep its graph for the next or not."""
        parts = torch.autograd.grad(
            torch.dot(graph, vector),
            list(self._leaves.values()),
            retain_graph=keep,
            materialize_grads=True,
        )
        return _flat(list(parts))

    def _check_depends(self, value: Tensor) -> None:
        if not (value.requires_grad or self._some):
            what, fix = "the loss does not depend on the parameters", "leave out .detach()"
            raise UserError(what, where="Hessian", fix=fix)

    def _outputs(self, leaves: Tensors, x: Inputs) -> Tensor:
        weights = {**self._fixed, **leaves}
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # fused attention: only first order
            stack.enter_context(WrittenOut())
            return self._functional(weights, self._buffers, x, train=False)

    def _value(self, leaves: Tensors, x: Inputs, y: Tensor) -> Tensor:
        return self._checked(self._loss(self._outputs(leaves, x), y))

    @staticmethod
    def _checked(value: Tensor) -> Tensor:
        if value.dim():
            raise ValueError(f"the loss must be one number, got shape {tuple(value.shape)}")
        return value

    def _differ(self, vector: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(vector).item()
        if norm == 0:
            return torch.zeros_like(vector)
        start = flatten(self._leaves).detach()
        scale = max(1.0, torch.linalg.vector_norm(start).item())
        step = torch.finfo(self.dtype).eps ** (1 / 3) * scale / norm
        ends = []
        for sign in (1, -1):
            moved = unflatten(start + sign * step * vector, self._leaves)
            leaves = {name: p.clone().requires_grad_() for name, p in moved.items()}
            ends.append(self._gradient(leaves))
        return (ends[0] - ends[1]) / (2 * step)


def hessian_at(
    networks: Networks,
    index: int,
    split: Split,
    *,
    parameters: str = "",
    chunk: int = 512,
    differences: bool = False,
    kind: type[HessianOperator] = HessianOperator,
) -> HessianOperator:
    """Return the Hessian of a replica's mean loss, that of the task, on some examples.

    Args:
        networks: The replicas.
        index: Which one.
        split: Examples.
        parameters: As `HessianOperator`, as are `chunk` and `differences`.
        chunk: Examples per pass.
        differences: Central differences instead of second derivatives.
        kind: Another matrix of that loss, as `GaussNewtonOperator`.

    Raises:
        UserError: As `HessianOperator`.
    """
    return kind(
        networks.functional,
        *networks.one(index),
        split.images,
        split.labels,
        loss=split.task,
        parameters=parameters,
        chunk=chunk,
        differences=differences,
    )


def hessian_of(
    module: nn.Module,
    images: Inputs,
    labels: Tensor,
    *,
    loss: Loss | Task = F.cross_entropy,
    parameters: str = "",
    chunk: int = 512,
    dtype: torch.dtype | None = None,
    differences: bool = False,
    kind: type[HessianOperator] = HessianOperator,
) -> HessianOperator:
    """Return the Hessian operator of any module at its present weights; the module is not changed.

    Args:
        module: From images to outputs, on the device of the images.
        images: (N, C, H, W), or whatever the module takes.
        labels: (N, ...).
        loss: As `HessianOperator`, as are `parameters`, `chunk` and `differences`.
        parameters: Regular expression that picks parameters.
        chunk: Images per pass.
        dtype: Compute in this dtype; default: that of the weights.
        differences: Central differences instead of second derivatives.
        kind: Another matrix of that loss, as `GaussNewtonOperator`.

    Raises:
        UserError: As `HessianOperator`; or if there are not as many labels as images.
    """
    check_examples(images, labels, "hessian_of")
    params, buffers = state_of(module)
    if dtype is not None:
        params, buffers = _cast(params, dtype), _cast(buffers, dtype)
        if not isinstance(images, Tensor) or images.is_floating_point():
            images = images.to(dtype)
    return kind(
        Functional(module),
        params,
        buffers,
        images,
        labels,
        loss=loss,
        parameters=parameters,
        chunk=chunk,
        differences=differences,
    )


def _units(loss: Loss | Task, labels: Tensor) -> float:
    """Return how many units the loss of a pass is a mean over."""
    return float(loss.units(labels[None])) if isinstance(loss, Task) else float(len(labels))


def _halves(half: int) -> tuple[slice, slice]:
    return slice(0, half), slice(half, None)


def pick(names: list[str], pattern: str) -> list[str]:
    """Return the names in which a regular expression is found; '' picks all.

    Raises:
        UserError: If the expression is not valid or picks none.
    """
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        what = f"'{pattern}' is not a regular expression: {error}"
        raise UserError(what, where="parameters", fix="'' picks all") from None
    if not found:
        what = f"'{pattern}' picks no trainable parameter"
        raise UserError(what, where="parameters", fix=nearest(pattern, names))
    return found


def _grad(value: Tensor, leaves: list[Tensor], *, create_graph: bool = False) -> list[Tensor]:
    """Return gradients, zeros where the value does not depend on a leaf."""
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(
        torch.autograd.grad(value, leaves, create_graph=create_graph, materialize_grads=True)
    )


def _flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _cast(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
