"""A researcher's own checkpoints, model and data, measured without a config or a workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lossatlas import device, measuring, models, replicas, store
from lossatlas.data.loading import open_data
from lossatlas.errors import UserError
from lossatlas.metrics.base import Metric
from lossatlas.models.functional import Functional, Tensors
from lossatlas.models.outputs import check_outputs
from lossatlas.reading import Reader, arrays_of
from lossatlas.simplex import triangle
from lossatlas.tasks import Task
from lossatlas.training import checkpoints
from lossatlas.training.foreign import divide, read_state, unwrapped
from lossatlas.training.networks import Networks


def measure_custom(
    metric: Metric,
    files: Sequence[str],
    model: str,
    arguments: Mapping[str, Any],
    data: str,
    task: str = "",
    *,
    unit_pixels: bool = False,
) -> store.Record:
    """Measure one metric on checkpoints of the user's own; their places are their seeds.

    Args:
        metric: With its settings.
        files: State dicts, as safetensors or as `torch.save` wrote them (tensors only).
        model: Built-in name or "package.module:object".
        arguments: The model's own arguments.
        data: A data set's name, an .h5 or .npz file, or "package.module:object".
        task: What the network is for; default: classification.
        unit_pixels: Whether the network was trained on pixels in [0, 1], and not on standardised
            ones.

    Raises:
        UserError: If something is missing, does not fit, or fewer checkpoints are given than
            the metric compares.
    """
    measuring.check_without_path(metric)
    if len(files) < metric.least:
        what = f"'{metric.kind}' compares checkpoints; {len(files)} given"
        raise UserError(what, where="--checkpoint", fix=f"give at least {metric.least}")
    networks = read_networks(
        files, model, arguments, data, task, trains=metric.trains, unit_pixels=unit_pixels
    )
    _check_task(metric, networks.data.task)
    if metric.needs_held_out and networks.data.held_out is None:
        fix = "give 'package.module:object', a TensorData with `held_out`"
        raise UserError("no training images are held out", where="--data", fix=fix)
    record = measuring.measure_networks(metric, networks)
    record.settings, record.mode = metric.model_dump(), getattr(metric, "mode", "")
    record.spec = {"model": model, "arguments": dict(arguments), "data": data, **_seen(networks)}
    record.provenance = device.provenance(checkpoints=[Path(file).name for file in files])
    return record


def measure_stored(metric: Metric, cell: str, seeds: Sequence[int] = ()) -> store.Record:
    """Measure one metric on replicas of a cell of the workflow; its results stay as they are.

    Args:
        metric: With its settings.
        cell: As in `replicas.load`.
        seeds: Which replicas; default: all that are there.

    Raises:
        UserError: If something is missing, or fewer replicas are there than the metric compares.
    """
    stored = replicas.find(cell)
    wanted = sorted(set(seeds) or stored.blocks)
    stored.check(wanted)
    good = [seed for seed in wanted if stored.blocks[seed].status == "ok"]
    lost = [seed for seed in wanted if seed not in good]
    if len(wanted) < metric.least:
        what = f"'{metric.kind}' compares replicas; {len(wanted)} given"
        raise UserError(what, where="--seed", fix=f"give at least {metric.least}")
    reader = Reader(metric, stored.cell, stored.inputs, stored.blocks, lost)
    record = store.Record(metric.kind)
    if len(good) >= metric.least:
        if metric.reads != "path":
            replicas.dataset_of(stored)
        arrays = metric.reads == "arrays"
        given = arrays_of(reader.networks(good)) if arrays else reader.given(good)
        if metric.needs_held_out and given.networks.data.held_out is None:
            fix = "give the data set a fraction below 1"
            raise UserError("no training images are held out", where=stored.cell.id, fix=fix)
        record = measuring.measure_given(metric, given, good, lost)
    measuring.add_diverged(record, metric, good, lost, stored.cell.data.task)
    record.settings, record.mode = metric.model_dump(), getattr(metric, "mode", "")
    record.spec = stored.cell.spec
    record.provenance = device.provenance(seeds=wanted)
    return record


def _check_task(metric: Metric, task: Task) -> None:
    if metric.needs_classes and (not task.classes or task.sequence):
        what = f"'{metric.kind}' needs one class per example, and the task is '{task.name}'"
        raise UserError(what, where="--task", fix="another metric")


def plane_custom(
    files: Sequence[str],
    model: str,
    arguments: Mapping[str, Any],
    data: str,
    task: str = "",
    *,
    points: int = 21,
    images: int = 512,
    unit_pixels: bool = False,
) -> store.Record:
    """Evaluate the plane through three checkpoints of the user's own.

    BatchNorm statistics are estimated anew on the training images at every point.

    Args:
        files: As in `measure_custom`; three.
        model: As there.
        arguments: As there.
        data: As there.
        task: As there.
        points: Along each side of the raster.
        images: Training images in the loss, the same at all points.
        unit_pixels: As in `measure_custom`.

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
    networks = read_networks(files, model, arguments, data, task, unit_pixels=unit_pixels)
    record = triangle.measure(networks, points, images)
    record.settings = {"points": points, "images": images}
    record.spec = {"model": model, "arguments": dict(arguments), "data": data, **_seen(networks)}
    record.provenance = device.provenance(checkpoints=[Path(file).name for file in files])
    return record


def draw_plane(record: store.Record, file: str) -> None:
    """Draw the record of a plane into a .png or .pdf.

    Args:
        record: Of `plane_custom`.
        file: Its ending is the format.

    Raises:
        UserError: If the file cannot be written.
    """
    from lossatlas.figures import Tables, draw, simplex_landscape
    from lossatlas.spec.figures import Figure
    from lossatlas.tables import collect

    name = "plane"
    tables = Tables(
        collect.scalar_frame(name, {name: {}}, {name: record.scalars}),
        collect.series_frame(name, {name: {}}, {name: [*record.series, *record.tables]}),
    )
    style = Figure(draws="simplex_planes")
    drawn = simplex_landscape.planes(tables, style, "", "")
    page = draw.whole_page(drawn.figure)
    draw.save(drawn, Path(file), file.rpartition(".")[2], style.dpi, page)


def _seen(networks: Networks) -> dict[str, Any]:
    """Return how pixels became inputs, where that is known."""
    pixels = networks.data.pixels
    return {} if pixels is None else {"mean": list(pixels.mean), "std": list(pixels.std)}


def read_networks(
    files: Sequence[str],
    model: str,
    arguments: Mapping[str, Any],
    data: str,
    task: str = "",
    *,
    trains: bool = False,
    unit_pixels: bool = False,
) -> Networks:
    """Read checkpoints, their model and their data.

    Args:
        files: As in `measure_custom`, as are `model`, `arguments` and `data`.
        model: As there.
        arguments: As there.
        data: As there.
        task: As there.
        trains: Whether the network is trained on.
        unit_pixels: As in `measure_custom`.

    Raises:
        UserError: If something is missing or does not fit.
    """
    images = open_data(data, device.choose(), task, unit_pixels=unit_pixels)
    example = images.train.images[:2]
    network = models.build(model, arguments, example=example, **images.shape)
    functional = Functional(network)
    weights: dict[int, tuple[Tensors, Tensors]] = {}
    for seed, file in enumerate(files):
        weights[seed] = divide(functional, unwrapped(functional, read_state(file), file), file)
    networks = checkpoints.assemble(functional, weights, images, device.choose())
    first = networks.one(0)
    check_outputs(functional, *first, images.train, images.classes, train=trains)
    return networks
