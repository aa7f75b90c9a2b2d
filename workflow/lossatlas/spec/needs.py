"""What a job asks a scheduler for: threads, memory, minutes, a GPU; as functions of its work.

Generous on purpose: a job that is stopped for asking too little costs more than one that waits for
a larger place. Each further attempt asks for more of what the one before lacked (`attempts`): the
functions here are told how many times as much.
"""

from __future__ import annotations

import math
import os

from lossatlas.metrics.base import Memory, Metric
from lossatlas.spec.catalogue import NETWORKS, data_source
from lossatlas.spec.cost import GPU, LAPTOP, job_hours, training_hours
from lossatlas.spec.networks import Network
from lossatlas.spec.plan import NARROW, PlannedCell
from lossatlas.spec.sizes import (
    images_of,
    kept,
    multiplications,
    parameter_count,
    path_floats,
    window_pairs,
)

BASE_MB = 1500  # Python, torch and its libraries
LEAST_MB = 2000
UNKNOWN_MB = 4000  # a network of the user's own; profiles/slurm says how to ask for more
LEAST_MINUTES = 30
UNKNOWN_MINUTES = 240
MARGIN = 4.0  # estimates of time are within this factor, loaded machines included


def gpu() -> int:
    """Return how many GPUs a job with torch asks for: none where LOSSATLAS_DEVICE says "cpu"."""
    return 0 if os.environ.get("LOSSATLAS_DEVICE", "").startswith("cpu") else 1


def wide(planned: PlannedCell) -> bool:
    """Say whether one replica is enough to fill a device."""
    return (parameter_count(planned.cell) or 0) > NARROW


def threads(planned: PlannedCell) -> int:
    """Return CPU threads: narrow networks gain nothing from a second one."""
    return 2 if wide(planned) else 1


def training_mb(planned: PlannedCell, replicas: int, attempt: int = 1) -> int:
    """Return the memory in MB of a job that trains this many replicas together."""
    images = replicas * planned.cell.recipe.batch_size
    own = _mb(planned, Memory(replicas * 12, images), attempt)
    return own + math.ceil(replicas * _recorded_mb(planned)) * attempt


def _recorded_mb(planned: PlannedCell) -> float:
    """Return what the recorder holds of one replica: a ring of weights, its tables, their file."""
    record, parameters = planned.cell.recipe.record, parameter_count(planned.cell)
    if record is None or parameters is None:
        return 0.0
    tables = 2 * path_floats(planned) + 3 * window_pairs(planned)
    return 4 * (tables + (record.length + kept(planned)) * parameters) / 1e6


def adoption_mb(planned: PlannedCell, attempt: int = 1) -> int:
    """Return the memory in MB of a job that reads a replica: its file, its tensors, the network."""
    return _mb(planned, Memory(4, 2), attempt)


def metric_mb(planned: PlannedCell, metric: Metric, attempt: int = 1) -> int:
    """Return the memory in MB of a job that measures one metric of a cell."""
    return _mb(planned, metric.memory(planned), attempt)


def _mb(planned: PlannedCell, held: Memory, attempt: int) -> int:
    """Sum up data, numbers, copies of the parameters, and the activations of a backward pass.

    Activations per image are about `Network.activations` times multiply-adds / sqrt(parameters),
    whatever the width: 15 for ResNet18.
    """
    if not held.network:
        return _at_least(held.numbers, attempt)
    parameters, work = parameter_count(planned.cell), multiplications(planned.cell)
    if not parameters or work is None:
        return UNKNOWN_MB * attempt
    source = data_source(planned.cell.data.source)
    pixels = source.channels * source.image_size**2
    data = 3 * pixels * (images_of(planned) + source.test)
    network = NETWORKS.get(planned.cell.model.builder)  # None: a user's own, that was counted
    multiple = network.activations if network else Network.activations
    activations = multiple * work / math.sqrt(parameters)
    numbers = data + held.numbers + held.vectors * parameters + held.images * activations
    return _at_least(numbers, attempt)


def _at_least(numbers: float, attempt: int) -> int:
    """Return the memory in MB of Python, torch and so many numbers of 4 bytes."""
    return max(LEAST_MB, math.ceil(BASE_MB + 1.3 * 4 * numbers / 1e6)) * attempt


def training_minutes(planned: PlannedCell, attempt: int = 1, limit: float = math.inf) -> int:
    """Return the minutes of a job that trains one block of a cell.

    Args:
        planned: The cell.
        attempt: From 1.
        limit: Most hours that a queue gives a job (`walltime`): longer work is cut there, keeps
            what it has, and goes on in the next attempt.
    """
    hours = training_hours(planned, GPU if gpu() else LAPTOP)
    each = None if hours is None else hours / max(1, len(planned.blocks))
    return _minutes(each, attempt, limit)


def metric_minutes(
    planned: PlannedCell, metric: Metric, attempt: int = 1, limit: float = math.inf
) -> int:
    """Return the minutes of a job that measures one metric of a cell; as `training_minutes`."""
    return _minutes(job_hours(planned, metric, GPU if gpu() else LAPTOP), attempt, limit)


def _minutes(hours: float | None, attempt: int, limit: float) -> int:
    guess = UNKNOWN_MINUTES if hours is None else math.ceil(60 * MARGIN * hours)
    asked = max(LEAST_MINUTES, guess) * attempt
    return min(asked, max(1, math.floor(60 * limit))) if math.isfinite(limit) else asked
