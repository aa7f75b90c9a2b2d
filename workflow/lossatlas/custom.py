"""A researcher's own checkpoints, model and data, measured without a config or a workflow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lossatlas import device, measuring, models, store
from lossatlas.connectivity.evaluate import shuffled
from lossatlas.data.loading import open_data
from lossatlas.errors import UserError
from lossatlas.metrics.base import Metric
from lossatlas.models.functional import Functional, Tensors
from lossatlas.models.outputs import check_outputs
from lossatlas.similarity.rows import scalar
from lossatlas.simplex import planes
from lossatlas.simplex.complexes import Vertex
from lossatlas.simplex.points import rows
from lossatlas.training import checkpoints
from lossatlas.training.networks import Networks


def measure_custom(
    metric: Metric,
    files: Sequence[str],
    model: str,
    arguments: Mapping[str, Any],
    data: str,
) -> store.Record:
    """Measure one metric on checkpoints of the user's own; their places are their seeds.

    Args:
        metric: With its settings.
        files: State dicts, as safetensors or as `torch.save` wrote them (tensors only).
        model: Built-in name or "package.module:object".
        arguments: The model's own arguments.
        data: A data set's name, an .h5 or .npz file, or "package.module:object".

    Raises:
        UserError: If something is missing, does not fit, or fewer checkpoints are given than
            the metric compares.
    """
    measuring.check_without_path(metric)
    if len(files) < metric.least:
        what = f"'{metric.kind}' compares checkpoints; {len(files)} given"
        raise UserError(what, where="--checkpoint", fix=f"give at least {metric.least}")
    networks = read_networks(files, model, arguments, data, trains=metric.trains)
    if metric.needs_held_out and networks.data.held_out is None:
        fix = "give 'package.module:object', a TensorData with `held_out`"
        raise UserError("no training images are held out", where="--data", fix=fix)
    record = measuring.measure_networks(metric, networks)
    record.settings, record.mode = metric.model_dump(), getattr(metric, "mode", "")
    record.spec = {"model": model, "arguments": dict(arguments), "data": data}
    record.provenance = device.provenance(checkpoints=[Path(file).name for file in files])
    return record


def plane_custom(
    files: Sequence[str],
    model: str,
    arguments: Mapping[str, Any],
    data: str,
    *,
    points: int = 21,
    images: int = 512,
) -> store.Record:
    """Evaluate the plane through three checkpoints of the user's own.

    BatchNorm statistics are estimated anew on the training images at every point.

    Args:
        files: As in `measure_custom`; three.
        model: As there.
        arguments: As there.
        data: As there.
        points: Along each side of the raster.
        images: Training images in the loss, the same at all points.

    Returns:
        A record with the training loss (nats) of each checkpoint and the largest one inside and
        outside the triangle, and the raster as `planes.tables`.

    Raises:
        UserError: If something is missing or does not fit, there are not three checkpoints, or they
            lie on one line.
    """
    if len(files) != 3:
        what = f"a plane goes through three checkpoints; {len(files)} given"
        raise UserError(what, where="--checkpoint", fix="give three files")
    networks = read_networks(files, model, arguments, data)
    functional, buffers = networks.functional, networks.one(0)[1]
    corners = rows(networks.params, functional.shapes)
    raster = planes.raster(corners, points)
    train = shuffled(networks.data.train, "plane")
    some = train.take(slice(0, images))
    loss, error = planes.evaluate(functional, corners, raster.weights, buffers, some, train.images)
    ends, _ = planes.evaluate(functional, corners, np.eye(3), buffers, some, train.images)
    tables = planes.tables([Vertex(True, place) for place in range(3)], raster, loss, error)
    record = store.Record("plane", tables=tables)
    for place, value in enumerate(ends):
        record.scalars.append(scalar("corner_loss", float(value), replica=place, unit="nats"))
    for name, here in (("inside", raster.inside), ("outside", ~raster.inside)):
        largest = float(loss[here].max()) if here.any() else math.nan
        record.scalars.append(scalar(f"{name}_loss_max", largest, unit="nats"))
    record.settings = {"points": points, "images": images}
    record.spec = {"model": model, "arguments": dict(arguments), "data": data}
    record.provenance = device.provenance(checkpoints=[Path(file).name for file in files])
    return record


def read_networks(
    files: Sequence[str],
    model: str,
    arguments: Mapping[str, Any],
    data: str,
    *,
    trains: bool = False,
) -> Networks:
    """Read checkpoints, their model and their data.

    Args:
        files: As in `measure_custom`, as are `model`, `arguments` and `data`.
        model: As there.
        arguments: As there.
        data: As there.
        trains: Whether the network is trained on.

    Raises:
        UserError: If something is missing or does not fit.
    """
    images = open_data(data, device.choose())
    example = images.train.images[:2]
    network = models.build(model, arguments, example=example, **images.shape)
    functional = Functional(network)
    weights: dict[int, tuple[Tensors, Tensors]] = {}
    for seed, file in enumerate(files):
        weights[seed] = divide(functional, unwrapped(functional, read_state(file)), file)
    networks = checkpoints.assemble(functional, weights, images, device.choose())
    first = networks.one(0)
    check_outputs(functional, *first, images.train, images.classes, train=trains)
    return networks


def read_state(file: str) -> dict[str, Tensor]:
    """Read a state dict without executing anything that the file brings along.

    Raises:
        UserError: If it is missing, or holds anything but named tensors.
    """
    if not Path(file).exists():
        raise UserError("no such file", where=file)
    if file.endswith(".safetensors"):
        try:
            return safetensors.torch.load_file(file)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"not a safetensors file ({error})", where=file) from None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
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
