"""Weights of trained replicas on disk: safetensors, one file per block of replicas.

Names of tensors are "<checkpoint>/<seed>/param/<name>" and "<checkpoint>/<seed>/buffer/<name>",
and "<checkpoint>/<seed>/frozen/<name>" for parameters that the module does not train.
The metadata hold the cell's digest and the file's checksum (`seal`); files that were written before
there was one are read without. Nothing here executes code that a file brings along.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors

from lossatlas import seal, store
from lossatlas.errors import UserError, nearest
from lossatlas.files import atomic

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lossatlas.data.tensors import TensorData
    from lossatlas.models.functional import Functional, Tensors
    from lossatlas.training.networks import Networks
    from lossatlas.training.trained import Trained

ENDS = ("final_train_loss", "weight_norm")  # scalars whose status says how a replica ended
REDO = "delete it and run the same command again: it will be made anew"


def save(path: str | os.PathLike[str], trained: Trained, digest: str) -> None:
    """Write all kept checkpoints of a block of replicas, atomically.

    Args:
        path: The file.
        trained: What training left behind.
        digest: Of the cell's specification; checked when the file is read.
    """
    from lossatlas.models.functional import one_of

    tensors: dict[str, Tensor] = {}
    for kind, (params, buffers) in trained.checkpoints.items():
        for index, seed in enumerate(trained.seeds):
            both = one_of(params, index), one_of(buffers, index)
            tensors |= named(kind, seed, *both, trained.functional)
    write(path, tensors, digest)


def named(
    kind: str, seed: int, params: Tensors, buffers: Tensors, functional: Functional
) -> Tensors:
    """Return the tensors of one replica on the CPU, under the names that they have in a file."""
    trainable = set(functional.trainable)
    found = {}
    for group, some in (("param", params), ("buffer", buffers)):
        for name, tensor in some.items():
            still = group == "param" and name not in trainable
            key = f"{kind}/{seed}/{'frozen' if still else group}/{name}"
            found[key] = tensor.detach().cpu().contiguous()
    return found


def write(path: str | os.PathLike[str], tensors: Tensors, digest: str) -> None:
    """Write tensors under the names that `named` gives, atomically.

    Args:
        path: The file.
        tensors: Of all replicas.
        digest: Of the cell's specification.
    """
    import safetensors.torch

    # one entry: safetensors writes several in a random order
    metadata = {"digest": f"{digest} {seal.BLANK}"}
    with atomic(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata)
        seal.close(temporary)


def _open(path: str, framework: str, digest: str | None) -> Any:
    if not Path(path).exists():
        raise UserError("no such file", where=path, fix="run the command that makes it")
    damaged = UserError("truncated or damaged: its checksum is wrong", where=path, fix=REDO)
    try:
        whole = seal.whole(path)
        if whole is False:
            raise damaged
        file = safetensors.safe_open(path, framework)
        metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        what = f"truncated, or not a safetensors file ({error})"
        raise UserError(what, where=path, fix=REDO) from None
    cell, _, sealed = metadata.get("digest", "").partition(" ")
    if sealed and not whole:
        raise damaged
    if digest is not None and cell != digest:
        what = "holds weights of another cell than its folder says"
        raise UserError(what, where=path, fix=REDO)
    return file


def check_ours(path: str, where: str) -> None:
    """Refuse to write over weights that something else wrote.

    Raises:
        UserError: If the file has no digest of a cell's specification.
    """
    try:
        file = safetensors.safe_open(path, "np")
        known = "digest" in (file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        known = False
    if not known:
        fix = "give a name that is free, or remove it"
        raise UserError(f"'{path}' is there and is none of ours", where=where, fix=fix)


def read_weights(
    paths: Iterable[str],
    seeds: Iterable[int],
    checkpoint: str,
    framework: str,
    digest: str | None,
    *,
    frozen: bool = True,
) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """Return seed -> (parameters, buffers).

    Args:
        paths: Files of the blocks that hold the seeds.
        seeds: Which replicas.
        checkpoint: "final", "best" or "early".
        framework: "pt" for torch tensors on the CPU, "np" for arrays (no torch is imported).
        digest: Of the cell; None reads weights of any cell.
        frozen: Whether to read parameters that the module does not train, too.

    Raises:
        UserError: If a file is missing, damaged, of another cell, or lacks the checkpoint.
    """
    wanted = set(seeds)
    found: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
    for path in paths:
        file = _open(path, framework, digest)
        kinds = set()
        for key in file.keys():  # noqa: SIM118 -- it is no mapping
            kind, _, rest = key.partition("/")
            seed, _, rest = rest.partition("/")
            group, _, name = rest.partition("/")
            kinds.add(kind)
            if kind == checkpoint and int(seed) in wanted and (frozen or group != "frozen"):
                both = found.setdefault(int(seed), ({}, {}))
                both[group == "buffer"][name] = file.get_tensor(key)
        if checkpoint not in kinds:
            fix = nearest(checkpoint, kinds)
            raise UserError(f"holds no checkpoint '{checkpoint}'", where=path, fix=fix)
    missing = sorted(wanted - found.keys())
    if missing:
        raise UserError(f"no weights of seeds {missing}", where=", ".join(paths), fix=REDO)
    return {seed: found[seed] for seed in sorted(found)}


def kept_epochs(paths: Iterable[str]) -> list[int]:
    """Return after which epochs weights were kept along training, ascending.

    Raises:
        UserError: If a file is missing or damaged.
    """
    kinds = {key.partition("/")[0] for path in paths for key in _open(path, "np", None).keys()}  # noqa: SIM118
    return sorted(int(kind[6:]) for kind in kinds if kind.startswith("epoch-"))


def statuses(paths: Iterable[str]) -> dict[int, str]:
    """Return seed -> "ok" or "diverged" from the training records of a cell's blocks.

    What says it is the final training loss; of replicas trained elsewhere, their norm.

    Raises:
        UserError: If a record is missing or damaged.
    """
    found = {}
    for path in paths:
        record = store.read(path, "training", arrays=False)
        for scalar in record.scalars:
            if scalar.name in ENDS and scalar.replica is not None:
                found[scalar.replica] = scalar.status
    return found


def match(
    functional: Functional, params: dict[str, Any], buffers: dict[str, Any], where: str
) -> None:
    """Check that weights fit a network.

    Raises:
        UserError: With the first tensor that is missing, unknown or of another shape.
    """
    for kind, own, given in (
        ("parameter", {k: tuple(s) for k, s in functional.shapes.items()}, params),
        ("buffer", {k: tuple(b.shape) for k, b in functional.module.named_buffers()}, buffers),
    ):
        for name in {**own, **given}:
            fix = "give the model that these weights were trained with"
            if name not in given:
                raise UserError(f"lacks the {kind} '{name}'", where=where, fix=fix)
            if name not in own:
                raise UserError(f"has an unknown {kind} '{name}'", where=where, fix=fix)
            shape = tuple(np.shape(given[name]))
            if shape != own[name]:
                what = f"{kind} '{name}' has shape {shape}, the model wants {own[name]}"
                raise UserError(what, where=where, fix=fix)


def assemble(
    functional: Functional,
    weights: dict[int, tuple[Tensors, Tensors]],
    data: TensorData,
    device: torch.device,
    diverged: Iterable[int] = (),
    where: str = "weights",
) -> Networks:
    """Put checked weights of the replicas that did not diverge on the device.

    Raises:
        UserError: If weights do not fit the network.
    """
    from lossatlas.models.functional import stack
    from lossatlas.training.networks import Networks

    lost = sorted(diverged)
    good = [seed for seed in weights if seed not in lost]
    for seed in good:
        match(functional, *weights[seed], f"{where} (seed {seed})")
    states = [weights[seed] for seed in good]
    order = list(functional.shapes)
    params = stack([{name: s[0][name].to(device) for name in order} for s in states])
    buffers = stack([{name: b.to(device) for name, b in s[1].items()} for s in states])
    return Networks(functional, params, buffers, good, data, lost)
