"""Roughness of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from lossatlas.metrics.base import Given, Memory, Metric, Output, Passes, Unit
from lossatlas.spec.sizes import kept

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State


class Landscape(Metric):
    """Roughness of the loss on planes of random filter-normalised and of principal directions.

    The latter need the weights that the recipe's `record.snapshots` keeps.
    """

    outputs = (
        Output("roughness_exponent", "", "of the structure function of the loss; 2 is smooth"),
        Output("log_roughness_exponent", "", "the same of the logarithm of the loss"),
        Output("box_dimension", "", "of the graph of the loss; 2 is smooth"),
        Output("pca_roughness_exponent", "", "on the plane of principal directions"),
        Output("pca_box_dimension", "", "on the plane of principal directions"),
        Output("pca_share", "", "share of the path's variance in that plane"),
    )
    reads = "networks and snapshots"

    side: int = Field(65, ge=9, description="nodes along each side: 2^n + 1")
    extent: float = Field(1.0, gt=0, description="half the side, in lengths of the directions")
    samples: int = Field(256, ge=1, description="training images in the loss")
    seed: int = Field(0, ge=0, description="seed of the images and of the directions")

    @field_validator("side")
    @classmethod
    def _dyadic(cls, value: int) -> int:
        if (value - 1) & (value - 2):
            raise ValueError("must be 2^n + 1, such as 33, 65 or 129")
        return value

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Map the loss around each replica."""
        from lossatlas.diffusion.landscape import measure_replicas

        return measure_replicas(given.networks, self, given.snapshots, [seed for (seed,) in units])

    def finish(self, record: Record) -> Record:
        """Keep the planes of the first replica alone; add the generated surfaces."""
        from lossatlas.diffusion.landscape import complete

        return complete(record, self)

    def passes(self, planned: PlannedCell) -> Passes:
        """One pass per node."""
        planes = 2 if kept(planned) > 1 else 1  # the start alone spans none
        return [(len(planned.seeds) * planes * self.side**2, 2, self.samples)]

    def memory(self, planned: PlannedCell) -> Memory:
        """The snapshots as well."""
        held = super().memory(planned)
        return replace(held, vectors=held.vectors + len(planned.seeds) * kept(planned))
