"""Ensembles in simplexes against the strength of the volume term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lossatlas.errors import UserError
from lossatlas.metrics.base import Asked, Given, Memory, Output, Unit, ends
from lossatlas.metrics.spro import Spro, norm_images, vectors
from lossatlas.spec.catalogue import data_source

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State

MODES = ("fixed", "paper")  # the number of a way is its place


class EsproStrength(Spro):
    """Simplexes grown from replicas with volume terms of several strengths, in both modes.

    The sweep of Benton et al. (2021), appendix A. Vertices that `espro` has trained with the same
    settings are taken.
    """

    outputs = (
        Output("nll_fixed", "nats", "test NLL of a simplex, largest strength, 'fixed'", "replica"),
        Output("nll_paper", "nats", "the same in mode 'paper'", "replica"),
    )

    needs_classes = True

    vertices: int = Field(2, ge=1, description="trained vertices per replica")
    draws: int = Field(25, ge=1, description="networks sampled in each simplex")
    regularisations: list[Annotated[float, Field(ge=0)]] = Field(
        [0.0, 1e-6, 1e-4, 1e-2, 1e-1], min_length=1, description="strengths, each in both modes"
    )
    repeats: int = Field(1, ge=1, description="replicas, the first ones, for statistics over seeds")

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Grow a simplex from each replica with each strength."""
        from lossatlas.simplex.measure_strength import measure

        return measure(given.networks, self, state)

    def uses(self, seeds: Sequence[int]) -> list[int]:
        """The first replicas."""
        return sorted(seeds)[: self.repeats]

    def check(self, asked: Asked) -> None:
        """Refuse too few seeds."""
        count = len(asked.seeds)
        if count < self.repeats:
            what = f"'{asked.name}' takes {self.repeats} replicas, and there are {count} seeds"
            fix = f"at least {self.repeats} seeds"
            raise UserError(what, where=f"{asked.where}.seeds", fix=fix)

    def rehearsed(self) -> dict[str, Any]:
        """A rehearsal takes the first and the last strength."""
        return {**super().rehearsed(), "regularisations": ends(self.regularisations)}

    def trained_vertices(self, replicas: int) -> int:
        """Those of each replica, strength and mode."""
        return min(self.repeats, replicas) * self._runs() * self.vertices

    def evaluated(self, planned: PlannedCell) -> float:
        """The networks of each simplex on test images."""
        networks = min(self.repeats, len(planned.seeds)) * self._runs() * self.draws
        return float(networks * (data_source(planned.cell.data.source).test + norm_images(planned)))

    def memory(self, planned: PlannedCell) -> Memory:
        """One simplex and its networks, and the predictions of all."""
        held = super().memory(planned)
        source = data_source(planned.cell.data.source)
        more = vectors(1, self.vertices, 1, self.vertices + 1, self.draws)
        predictions = self.draws + self._runs() * min(self.repeats, len(planned.seeds))
        numbers = 2 * predictions * source.test * source.classes
        return replace(held, vectors=held.vectors + more, numbers=numbers)

    def _runs(self) -> int:
        return len(MODES) * len(set(self.regularisations))
