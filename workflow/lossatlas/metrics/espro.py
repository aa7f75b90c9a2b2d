"""Ensembles drawn from simplexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from lossatlas.errors import UserError
from lossatlas.metrics.base import Asked, Given, Memory, Output, Passes, Unit, ends
from lossatlas.metrics.spro import Spro, norm_images, vectors
from lossatlas.spec.catalogue import REHEARSED, corrupted_source, data_source
from lossatlas.spec.sizes import images_of

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State


class Espro(Spro):
    """Fast ensembles: simplexes grown from each replica, against the replicas themselves."""

    outputs = (
        Output(
            "simplex_disagreement",
            "percent",
            "test images on which two networks of a replica's simplex disagree",
            "replica",
        ),
        Output(
            "mode_disagreement", "percent", "test images on which two replicas disagree", "pair"
        ),
    )

    needs_held_out = True
    needs_classes = True
    needs_images = True

    vertices: int = Field(2, ge=1, description="trained vertices per replica: dimension at most")
    draws: int = Field(25, ge=1, description="networks sampled in each simplex (H)")
    components: int = Field(8, ge=1, description="most replicas in an ensemble (J)")
    replicas: int = Field(0, ge=0, description="replicas that are taken, the first ones; 0: all")
    cycles: int = Field(3, ge=0, description="members of fast geometric ensembles; 0: none")
    cycle_epochs: int = Field(4, ge=2, description="passes over the data per member")
    cycle_rates: list[float] = Field(
        [0.05, 0.0005], min_length=2, max_length=2, description="largest and smallest step size"
    )
    swag_epochs: int = Field(
        0,
        ge=0,
        description="epochs at a constant rate, each of which gives weights for MultiSWA and "
        "MultiSWAG; 0: neither",
    )
    swag_rate: float = Field(0.01, gt=0, description="learning rate of these epochs")
    swag_rank: int = Field(
        20, ge=2, description="last deviations that SWAG keeps, at most one per epoch (K)"
    )
    severities: list[Annotated[float, Field(ge=0)]] = Field(
        [0.1, 0.2, 0.4, 0.6, 0.8],
        description="s.d. of Gaussian noise on the normalised test images",
    )
    corruptions: str = Field(
        "", description="archive of corrupted test images to measure on as well: cifar10_c"
    )

    @field_validator("cycle_rates")
    @classmethod
    def _rates(cls, value: list[float]) -> list[float]:
        if not value[0] >= value[1] > 0:
            raise ValueError("must be two step sizes, the larger one first, both positive")
        return value

    @field_validator("swag_epochs")
    @classmethod
    def _two_snapshots(cls, value: int) -> int:
        if value == 1:
            raise ValueError("must be 0 or at least 2: one epoch gives no covariance")
        return value

    @property
    def fge_epochs(self) -> float:
        """Epochs that FGE trains per replica: the last member is kept in mid-cycle."""
        return (self.cycles - 0.5) * self.cycle_epochs if self.cycles else 0.0

    @property
    def sampled(self) -> int:
        """How many networks are predicted with per replica, besides itself."""
        of_swag = 1 + self.draws if self.swag_epochs else 0  # the mean, and those drawn
        return self.vertices * self.draws + self.cycles + of_swag

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Grow a simplex from each replica and compare ensembles."""
        from lossatlas.simplex.measure_espro import measure

        return measure(given.networks, self, state)

    def uses(self, seeds: Sequence[int]) -> list[int]:
        """The first replicas, or all."""
        return sorted(seeds)[: self.replicas or None]

    def check(self, asked: Asked) -> None:
        """Refuse temperatures without held-out images, and corrupted images of other data.

        The epochs of training are a part of what ensembles cost: they have to be known.
        """
        self._check_counts(asked)
        self._check_rank(f"metrics.{asked.name}.swag_rank")
        if asked.adopted and "epochs" not in asked.recipe.model_fields_set:
            what = f"'{asked.name}' counts the epochs of training, and they are not known"
            fix = "name a recipe with 'epochs'"
            raise UserError(what, where=f"{asked.where}.recipe", fix=fix)
        if max(asked.fractions) == 1:
            what = f"'{asked.name}' fits temperatures on held-out training images"
            where, fix = f"datasets.{asked.dataset_name}", "a fraction below 1"
            raise UserError(f"{what}, and there are none", where=where, fix=fix)
        if self.corruptions:
            self._check_corruptions(asked.data.source, f"metrics.{asked.name}.corruptions")

    def _check_counts(self, asked: Asked) -> None:
        """Refuse more replicas than there are, where a number of them was asked for."""
        count = len(asked.seeds)
        for name in ("replicas", "components"):
            wanted = getattr(self, name)
            if name in self.model_fields_set and wanted > count:
                what = f"'{asked.name}' takes {wanted} replicas, and there are {count} seeds"
                where = f"metrics.{asked.name}.{name}"
                raise UserError(what, where=where, fix=f"at most {count}, or more seeds")
            count = self.replicas or count

    def _check_rank(self, where: str) -> None:
        """Refuse more deviations than there are weights, where a number of them was asked for."""
        chosen = self.swag_epochs and "swag_rank" in self.model_fields_set
        if chosen and self.swag_rank > self.swag_epochs:
            what = f"{self.swag_rank} deviations of {self.swag_epochs} epochs"
            fix = f"at most {self.swag_epochs}, or more 'swag_epochs'"
            raise UserError(what, where=where, fix=fix)

    def _check_corruptions(self, source: str, where: str) -> None:
        clean, found = data_source(source), corrupted_source(self.corruptions, where)
        shapes = [(row.classes, row.channels, row.image_size) for row in (clean, found)]
        if shapes[0] != shapes[1] or found.test % clean.test:
            what = f"'{self.corruptions}' does not hold the test images of '{source}'"
            raise UserError(what, where=where, fix="leave it out for this data set")

    def rehearsed(self) -> dict[str, Any]:
        """A rehearsal has made corruptions, and the first and the last severity of noise."""
        found = {**super().rehearsed(), "severities": ends(self.severities)}
        if self.swag_epochs:
            found |= {"swag_epochs": 2, "swag_rank": 2}
        if self.replicas:
            found["replicas"] = min(2, self.replicas)
        if self.corruptions:
            found["corruptions"] = self.corruptions + REHEARSED
        return found

    def trained_vertices(self, replicas: int) -> int:
        """Those of each replica."""
        return min(replicas, self.replicas or replicas) * self.vertices

    def passes(self, planned: PlannedCell) -> Passes:
        """Vertices, FGE and SWAG to train, then networks to evaluate."""
        trained, seen = super().passes(planned)
        epochs = len(self.uses(planned.seeds)) * (self.fge_epochs + self.swag_epochs)
        steps = epochs * images_of(planned) / self.batch_size
        return [trained, (steps, 6.0, self.batch_size), seen]

    def evaluated(self, planned: PlannedCell) -> float:
        """All members on test, shifted and held-out images."""
        source, images = data_source(planned.cell.data.source), images_of(planned)
        each = source.test * (1 + len(self.severities)) + source.train - images
        if self.corruptions:
            each += corrupted_source(self.corruptions).test
        whole = (1 + self.sampled) * each + self.sampled * norm_images(planned)
        return float(len(self.uses(planned.seeds)) * whole)

    def memory(self, planned: PlannedCell) -> Memory:
        """The networks of one replica, moments of SWAG, and the predictions of all, twice."""
        held = super().memory(planned)
        more = vectors(1, self.vertices, 1, self.vertices + 1, self.sampled)
        if self.swag_epochs:  # mean, mean square and what they are updated with, in float64
            more += min(self.swag_rank, self.swag_epochs) + 8
        numbers = 2 * self._predictions(planned)
        return replace(held, vectors=held.vectors + more, numbers=numbers)

    def _predictions(self, planned: PlannedCell) -> int:
        """Return how many log-probabilities ensembles keep."""
        source = data_source(planned.cell.data.source)
        shifted = source.test * len(self.severities)
        if self.corruptions:
            shifted += corrupted_source(self.corruptions).test
        single = (1 + self.sampled) * (source.test + source.train - images_of(planned))
        mixed = (self.vertices + (4 if self.swag_epochs else 2)) * shifted
        return len(self.uses(planned.seeds)) * (single + mixed) * source.classes
