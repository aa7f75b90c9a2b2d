"""What of a module is a parameter, and modules that are none of torch's plain ones."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import prune

from lossatlas.errors import UserError


def constants_of(module: nn.Module) -> list[str]:
    """Return the parameters that are constants: not trained, and of another type than the trained.

    A vector of all parameters has one type. A counter, or a table of indices, that is held as a
    parameter is no part of it.
    """
    own = dict(module.named_parameters())
    types = {p.dtype for p in own.values() if p.requires_grad}
    return [
        name for name, p in own.items() if not p.requires_grad and types and p.dtype not in types
    ]


def check_parts(module: nn.Module, where: str) -> None:
    """Refuse modules that cannot be computed as functions of their parameters.

    Raises:
        UserError: If the module is TorchScript or pruned, or its trained parameters are complex or
            of several types.
    """
    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule):
            fix = "give the module itself, before torch.jit.script or torch.jit.trace"
            raise UserError("is TorchScript, which holds weights of its own", where=where, fix=fix)
        hooks = part._forward_pre_hooks.values()  # noqa: SLF001 -- as torch.nn.utils.prune does
        if any(isinstance(hook, prune.BasePruningMethod) for hook in hooks):
            what = "is pruned by torch.nn.utils.prune, which computes weights before each call"
            fix = "give it without prune (prune.remove): masks in checkpoints are multiplied in"
            raise UserError(what, where=where, fix=fix)
    types = {p.dtype for p in module.parameters() if p.requires_grad}
    if len(types) > 1 or any(one.is_complex for one in types):
        named = " and ".join(sorted(str(one).removeprefix("torch.") for one in types))
        fix = "give all one real type, such as model.float(); hold complex ones as pairs of numbers"
        raise UserError(f"trained parameters are {named}", where=where, fix=fix)
