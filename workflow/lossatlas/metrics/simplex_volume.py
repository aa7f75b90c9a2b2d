"""Volume of complexes of low loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lossatlas.errors import UserError
from lossatlas.metrics.base import Asked, Given, Memory, Output, Unit, ends
from lossatlas.metrics.spro import Spro, norm_images, vectors
from lossatlas.spec.catalogue import data_source
from lossatlas.spec.sizes import images_of

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State


class SimplexVolume(Spro):
    """Volume of the complex between two replicas against the number of connectors.

    Grown three ways: "fixed", "fixed" with 1e-4 added to V^2, and "paper".
    """

    outputs = (
        Output("log_volume_fixed", "", "of the whole complex at the largest strength"),
        Output("log_volume_epsilon", "", "the same with 1e-4 added to V^2"),
        Output("log_volume_paper", "", "the same by the rule of the authors' code"),
    )

    needs_classes = True

    epochs: int = Field(10, ge=1, description="passes over the training data, per vertex")
    connectors: int = Field(12, ge=1, description="vertices trained, one after another")
    regularisations: list[Annotated[float, Field(ge=0)]] = Field(
        [0.0, 1e-6, 2e-2, 6e-2], min_length=1, description="strengths, each in all three ways"
    )
    repeats: int = Field(
        1, ge=1, description="pairs of replicas, each the next two, for statistics over seeds"
    )
    points: int = Field(25, ge=1, description="random points at which each complex is evaluated")

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Grow the complexes of all pairs in all ways."""
        from lossatlas.simplex.measure_volume import measure

        return measure(given.networks, self, state)

    def uses(self, seeds: Sequence[int]) -> list[int]:
        """The first pairs of replicas."""
        return sorted(seeds)[: 2 * self.repeats]

    @property
    def least(self) -> int:
        """One pair."""
        return 2

    def check(self, asked: Asked) -> None:
        """Refuse too few seeds."""
        modes, count = 2 * self.repeats, len(asked.seeds)
        if count < modes:
            what = f"'{asked.name}' connects {modes} replicas, and there are {count} seeds"
            raise UserError(what, where=f"{asked.where}.seeds", fix=f"at least {modes} seeds")

    def rehearsed(self) -> dict[str, Any]:
        """A rehearsal takes the first and the last strength."""
        return {**super().rehearsed(), "regularisations": ends(self.regularisations)}

    def trained_vertices(self, replicas: int) -> int:
        """The connectors of all ways, strengths and pairs."""
        return 3 * self.repeats * len(self.regularisations) * self.connectors

    def evaluated(self, planned: PlannedCell) -> float:
        """Random points on both splits, for each number of connectors."""
        both = images_of(planned) + data_source(planned.cell.data.source).test
        points = self.trained_vertices(len(planned.seeds)) * self.points
        return float(points * (both + norm_images(planned)))

    def memory(self, planned: PlannedCell) -> Memory:
        """One complex as well."""
        held = super().memory(planned)
        more = vectors(2, self.connectors, 2, self.connectors + 1, self.points)
        return replace(held, vectors=held.vectors + more)
