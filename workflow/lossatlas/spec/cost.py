"""What cells cost: a model of time and disk for `plan`, from counts of multiply-adds.

A step takes the longer of a floor (launching its kernels) and its arithmetic (6 floating-point
operations per multiply-add for a training step, 2 for a forward pass). Estimates, not promises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lossatlas.simplex import complexes
from lossatlas.simplex.complexes import Complex
from lossatlas.spec.catalogue import NETWORKS, corrupted_source, data_source
from lossatlas.spec.metrics import (
    Cka,
    Connectivity,
    Diffusion,
    Espro,
    Hessian,
    HessianPath,
    Landscape,
    MetricSettings,
    Performance,
    Simplex,
    SimplexVolume,
    Spro,
)
from lossatlas.spec.plan import PlannedCell, multiplications, parameter_count

START = 4.0 / 3600  # hours that any job takes to start Python and torch
LAYERS = 20  # of which a step takes the least time of a device
SECONDS_PER_PAIR = 1.5e-6  # of points of a window that `diffusion` analyses, on one CPU core


@dataclass(frozen=True)
class Machine:
    """A device: its name, the least time of a training step, and its arithmetic per second.

    The least time is that of up to 20 layers; deeper networks launch more kernels. A step of two
    images took 27 ms for ResNet18, 25, 94 and 206 ms for ResNets of 14, 56 and 110 layers.
    Few channels leave a CPU's vector units idle: a network of P parameters has
    sqrt(P) / (sqrt(P) + narrow) of that arithmetic. Measured with ResNet18 of width 2 to 128 and
    the networks of the other papers, of 2 to 60 GFLOP/s, this is right to a factor of 3.
    """

    name: str
    seconds_per_step: float
    flops: float
    narrow: float = 0.0

    def floor(self, planned: PlannedCell) -> float:
        """Return the least seconds of a step of a cell's network."""
        depth = planned.cell.axis("depth")
        return self.seconds_per_step * max(1.0, depth / LAYERS if depth else 1.0)

    def rate(self, planned: PlannedCell) -> float:
        """Return the arithmetic per second of a cell's network."""
        size = math.sqrt(parameter_count(planned.cell) or 1)
        return self.flops * size / (size + self.narrow)


LAPTOP = Machine("one CPU core", seconds_per_step=0.004, flops=6e10, narrow=800.0)
GPU = Machine("one GPU (A100 class, fp32)", seconds_per_step=0.006, flops=1.5e13)


def images_of(planned: PlannedCell) -> int:
    """Return the number of training images of a cell."""
    data = planned.cell.data
    return data.kept(data_source(data.source).train)


def weights_bytes(planned: PlannedCell) -> int | None:
    """Return the size of a cell's checkpoints, or None for a network of the user's own."""
    count = parameter_count(planned.cell)
    copies = len(planned.seeds) * (len(planned.cell.recipe.checkpoints) + kept(planned))
    return None if count is None else 4 * count * copies


def vertices_bytes(planned: PlannedCell, settings: MetricSettings) -> int:
    """Return the size of the vertices that a metric trains; 0 for a network of the user's own."""
    if not isinstance(settings, Spro):
        return 0
    return 4 * (parameter_count(planned.cell) or 0) * _vertices(settings, len(planned.seeds))


def _vertices(settings: Spro, replicas: int) -> int:
    if isinstance(settings, Simplex):
        listed = settings.complex if isinstance(settings.complex, list) else []
        names = {vertex for simplex in listed for vertex in simplex if vertex.startswith("c")}
        return len(names) or settings.repeats * settings.connectors
    if isinstance(settings, SimplexVolume):
        return 3 * settings.repeats * len(settings.regularisations) * settings.connectors
    return replicas * settings.vertices if isinstance(settings, Espro) else 0


def training_hours(planned: PlannedCell, machine: Machine) -> float | None:
    """Return the hours that a cell's replicas take to train, or None if unknown."""
    recipe = planned.cell.recipe
    replicas, blocks = len(planned.seeds), len(planned.blocks)
    steps = -(-images_of(planned) // recipe.batch_size) * recipe.epochs
    work = _work(planned, 6 * recipe.batch_size)
    if work is None:
        return None
    floor = machine.floor(planned) * blocks  # replicas of a block share the launches
    return steps * max(floor, replicas * work / machine.rate(planned)) / 3600 + blocks * START


def job_hours(planned: PlannedCell, settings: MetricSettings, machine: Machine) -> float | None:
    """Return the hours that one metric of a cell takes, or None if unknown."""
    if isinstance(settings, Diffusion):
        return SECONDS_PER_PAIR * len(planned.seeds) * window_pairs(planned) / 3600 + START
    passes = _passes(planned, settings)
    work = _work(planned, 1)
    if work is None:
        return None
    floor, rate = machine.floor(planned), machine.rate(planned)
    seconds = sum(
        count * max(floor, factor * images * work / rate) for count, factor, images in passes
    )
    return seconds / 3600 + START


def path_floats(planned: PlannedCell) -> int:
    """Return how many numbers of 4 bytes are recorded of one replica's path beside its windows."""
    recipe, record = planned.cell.recipe, planned.cell.recipe.record
    if record is None:
        return 0
    depth = planned.cell.axis("depth")
    norms = 2 * (3 * (depth if isinstance(depth, int) else 20) + 60)  # of at most so many tensors
    of_steps = 2 * 8  # losses, lengths and sums
    per_step = record.projection + record.gradients + 2 * record.reservoir + norms + of_steps
    return recipe.steps(images_of(planned)) * per_step


def paths_bytes(planned: PlannedCell) -> int:
    """Return the size of the recorded paths of a cell's replicas."""
    return len(planned.seeds) * 4 * (path_floats(planned) + window_pairs(planned))


def window_pairs(planned: PlannedCell) -> int:
    """Return the entries of the Gram matrices of all windows of one replica's path."""
    recipe, record = planned.cell.recipe, planned.cell.recipe.record
    if record is None:
        return 0
    return len(record.windows(recipe.steps(images_of(planned)))) * record.length**2


def kept(planned: PlannedCell) -> int:
    """Return how many copies of all weights along training a recipe keeps."""
    recipe = planned.cell.recipe
    return 0 if recipe.record is None else len(recipe.record.kept_epochs(recipe.epochs))


def _work(planned: PlannedCell, factor: float) -> float | None:
    macs = multiplications(planned.cell)
    return None if macs is None else factor * macs


def _passes(planned: PlannedCell, settings: MetricSettings) -> list[tuple[float, float, int]]:
    """Return (how many passes, operations per multiply-add, images in a pass)."""
    images, replicas = images_of(planned), len(planned.seeds)
    if isinstance(settings, Performance):
        test = data_source(planned.cell.data.source).test
        return [(replicas * (images + test) / 1024, 2, 1024)]
    if isinstance(settings, Hessian):
        density = settings.density_probes * settings.density_steps
        products = settings.iterations + settings.probes + density
        return [(replicas * products, 12, settings.samples)]
    if isinstance(settings, HessianPath):
        density = settings.density_probes * settings.density_steps
        values = settings.eigenvalues if settings.mode == "paper" else 1
        products = replicas * kept(planned) * (settings.iterations * values + density)
        return [(products, 12, settings.samples)]
    if isinstance(settings, Landscape):
        planes = 2 if kept(planned) > 1 else 1  # the start alone spans none
        return [(replicas * planes * settings.side**2, 2, settings.samples)]
    if isinstance(settings, Connectivity):
        pairs = _pairs(settings, replicas)
        steps = pairs * settings.epochs * images / settings.batch_size
        evaluations = 2 * pairs * settings.points * 3 * images / 1024
        return [(steps, 6, settings.batch_size), (evaluations, 2, 1024)]
    if isinstance(settings, Cka):
        return [(replicas * settings.samples / settings.batch_size, 2, settings.batch_size)]
    if isinstance(settings, Spro):
        return _spro(planned, settings)
    return []


def _spro(planned: PlannedCell, settings: Spro) -> list[tuple[float, float, int]]:
    """Return the passes of simplexes: vertices to train, then networks to evaluate."""
    images, replicas = images_of(planned), len(planned.seeds)
    source = data_source(planned.cell.data.source)
    vertices = _vertices(settings, replicas)
    steps = vertices * settings.epochs * images / settings.batch_size
    training = (steps * settings.samples, 6.0, settings.batch_size)
    network = NETWORKS.get(planned.cell.model.builder)
    norms = images if network and network.norms else 0  # BatchNorm's statistics, at each point
    seen = 0.0  # images, by all networks
    if isinstance(settings, Simplex):
        plan = _complex(settings, planned.seeds)
        edges = len(plan.edges()) + math.comb(len(plan.modes), 2)
        points = len(plan.simplexes) * settings.points + edges * settings.places
        seen += settings.repeats * points * (images + source.test + norms)
        planes = len(settings.planes) or 4
        seen += planes * settings.raster**2 * (min(settings.images, images) + norms)
    elif isinstance(settings, SimplexVolume):
        seen += vertices * settings.points * (images + source.test + norms)
    elif isinstance(settings, Espro):
        sampled = settings.vertices * settings.draws + settings.cycles
        each = source.test * (1 + len(settings.severities)) + source.train - images
        if settings.corruptions:
            each += corrupted_source(settings.corruptions).test
        seen += replicas * ((1 + sampled) * each + sampled * norms)
    return [training, (seen / 1024, 2.0, 1024)]


def _complex(settings: Simplex, seeds: list[int]) -> Complex:
    return complexes.chosen(settings.complex, settings.modes, settings.connectors, seeds)


def _pairs(settings: Connectivity, replicas: int) -> int:
    if isinstance(settings.pairs, list):
        return len(settings.pairs)
    counts = {"first": 1, "chain": replicas - 1, "all": replicas * (replicas - 1) // 2}
    return counts["first" if settings.mode == "paper" else settings.pairs]
