"""Advice in place of errors: operations without a second derivative, too little memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lossatlas.errors import UserError
from lossatlas.models.outputs import runs_again

_ADVICE = "use operations that can be differentiated twice, or 'differences: true'"


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors of a missing second derivative, or of too little memory, into advice."""
    try:
        yield
    except torch.OutOfMemoryError:
        fix = "lower `chunk`"
        raise UserError("out of memory", where="Hessian-vector product", fix=fix) from None
    except RuntimeError as error:
        if (again := runs_again(error)) is not None:
            raise again from None
        found = re.search(r"derivative for (\S+) is not implemented", str(error))
        if found is None:
            raise
        what = f"the operation {found[1]} has no second derivative"
        raise UserError(what, where="Hessian-vector product", fix=_ADVICE) from None


def refuse_once_differentiable(value: Tensor) -> None:
    """Refuse functions marked `once_differentiable`: autograd may take them for constants.

    Raises:
        UserError: If the graph of `value` holds one.
    """
    seen, waiting = set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        function = getattr(type(node), "_forward_cls", None)
        if function is not None and hasattr(function.backward, "__wrapped__"):
            what = f"the function {function.__name__} can be differentiated only once"
            raise UserError(what, where="Hessian-vector product", fix=_ADVICE)
        waiting.extend(parent for parent, _ in node.next_functions)
