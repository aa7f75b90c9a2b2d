"""Complexes of low loss between replicas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from lossatlas.errors import UserError
from lossatlas.metrics.base import Asked, Given, Memory, Output, Unit
from lossatlas.metrics.spro import Spro, norm_images, vectors
from lossatlas.simplex import complexes
from lossatlas.spec.catalogue import data_source
from lossatlas.spec.sizes import images_of

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State


class Simplex(Spro):
    """A complex of simplexes between replicas: loss inside, on segments and on planes."""

    outputs = (
        Output("mode_loss", "nats", "training loss of a replica that is a vertex", "replica"),
        Output("inside_loss", "nats", "mean training loss at random points inside"),
        Output("inside_loss_max", "nats", "largest of these"),
        Output("inside_accuracy_min", "percent", "least training accuracy of these points"),
        Output("segment_loss_max", "nats", "largest training loss on straight lines of modes"),
        Output("path_loss_max", "nats", "the same on the least bad path over connectors"),
    )

    complex: Literal["shared", "single"] | list[list[str]] = Field(
        "shared",
        description="'shared': one simplex per mode, all with the same connectors; 'single': one "
        "simplex grown from the first mode; or a list of simplexes such as [[w0, c0], [w1, c0]]",
    )
    modes: int = Field(2, ge=1, description="replicas that 'shared' connects: the first ones")
    connectors: int = Field(3, ge=1, description="trained vertices of 'shared' and 'single'")
    repeats: int = Field(
        1,
        ge=1,
        description="complexes of 'shared' or 'single', each with the next replicas as modes, for "
        "statistics over seeds; tables show the first",
    )
    points: int = Field(25, ge=1, description="random points at which each simplex is evaluated")
    places: int = Field(21, ge=3, description="places on each segment")
    planes: list[Annotated[list[str], Field(min_length=3, max_length=3)]] = Field(
        [],
        description="three vertices of each plane, such as [[w0, w1, c0]]; default: up to four "
        "triangles that show the complex",
    )
    raster: int = Field(21, ge=2, description="points along each side of a plane")
    images: int = Field(512, ge=1, description="training images for planes")

    @model_validator(mode="after")
    def _repeats(self) -> Simplex:
        if self.repeats > 1 and isinstance(self.complex, list):
            raise ValueError("repeats: a listed complex has its modes by name; ask for 1")
        return self

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Train and evaluate the complexes."""
        from lossatlas.simplex.measure import measure

        return measure(given.networks, self, state)

    def uses(self, seeds: Sequence[int]) -> list[int]:
        """The first replicas, or those that the listed complex names."""
        if isinstance(self.complex, list):
            names = {vertex for simplex in self.complex for vertex in simplex}
            return [seed for seed in sorted(seeds) if f"w{seed}" in names]
        return sorted(seeds)[: self.repeats * self._size()]

    @property
    def least(self) -> int:
        """The modes of one complex."""
        return self._size()

    def _size(self) -> int:
        """Return how many modes one complex has."""
        if isinstance(self.complex, list):
            return len({v for simplex in self.complex for v in simplex if v.startswith("w")})
        return self.modes if self.complex == "shared" else 1

    def check(self, asked: Asked) -> None:
        """Refuse complexes that the seeds do not make up."""
        count = len(asked.seeds)
        if isinstance(self.complex, list):
            complexes.listed(self.complex, asked.seeds, f"metrics.{asked.name}.complex")
        elif count < (modes := self.repeats * self._size()):
            what = f"'{asked.name}' connects {modes} replicas, and there are {count} seeds"
            raise UserError(what, where=f"{asked.where}.seeds", fix=f"at least {modes} seeds")
        where = f"metrics.{asked.name}"
        made = complexes.chosen(self.complex, self.modes, self.connectors, asked.seeds, where)
        for names in self.planes:
            made.indices(names, f"{where}.planes")

    def rehearsed(self) -> dict[str, Any]:
        """Of a listed complex a rehearsal keeps the first simplexes, and planes inside these."""
        found = super().rehearsed()
        if not isinstance(self.complex, list):
            return {**found, "planes": []} if found.keys() & {"modes", "connectors"} else found
        kept = complexes.beginning(self.complex)
        names = {vertex for simplex in kept for vertex in simplex}
        planes = [plane for plane in self.planes if names.issuperset(plane)]
        return {**found, "complex": kept, "planes": planes}

    def trained_vertices(self, replicas: int) -> int:
        """The connectors."""
        listed = self.complex if isinstance(self.complex, list) else []
        names = {vertex for simplex in listed for vertex in simplex if vertex.startswith("c")}
        return len(names) or self.repeats * self.connectors

    def evaluated(self, planned: PlannedCell) -> float:
        """Random points, edges and segments on both splits; planes on some images."""
        plan = complexes.chosen(self.complex, self.modes, self.connectors, planned.seeds)
        images, norms = images_of(planned), norm_images(planned)
        edges = len(plan.edges()) + math.comb(len(plan.modes), 2)
        points = len(plan.simplexes) * self.points + edges * self.places
        both = images + data_source(planned.cell.data.source).test
        planes = len(self.planes) or 4
        some = min(self.images, images)
        return self.repeats * points * (both + norms) + planes * self.raster**2 * (some + norms)

    def memory(self, planned: PlannedCell) -> Memory:
        """The complex as well."""
        held = super().memory(planned)
        modes = simplexes = self.modes if self.complex == "shared" else 1
        connectors, largest = self.connectors, self.connectors + 1
        if isinstance(self.complex, list):
            modes, connectors = self._size(), self.trained_vertices(0)
            simplexes, largest = len(self.complex), max(map(len, self.complex), default=0)
        more = vectors(modes, connectors, simplexes, largest)
        return replace(held, vectors=held.vectors + more)
