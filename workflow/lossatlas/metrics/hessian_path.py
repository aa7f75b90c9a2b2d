"""Curvature along training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lossatlas.metrics.base import IMAGES, Given, Memory, Metric, Mode, Output, Passes, Unit
from lossatlas.spec.sizes import kept

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State


class HessianPath(Metric):
    """Spectrum of the Hessian at the weights that the recipe's `record.snapshots` keeps."""

    PAPER: ClassVar[dict[str, Any]] = {"iterations": 20, "tolerance": 1e-4}

    outputs = (
        Output("eigenvalue_start", "nats", "largest in modulus before training"),
        Output("eigenvalue_end", "nats", "largest in modulus after training"),
        Output("eigenvalue_peak", "nats", "largest along the way"),
    )
    reads = "snapshots"
    resumes = True
    costs_only = ("chunk",)

    mode: Mode = Field(
        "fixed", description="'paper': power iteration, each product on the next batch"
    )
    samples: int = Field(512, ge=1, description="training images in the loss")
    batch_size: int = Field(128, ge=1, description="images of a product in mode 'paper'")
    eigenvalues: int = Field(20, ge=1, description="how many of the largest in modulus")
    iterations: int = Field(
        100,
        ge=2,
        description="most products, and as many to look for copies of several values; in mode"
        " 'paper' 20, for each value",
    )
    tolerance: float = Field(
        1e-3,
        gt=0,
        description="relative residual at which a value converged; in mode 'paper' 1e-4, of the "
        "change",
    )
    density_probes: int = Field(1, ge=0, description="starting vectors of the spectral density")
    density_steps: int = Field(40, ge=2, description="Lanczos steps of each")
    chunk: int = Field(512, ge=1, description="images per pass")
    seed: int = Field(0, ge=0, description="seed of the images and of the starting vectors")

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Measure each replica at all of its snapshots."""
        from lossatlas.curvature.along import measure

        return measure(given.snapshots, self, state, [seed for (seed,) in units])

    def passes(self, planned: PlannedCell) -> Passes:
        """One pass per product, at each snapshot."""
        density = self.density_probes * self.density_steps
        # in mode 'fixed' a second run looks for copies of several values
        values = self.eigenvalues if self.mode == "paper" else min(self.eigenvalues, 2)
        products = len(planned.seeds) * kept(planned) * (self.iterations * values + density)
        return [(products, 12, self.samples)]

    def memory(self, planned: PlannedCell) -> Memory:
        """The snapshots, the basis of Lanczos, and images that are differentiated twice."""
        held = super().memory(planned)
        snapshots = len(planned.seeds) * kept(planned)
        copies = self.iterations + self.eigenvalues if self.eigenvalues > 1 else 0
        vectors = held.vectors + snapshots + max(self.iterations + copies, self.density_steps)
        images = max(IMAGES, 3 * min(self.chunk, self.samples) // 2)
        return replace(held, vectors=vectors, images=images)
