"""The loss on the plane through three networks."""

from __future__ import annotations

import math

import numpy as np

from lossatlas.connectivity.evaluate import shuffled
from lossatlas.metrics.results import in_unit
from lossatlas.similarity.rows import scalar
from lossatlas.simplex import planes
from lossatlas.simplex.complexes import Vertex
from lossatlas.simplex.points import rows
from lossatlas.store import Record
from lossatlas.training.networks import Networks, tell_of_buffers


def measure(networks: Networks, points: int, images: int, *words: object) -> Record:
    """Evaluate the plane through three networks.

    BatchNorm statistics are estimated anew on the training images at every point.

    Args:
        networks: Three.
        points: Along each side of the raster.
        images: Training images in the loss, the same at all points.
        words: What the choice of these is named after, besides "plane".

    Returns:
        A record with the training loss (nats) of each network and the largest one inside and
        outside the triangle, and the raster as `planes.tables`.

    Raises:
        UserError: If the networks lie on one line.
    """
    tell_of_buffers(networks)
    functional, buffers = networks.functional, networks.one(0)[1]
    corners = rows(networks.params, functional.shapes)
    raster = planes.raster(corners, points)
    train = shuffled(networks.data.train, "plane", *words)
    some = train.take(slice(0, images))
    loss, error = planes.evaluate(functional, corners, raster.weights, buffers, some, train.images)
    ends, _ = planes.evaluate(functional, corners, np.eye(3), buffers, some, train.images)
    vertices = [Vertex(True, seed) for seed in networks.seeds]
    record = Record("plane", tables=planes.tables(vertices, raster, loss, error))
    for seed, value in zip(networks.seeds, ends, strict=True):
        record.scalars.append(scalar("corner_loss", float(value), replica=seed, unit="nats"))
    for name, here in (("inside", raster.inside), ("outside", ~raster.inside)):
        largest = float(loss[here].max()) if here.any() else math.nan
        record.scalars.append(scalar(f"{name}_loss_max", largest, unit="nats"))
    return in_unit(record, networks.data.task.unit)
