"""Products with the generalised Gauss-Newton matrix of a mean loss (Schraudolph, 2002).

With outputs f(θ), their Jacobian J and the Hessian B of the loss in the outputs, G = J^T B J; the
Hessian is G + the sum of dL/df_k times the Hessian of f_k. G is positive semidefinite where the
loss is convex in the outputs. For cross entropy of a softmax, and for squares, G is the Fisher
matrix of the network's own predictions (Martens, 2020, section 9).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossatlas.curvature.differentiable import refuse_once_differentiable
from lossatlas.curvature.operator import HessianOperator
from lossatlas.data.tensors import Inputs
from lossatlas.errors import UserError


class GaussNewtonOperator(HessianOperator):
    """The Gauss-Newton matrix of a mean loss at one parameter set, as a function of vectors.

    J v comes from two backward passes: u -> J^T u is linear, and its own transpose is J. Everything
    else is as in `HessianOperator`; there are no central differences.
    """

    def _graph(self, x: Inputs, y: Tensor) -> Any:
        """Return outputs, u, J^T u (P,), a copy of the outputs and dL/df there; None if B is 0."""
        outputs: object = self._outputs(self._leaves, x)
        if not isinstance(outputs, Tensor):
            what = f"the network returns a {type(outputs).__name__}"
            fix = "return the outputs alone, a tensor"
            raise UserError(what, where="Gauss-Newton", fix=fix)
        self._check_depends(outputs)
        if not outputs.requires_grad:
            return None
        refuse_once_differentiable(outputs)
        place = outputs.detach().requires_grad_()
        value = self._checked(self._loss(place, y))
        refuse_once_differentiable(value)
        (slope,) = torch.autograd.grad(value, place, create_graph=True)
        if not slope.requires_grad:  # a loss that is linear in the outputs
            return None
        u = torch.zeros_like(outputs, requires_grad=True)
        leaves = list(self._leaves.values())
        parts = torch.autograd.grad(outputs, leaves, u, create_graph=True, materialize_grads=True)
        return outputs, u, torch.cat([part.reshape(-1) for part in parts]), place, slope

    def _through(self, graph: Any, vector: Tensor, *, keep: bool) -> Tensor:
        outputs, u, back, place, slope = graph
        (moved,) = torch.autograd.grad(back, u, vector, retain_graph=True)
        (bent,) = torch.autograd.grad(slope, place, moved, retain_graph=keep)
        leaves = list(self._leaves.values())
        parts = torch.autograd.grad(
            outputs, leaves, bent, retain_graph=keep, materialize_grads=True
        )
        return torch.cat([part.reshape(-1) for part in parts])
