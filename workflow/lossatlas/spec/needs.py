"""What a job asks a scheduler for: threads, memory, minutes, a GPU; as functions of its work.

Generous on purpose: a job that is stopped for asking too little costs more than one that waits for
a larger place. Each further attempt asks for more.
"""

from __future__ import annotations

import math
import os

from lossatlas.spec.catalogue import NETWORKS, corrupted_source, data_source
from lossatlas.spec.cost import (
    GPU,
    LAPTOP,
    images_of,
    job_hours,
    kept,
    path_floats,
    training_hours,
    window_pairs,
)
from lossatlas.spec.metrics import (
    Connectivity,
    Diffusion,
    Espro,
    Hessian,
    HessianPath,
    Landscape,
    MetricSettings,
    Simplex,
    SimplexVolume,
    Spro,
)
from lossatlas.spec.plan import NARROW, PlannedCell, multiplications, parameter_count

BASE_MB = 1500  # Python, torch and its libraries
LEAST_MB = 2000
UNKNOWN_MB = 4000  # a network of the user's own; profiles/slurm says how to ask for more
LEAST_MINUTES = 30
UNKNOWN_MINUTES = 240
MARGIN = 4.0  # estimates of time are within this factor, loaded machines included
CHUNK = 1024  # images that metrics pass through a network at once
SQUARES = 20  # matrices of the size of a window's Gram matrix that its analysis holds at once


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
    own = _mb(planned, replicas * 12, images, attempt)
    return own + math.ceil(replicas * _recorded_mb(planned)) * attempt


def _recorded_mb(planned: PlannedCell) -> float:
    """Return what the recorder holds of one replica: a ring of weights, its tables, their file."""
    record, parameters = planned.cell.recipe.record, parameter_count(planned.cell)
    if record is None or parameters is None:
        return 0.0
    tables = 2 * path_floats(planned) + 3 * window_pairs(planned)
    return 4 * (tables + (record.length + kept(planned)) * parameters) / 1e6


def _paths_mb(planned: PlannedCell, attempt: int) -> int:
    """Return the memory in MB of reading the paths of all replicas and analysing one window."""
    record = planned.cell.recipe.record
    if record is None:
        return LEAST_MB * attempt
    floats = path_floats(planned) + 2 * window_pairs(planned)
    floats = len(planned.seeds) * floats + 2 * SQUARES * record.length**2
    return max(LEAST_MB, math.ceil(BASE_MB + 1.3 * 4 * floats / 1e6)) * attempt


def metric_mb(planned: PlannedCell, settings: MetricSettings, attempt: int = 1) -> int:
    """Return the memory in MB of a job that measures one metric of a cell."""
    if isinstance(settings, Diffusion):
        return _paths_mb(planned, attempt)
    copies, images = 2 * len(planned.seeds) + 8, CHUNK
    if isinstance(settings, Landscape | HessianPath):
        copies += len(planned.seeds) * kept(planned)
    if isinstance(settings, Hessian | HessianPath):
        more = settings.probes // 2 if isinstance(settings, Hessian) else 0
        copies += max(settings.iterations + more, settings.density_steps)  # basis of Lanczos
        images = max(CHUNK, 3 * min(settings.chunk, settings.samples) // 2)  # differentiated twice
    if isinstance(settings, Connectivity):
        copies += 16 * (settings.bends + 2)
        images = max(CHUNK, 4 * settings.batch_size)
    if isinstance(settings, Spro):
        copies += _vectors(settings)
    predictions = _predictions(planned, settings) if isinstance(settings, Espro) else 0
    return _mb(planned, copies, images, attempt, 2 * predictions)


def _vectors(settings: Spro) -> int:
    """Return how many vectors as long as the parameters a complex is made and looked at with.

    Its vertices thrice; in float64 a basis of each face, and what one is made with; the networks
    that are sampled at once.
    """
    modes, connectors, simplexes, sampled = 1, 0, 1, 0
    if isinstance(settings, Espro):
        connectors, sampled = settings.vertices, settings.vertices * settings.draws
        sampled += settings.cycles
    elif isinstance(settings, SimplexVolume):
        modes = simplexes = 2
        connectors, sampled = settings.connectors, settings.points
    elif isinstance(settings, Simplex):
        connectors = settings.connectors
        if settings.complex == "shared":
            modes = simplexes = settings.modes
    largest, vertices = connectors + 1, modes + connectors
    if isinstance(settings, Simplex) and isinstance(settings.complex, list):
        simplexes, largest = len(settings.complex), max(map(len, settings.complex), default=0)
        vertices = len({vertex for simplex in settings.complex for vertex in simplex})
    return 3 * vertices + 2 * (simplexes + 3) * largest + sampled


def _predictions(planned: PlannedCell, settings: Espro) -> int:
    """Return how many log-probabilities ensembles keep."""
    source = data_source(planned.cell.data.source)
    shifted = source.test * len(settings.severities)
    if settings.corruptions:
        shifted += corrupted_source(settings.corruptions).test
    members = 1 + settings.vertices * settings.draws + settings.cycles
    single = members * (source.test + source.train - images_of(planned))
    mixed = (settings.vertices + 2) * shifted
    return len(planned.seeds) * (single + mixed) * source.classes


def _mb(planned: PlannedCell, copies: int, images: int, attempt: int, predictions: int = 0) -> int:
    """Sum up data, predictions, copies of the parameters, and the activations of a backward pass.

    Activations per image are about `Network.activations` times multiply-adds / sqrt(parameters),
    whatever the width: 15 for ResNet18.
    """
    parameters, work = parameter_count(planned.cell), multiplications(planned.cell)
    if not parameters or work is None:
        return UNKNOWN_MB * attempt
    source = data_source(planned.cell.data.source)
    pixels = source.channels * source.image_size**2
    data = 3 * pixels * (images_of(planned) + source.test)
    multiple = NETWORKS[planned.cell.model.builder].activations
    floats = (
        data + predictions + copies * parameters + images * multiple * work / math.sqrt(parameters)
    )
    return max(LEAST_MB, math.ceil(BASE_MB + 1.3 * 4 * floats / 1e6)) * attempt


def training_minutes(planned: PlannedCell, attempt: int = 1) -> int:
    """Return the minutes of a job that trains one block of a cell."""
    hours = training_hours(planned, GPU if gpu() else LAPTOP)
    return _minutes(None if hours is None else hours / max(1, len(planned.blocks)), attempt)


def metric_minutes(planned: PlannedCell, settings: MetricSettings, attempt: int = 1) -> int:
    """Return the minutes of a job that measures one metric of a cell."""
    return _minutes(job_hours(planned, settings, GPU if gpu() else LAPTOP), attempt)


def _minutes(hours: float | None, attempt: int) -> int:
    guess = UNKNOWN_MINUTES if hours is None else math.ceil(60 * MARGIN * hours)
    return max(LEAST_MINUTES, guess) * attempt
