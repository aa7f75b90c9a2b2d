"""What cells cost: a model of time and disk for `plan`, from counts of multiply-adds.

Where nothing was measured (`calibration`), a step takes the longer of a floor (launching its
kernels) and its arithmetic (6 floating-point operations per multiply-add for a training step, 2 for
a forward pass). Estimates, not promises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from lossatlas.metrics.base import Metric
from lossatlas.spec.plan import PlannedCell
from lossatlas.spec.sizes import (
    images_of,
    kept,
    multiplications,
    parameter_count,
    path_floats,
    window_pairs,
)

START = 4.0 / 3600  # hours that any job takes to start Python and torch, where it was not measured
LAYERS = 20  # of which a step takes the least time of a device


class Device(Protocol):
    """What passes through networks take on a device: as estimated, or as measured."""

    @property
    def name(self) -> str:
        """In words."""
        ...

    @property
    def start(self) -> float:
        """Seconds that a job takes to start."""
        ...

    def seconds(
        self, planned: PlannedCell, factor: float, images: float, replicas: int = 0
    ) -> float | None:
        """Return the seconds of a pass; None if they are not known.

        Args:
            planned: Cell of the network.
            factor: Operations per multiply-add.
            images: Of each network.
            replicas: That are trained together; 0: a metric's pass of one network.
        """
        ...


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
    start: float = START * 3600

    def seconds(
        self, planned: PlannedCell, factor: float, images: float, replicas: int = 0
    ) -> float | None:
        """Return the seconds of a pass, as `Device`: replicas share the launches."""
        macs = multiplications(planned.cell)
        if macs is None:
            return None
        depth = planned.cell.axis("depth") or 0
        work = max(1, replicas) * factor * images * macs
        return self.estimate(work, parameter_count(planned.cell) or 1, depth)

    def estimate(self, work: float, parameters: int, depth: float) -> float:
        """Return the seconds of so many operations of a network of these parameters and layers."""
        floor = self.seconds_per_step * max(1.0, depth / LAYERS)
        return max(floor, work / self.rate(parameters))

    def rate(self, parameters: int) -> float:
        """Return the arithmetic per second of a network of so many parameters."""
        size = math.sqrt(parameters)
        return self.flops * size / (size + self.narrow)


LAPTOP = Machine("one CPU core", seconds_per_step=0.004, flops=6e10, narrow=800.0)
GPU = Machine("one GPU (A100 class, fp32)", seconds_per_step=0.006, flops=1.5e13)


def weights_bytes(planned: PlannedCell) -> int | None:
    """Return the size of a cell's checkpoints, or None for a network of the user's own."""
    count = parameter_count(planned.cell)
    recipe = planned.cell.recipe
    copies = len(recipe.checkpoints) + kept(planned)
    if recipe.record is not None:  # where a longer run goes on: weights, momentum, best and early
        copies += 2 + len({"best", "early"}.intersection(recipe.checkpoints))
    return None if count is None else 4 * count * copies * len(planned.seeds)


def vertices_bytes(planned: PlannedCell, metric: Metric) -> int:
    """Return the size of the vertices that a metric trains; 0 for a network of the user's own."""
    count = metric.trained_vertices(len(planned.seeds))
    return 4 * (parameter_count(planned.cell) or 0) * count


def training_hours(planned: PlannedCell, device: Device) -> float | None:
    """Return the hours that a cell's replicas take to train, or None if unknown.

    Those that were trained elsewhere take none.
    """
    recipe = planned.cell.recipe
    if planned.cell.adopted:
        return 0.0
    if multiplications(planned.cell) is None:
        return None
    steps = -(-images_of(planned) // recipe.batch_size) * recipe.epochs
    total = 0.0
    for count in map(len, planned.blocks.values()):
        seconds = device.seconds(planned, 6, recipe.batch_size, count)
        if seconds is None:
            return None
        total += steps * seconds + device.start
    return total / 3600


def job_hours(planned: PlannedCell, metric: Metric, device: Device) -> float | None:
    """Return the hours that one metric of a cell takes, or None if unknown."""
    total = metric.seconds(planned)
    if total is None:
        total = 0.0
        for count, factor, images in metric.passes(planned):
            seconds = device.seconds(planned, factor, images)
            if seconds is None:
                return None
            total += count * seconds
    return (total + device.start) / 3600


def paths_bytes(planned: PlannedCell) -> int:
    """Return the size of the recorded paths of a cell's replicas."""
    return len(planned.seeds) * 4 * (path_floats(planned) + window_pairs(planned))
