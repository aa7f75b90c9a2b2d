"""State dicts that something else wrote: read without running what they bring along, and divided.

A file is a state dict as safetensors or `torch.save` wrote it, plain or under one of the usual keys
of a larger dictionary, its names with or without the usual prefixes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, Tensors
from lossatlas.training import checkpoints


def read_state(file: str) -> dict[str, Tensor]:
    """Read a state dict without executing anything that the file brings along.

    Raises:
        UserError: If it is missing, or holds anything but named tensors.
    """
    if not Path(file).exists():
        raise UserError("no such file", where=file)
    if not Path(file).is_file():
        raise UserError("is no regular file", where=file, fix="give a file of weights")
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=file) from None
    return state_in(content, file)


def state_in(content: bytes, file: str) -> dict[str, Tensor]:
    """Return the state dict in the content of a file; its name says in which format it is.

    Raises:
        UserError: If it holds anything but named tensors.
    """
    if file.endswith(".safetensors"):
        try:
            return safetensors.torch.load(content)
        except (ValueError, safetensors.SafetensorError) as error:
            raise UserError(f"not a safetensors file ({error})", where=file) from None
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 -- a damaged file may fail in any way
        what = f"not a file of tensors ({type(error).__name__})"
        fix = "save it with torch.save(model.state_dict(), file)"
        raise UserError(what, where=file, fix=fix) from None
    for key in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        fix = "save it with torch.save(model.state_dict(), file)"
        raise UserError("holds no state dict", where=file, fix=fix)
    return dict(state)


def unwrapped(functional: Functional, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a state dict under the network's own names.

    DataParallel, `torch.compile` and training frameworks hold a network as an attribute ("module.",
    "_orig_mod.", "model."), whose name then stands before all others.
    """
    known = functional.module.state_dict().keys()
    if "n_averaged" not in known:  # torch.optim.swa_utils counts there
        state = {name: tensor for name, tensor in state.items() if name != "n_averaged"}
    first = next(iter(state), "")
    for end in [0, *(place + 1 for place, letter in enumerate(first) if letter == ".")]:
        if not all(name.startswith(first[:end]) for name in state):
            break
        cut = {name[end:]: tensor for name, tensor in state.items()}
        if cut.keys() & known:
            return cut
    return state


def divide(
    functional: Functional, state: Mapping[str, Tensor], where: str
) -> tuple[Tensors, Tensors]:
    """Divide a state dict into parameters and buffers, in the types of the network's own.

    Of tied tensors any of their names will do. Buffers that no state dict holds
    (`persistent=False`) are the network's own.

    Raises:
        UserError: If a tensor is unknown to the network, or one is missing.
    """
    module, held = functional.module, functional.module.state_dict()
    firsts: dict[int, str] = {}
    tied = module.named_parameters(remove_duplicate=False)
    names = {name: firsts.setdefault(id(p), name) for name, p in tied}
    own = dict(module.named_buffers())
    again = held.keys() - names.keys() - own.keys()  # further names of tied buffers
    rest = {name: t for name, t in state.items() if name not in again}
    params = {names.get(name, name): t for name, t in rest.items() if name not in own}
    buffers = {name: b for name, b in own.items() if name not in held}
    buffers |= {name: t for name, t in rest.items() if name in own}
    checkpoints.match(functional, params, buffers, where)
    like = {**dict(module.named_parameters()), **own}
    cast = (
        {name: t.to(like[name].dtype) for name, t in part.items()} for part in (params, buffers)
    )
    return next(cast), next(cast)
