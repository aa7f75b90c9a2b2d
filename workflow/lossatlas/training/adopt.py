"""One job for a replica that was trained elsewhere: from its file to what training leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lossatlas import device, store
from lossatlas.data.loading import load
from lossatlas.models.functional import Functional, Tensors
from lossatlas.models.outputs import check_outputs
from lossatlas.spec.cells import from_spec
from lossatlas.timing import stopwatch
from lossatlas.training import checkpoints
from lossatlas.training.foreign import checked_content, divide, state_in, unwrapped
from lossatlas.training.job import builder_of, write_spec

KIND = "final"  # what its only checkpoint is called, as that of a replica that is trained here


def adopt_replica(
    spec: Mapping[str, Any],
    seed: int,
    file: str,
    sha256: str,
    dataset: str,
    weights: str,
    history: str,
    code: str,
) -> None:
    """Check the weights of a replica, and write the two files that training would have written.

    The training record has the L2 norm of the trained parameters; of a replica with weights or
    statistics that are no numbers it is NaN, with the status "diverged".

    Args:
        spec: Canonical specification of the cell.
        seed: Of the replica.
        file: A state dict.
        sha256: Of the file's content, when the job was planned.
        dataset: Path of the data set, whose shape the network must have.
        weights: Path of the checkpoint to write.
        history: Path of the training record to write.
        code: Fingerprint of the code.

    Raises:
        UserError: If the file is gone, has changed, or does not fit the network and the data.
    """
    cell, used = from_spec(spec), stopwatch()
    content = checked_content(file, sha256)
    data = load(dataset, cell.data)
    functional = Functional(builder_of(cell, data)())
    both = divide(functional, unwrapped(functional, state_in(content, file), file), file)
    params, buffers = ({name: t.clone() for name, t in some.items()} for some in both)  # no views
    check_outputs(functional, params, buffers, data.train, data.classes, train=False)
    tensors = checkpoints.named(KIND, seed, params, buffers, functional)
    checkpoints.write(weights, tensors, cell.digest)
    record = store.Record("training", scalars=[_norm(functional, params, buffers, seed)])
    record.status = record.scalars[0].status
    record.spec, record.times = cell.spec, used()
    about = {"file": Path(file).name, "sha256": sha256}
    record.provenance = device.provenance(code=code, seeds=[seed], adopted=about)
    store.write(history, record, [weights])
    write_spec(cell)


def _norm(functional: Functional, params: Tensors, buffers: Tensors, seed: int) -> store.Scalar:
    """Return the L2 norm of the trained parameters, and how the replica ended."""
    numbers = [one for one in (*params.values(), *buffers.values()) if one.is_floating_point()]
    if not all(bool(torch.isfinite(one).all()) for one in numbers):
        return store.Scalar("weight_norm", math.nan, seed, status="diverged")
    squares = [float(params[name].double().square().sum()) for name in functional.trainable]
    return store.Scalar("weight_norm", math.sqrt(math.fsum(squares)), seed)
