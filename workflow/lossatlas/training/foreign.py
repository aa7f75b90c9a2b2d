"""State dicts that something else wrote: read without running what they bring along, and divided.

A file is a state dict as safetensors or `torch.save` wrote it, plain or under one of the usual keys
of a larger dictionary, its names with or without the usual prefixes.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, Tensors
from lossatlas.training import beside, checkpoints, formats, shards


def read_state(file: str) -> dict[str, Tensor]:
    """Read a state dict without executing anything that the file brings along.

    Args:
        file: A file, an index of shards (`.index.json`), or a folder with one of these.

    Raises:
        UserError: If it is missing, or holds anything but named tensors.
    """
    if not _exists(file):
        raise UserError("no such file", where=file)
    if Path(file).is_dir():
        file = shards.file_in(file)
    if file.endswith(shards.INDEX):
        return _put_together(file)
    if not Path(file).is_file():
        raise UserError("is no regular file", where=file, fix="give a file of weights")
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=file) from None
    return state_in(content, file)


def _exists(file: str) -> bool:
    try:
        return Path(file).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _put_together(index: str) -> dict[str, Tensor]:
    """Return the tensors of all shards of an index."""
    whole: dict[str, Tensor] = {}
    for file, names in shards.shards(index).items():
        found = read_state(file)
        if lost := [name for name in names if name not in found]:
            what = f"lacks '{lost[0]}', which the index says it holds"
            raise UserError(what, where=file, fix="fetch all shards of one version")
        whole |= {name: found[name] for name in names}
    return whole


def checked_content(file: str, sha256: str) -> bytes:
    """Return the content of a file that must be what it was when the job was planned.

    Raises:
        UserError: If it cannot be read, or has changed.
    """
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        fix = "put it back, then run the same command again"
        raise UserError(f"cannot be read: {error.strerror}", where=file, fix=fix) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        fix = "run the same command again"
        raise UserError("changed while Snakemake ran", where=file, fix=fix)
    return content


def state_in(content: bytes, file: str) -> dict[str, Tensor]:
    """Return the state dict in the content of a file; its name says in which format it is.

    Raises:
        UserError: If it holds anything but named tensors.
    """
    if why := formats.no_weights(content):
        raise UserError(why[0], where=file, fix=why[1])
    if file.endswith(".safetensors") or formats.is_safetensors(content):
        try:
            return safetensors.torch.load(content)
        except (ValueError, safetensors.SafetensorError) as error:
            raise UserError(f"not a safetensors file ({error})", where=file) from None
    if file.endswith(shards.INDEX):
        fix = "join the shards in one file of safetensors"
        raise UserError("is an index of shards, and no file of weights", where=file, fix=fix)
    try:
        held = beside.load(content)
    except Exception as error:  # noqa: BLE001 -- a damaged file may fail in any way
        raise _unread(error, content, file) from None
    return _checked(_weights_in(held, file), file)


# Where training scripts put the weights in a dictionary with other things, the likeliest first.
_KEYS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights"),
    *("params", "module", "state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema"),
)
_SAVE = "save it with torch.save(model.state_dict(), file)"


def _unread(error: Exception, content: bytes, file: str) -> UserError:
    """Say why torch does not read a file without running code of its."""
    if "TorchScript" in str(error):
        fix = "torch.save(torch.jit.load(file).state_dict(), another)"
        return UserError("is a TorchScript archive", where=file, fix=fix)
    found = beside.objects_in(error, content)
    if not found:
        return UserError(f"not a file of tensors ({type(error).__name__})", where=file, fix=_SAVE)
    what = f"not a file of tensors alone: it holds {', '.join(found[:3])}"
    fix = "where it was made, save the weights alone: torch.save(model.state_dict(), file)"
    return UserError(f"{what}, and reading those can run code", where=file, fix=fix)


def _weights_in(held: object, file: str) -> dict[object, object]:
    """Return the dictionary of weights in what a file holds."""
    if not isinstance(held, dict):
        raise UserError(f"holds no state dict, but a {type(held).__name__}", where=file, fix=_SAVE)
    if known := [key for key in _KEYS if _is_state(held.get(key))]:
        if len(known) > 1:
            what = f"{file}: the weights under '{known[0]}' are read, and not those under"
            print(f"lossatlas: {what} '{known[1]}'", file=sys.stderr, flush=True)
        return _weights_in(held[known[0]], file)
    if any(isinstance(value, Tensor) for value in held.values()):
        return held
    others = [key for key, value in held.items() if _is_state(value)]
    if len(others) == 1:
        return _weights_in(held[others[0]], file)
    if others:
        what = f"holds weights under {' and '.join(repr(key) for key in others[:5])}"
        fix = "save those that you mean in a file of their own"
        raise UserError(what, where=file, fix=fix)
    keys = ", ".join(repr(key) for key in list(held)[:5])
    what = f"holds no state dict under {keys}" if held else "holds no state dict"
    raise UserError(what, where=file, fix=_SAVE)


def _is_state(value: object) -> bool:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return False
    return any(isinstance(one, Tensor) for one in value.values()) or any(
        _is_state(value.get(key)) for key in _KEYS
    )


def _checked(state: Mapping[object, object], file: str) -> dict[str, Tensor]:
    """Refuse what is no dense tensor under a name.

    What modules keep beside tensors (`_extra_state`) is left to `unwrapped`.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str):
            raise UserError(f"has the key {name!r}, which is no name", where=file, fix=_SAVE)
        if name.endswith(_EXTRA) and not isinstance(value, Tensor):
            found[name] = torch.empty(0)
        elif not isinstance(value, Tensor):
            what = f"'{name}' is a {type(value).__name__}, not a tensor"
            raise UserError(f"holds no state dict: {what}", where=file, fix=_SAVE)
        elif value.is_meta:
            what, fix = f"'{name}' has a shape and no values", "save it from a device with memory"
            raise UserError(what, where=file, fix=fix)
        elif value.layout != torch.strided or value.is_quantized:
            fix = "save it as plain numbers: tensor.dequantize() or tensor.to_dense()"
            kind = "quantised" if value.is_quantized else "sparse"
            raise UserError(f"'{name}' is {kind}", where=file, fix=fix)
        else:
            found[name] = value
    return found


_EXTRA = "_extra_state"


def unwrapped(
    functional: Functional, state: Mapping[str, Tensor], where: str = "weights"
) -> Mapping[str, Tensor]:
    """Return a state dict under the network's own names.

    DataParallel, `torch.compile` and training frameworks hold a network as an attribute ("module.",
    "_orig_mod.", "model."), whose name then stands before all others; what has another name before
    it, such as the weights of a criterion, is no part of the network. Masks of
    `torch.nn.utils.prune` are multiplied in.

    Raises:
        UserError: If several parts of it could be the network, or the network keeps more than
            tensors.
    """
    known = functional.module.state_dict().keys()
    if extra := [name for name in known if name.endswith(_EXTRA)]:
        what = f"the network keeps '{extra[0]}', which is no part of its parameters and buffers"
        fix = "make it a buffer (register_buffer), in place of get_extra_state"
        raise UserError(what, where=functional.name, fix=fix)
    state = {name: tensor for name, tensor in state.items() if not name.endswith(_EXTRA)}
    if "n_averaged" not in known:  # torch.optim.swa_utils counts there
        state = {name: tensor for name, tensor in state.items() if name != "n_averaged"}
    state = {_without_wrappers(name, known): tensor for name, tensor in state.items()}
    state = _without_masks(state) if not any(name.endswith("_orig") for name in known) else state
    first = next(iter(state), "")
    for end in [0, *(place + 1 for place, letter in enumerate(first) if letter == ".")]:
        if not all(name.startswith(first[:end]) for name in state):
            break
        cut = {name[end:]: tensor for name, tensor in state.items()}
        if cut.keys() & known:
            return cut
    return _only_part(known, state, where)


# Names under which torch's wrappers hold a part of a network, wherever it stands.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def _without_wrappers(name: str, known: Set[str]) -> str:
    """Return a name without the names of wrappers, unless the network has it."""
    parts = name.split(".")
    if name in known or not _WRAPPERS & set(parts):
        return name
    return ".".join(part for part in parts if part not in _WRAPPERS)


def _without_masks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as pruned networks have them: `weight_orig` times `weight_mask`."""
    found = dict(state)
    for name in state:
        base = name.removesuffix("_orig")
        if base != name and f"{base}_mask" in state and base not in state:
            found[base] = found.pop(name) * found.pop(f"{base}_mask")
    return found


def _only_part(known: Set[str], state: Mapping[str, Tensor], where: str) -> Mapping[str, Tensor]:
    """Return the part of a state dict, under one name, that has all tensors of the network."""
    starts = {name[: place + 1] for name in state for place, c in enumerate(name) if c == "."}
    parts = {
        start: {name.removeprefix(start): t for name, t in state.items() if name.startswith(start)}
        for start in sorted(starts)
    }
    whole = [start for start, part in parts.items() if known <= part.keys()]
    if len(whole) > 1:
        what = f"holds the network under {' and '.join(repr(start) for start in whole)}"
        raise UserError(what, where=where, fix="save the one that you mean, without the others")
    if whole:
        return parts[whole[0]]
    return _likeliest(known, [state, *parts.values(), *_within(known, state)])


def _within(known: Set[str], state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return a state dict under each name under which the network holds a part of itself."""
    starts = {name[: place + 1] for name in known for place, c in enumerate(name) if c == "."}
    return [{start + name: t for name, t in state.items()} for start in sorted(starts)]


def _likeliest(known: Set[str], found: Sequence[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """Return what has most names of the network; the first, if several have as many."""
    shared = [len(known & one.keys()) for one in found]
    most = max(shared)
    return found[shared.index(most) if shared.count(most) == 1 else 0]


def divide(
    functional: Functional, state: Mapping[str, Tensor], where: str
) -> tuple[Tensors, Tensors]:
    """Divide a state dict into parameters and buffers, in the types of the network's own.

    Of tied tensors any of their names will do. Buffers that no state dict holds
    (`persistent=False`) are the network's own.

    Raises:
        UserError: If a tensor is unknown to the network, is of another kind of number, or one is
            missing.
    """
    module, held = functional.module, functional.module.state_dict()
    firsts: dict[int, str] = {}
    tied = module.named_parameters(remove_duplicate=False)
    names = {name: firsts.setdefault(id(p), name) for name, p in tied}
    own = dict(module.named_buffers())
    again = held.keys() - names.keys() - own.keys()  # further names of tied buffers
    rest = {name: t for name, t in state.items() if name not in again}
    _check_tied(names, rest, where)
    params = {names.get(name, name): t for name, t in rest.items() if name not in own}
    buffers = {name: b for name, b in own.items() if name not in held}
    # Older versions of torch counted no batches; torch itself reads their files, too.
    buffers |= {name: b for name, b in own.items() if name.endswith("num_batches_tracked")}
    buffers |= {name: t for name, t in rest.items() if name in own}
    _check_names(list(functional.shapes), list(own), [*params, *buffers], where)
    checkpoints.match(functional, params, buffers, where)
    like = {**dict(module.named_parameters()), **own}
    cast = (
        {name: _as_type(t, like[name].dtype, f"{where}: {name}") for name, t in part.items()}
        for part in (params, buffers)
    )
    return next(cast), next(cast)


def _check_tied(names: Mapping[str, str], state: Mapping[str, Tensor], where: str) -> None:
    """Refuse two tensors for one parameter that the network has under two names."""
    for name, first in names.items():
        both = name != first and name in state and first in state
        if both and not torch.equal(*(state[key].nan_to_num() for key in (first, name))):
            what = f"'{first}' and '{name}' are one parameter of the network, and differ here"
            raise UserError(what, where=where, fix="give the model that these weights are of")


def _check_names(
    parameters: Sequence[str], buffers: Sequence[str], given: Sequence[str], where: str
) -> None:
    """Refuse weights that are not those of the network's tensors, by name.

    Raises:
        UserError: With names that are missing, and those that are there instead.
    """
    known = {*parameters, *buffers}
    missing = [name for name in (*parameters, *buffers) if name not in given]
    others = [name for name in given if name not in known]
    fix = "give the model that these weights were trained with"
    if missing:
        instead = f", and holds {_some(others)} instead" if others else ""
        kind = "parameter" if missing[0] in parameters else "buffer"
        kind += "s" * (len(missing) > 1)
        what = f"lacks the {kind} {_some(missing)} of {len(known)} tensors{instead}"
        raise UserError(what, where=where, fix=fix)
    if others:
        what = f"holds {_some(others)}, unknown to the network"
        raise UserError(what, where=where, fix=fix)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{name}'" for name in names[:3]) + more


def _as_type(tensor: Tensor, dtype: torch.dtype, where: str) -> Tensor:
    """Return a tensor in another precision; one of another kind of number is refused."""
    floating = tensor.is_floating_point(), dtype.is_floating_point
    unlike = floating[0] != floating[1] or tensor.is_complex() != dtype.is_complex
    cast = tensor if unlike and tensor.is_complex() else tensor.to(dtype)
    if unlike and not (floating == (True, False) and torch.equal(cast.to(tensor.dtype), tensor)):
        what = f"holds {tensor.dtype}, and the network has {dtype}"
        raise UserError(what, where=where, fix="save the weights before they are quantised or cast")
    return cast
