"""Paths of low loss between replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lossatlas.connectivity.pairs import pairs_of
from lossatlas.errors import UserError, nearest
from lossatlas.metrics.base import (
    IMAGES,
    OPTIMISER,
    Asked,
    Given,
    Memory,
    Metric,
    Mode,
    Output,
    Passes,
    Unit,
)
from lossatlas.spec.sizes import images_of

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State

Pair = Annotated[list[int], Field(min_length=2, max_length=2)]


class Connectivity(Metric):
    """Error along trained curves between replicas, and along the straight line."""

    PAPER: ClassVar[dict[str, Any]] = {"start": "random", "points": 5, "pairs": "first"}

    per = "pair"
    outputs = (
        Output("mode_connectivity", "percent", "largest deviation along the curve, with its sign"),
        Output("path_dip", "percent", "lowest training error along the curve, against its ends"),
        Output("path_bump", "percent", "highest training error along the curve, against its ends"),
        Output("linear_barrier", "percent", "highest training error along the straight line"),
    )
    resumes = True
    trains = True
    at_once = True  # curves of small networks are trained as one network

    mode: Mode = Field("fixed", description="'paper': 5 points, random middle, first two seeds")
    curve: Literal["bezier", "polygon"] = Field("bezier", description="shape of the path")
    bends: int = Field(1, ge=1, description="trained points between the two ends")
    pairs: Literal["all", "first", "chain"] | list[Pair] = Field(
        "chain", description="which seeds to connect: all, the first two, neighbours, or a list"
    )
    epochs: int = Field(
        50, ge=1, description="passes over the training data; the paper: 50 / the data's fraction"
    )
    batch_size: int = Field(128, ge=1, description="images per step")
    learning_rate: float = Field(0.01, gt=0, description="initial step size")
    optimiser: str = OPTIMISER
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="L2 on the sampled point")
    start: Literal["linear", "random"] = Field("linear", description="where bends start")
    points: int = Field(21, ge=3, description="places t at which the error is measured")
    seed: int = Field(0, ge=0, description="seed of the data order and of t")

    @model_validator(mode="after")
    def _paper_as_it_is(self) -> Connectivity:
        """Refuse what mode "paper" would not do: a record tells its settings."""
        for key, value in self.PAPER.items():
            if self.mode == "paper" and getattr(self, key) != value:
                raise ValueError(f"mode 'paper' has '{key}: {value}'; leave '{key}' out")
        return self

    @field_validator("pairs")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if isinstance(value, list):
            keys = [tuple(sorted(pair)) for pair in value]
            if not keys or len(set(keys)) != len(keys) or any(a == b for a, b in keys):
                raise ValueError("must name at least one pair of different seeds, each pair once")
        return value

    def uses(self, seeds: Sequence[int]) -> list[int]:
        """The seeds of all pairs."""
        return sorted({seed for pair in self.compared(seeds) for seed in pair})

    def compared(self, seeds: Sequence[int]) -> list[tuple[int, int]]:
        """The pairs that the settings choose."""
        return pairs_of(self, seeds)

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Train and evaluate a curve for each pair."""
        from lossatlas.connectivity.measure import measure

        return measure(given.networks, self, state, [(first, last) for first, last in units])

    def check(self, asked: Asked) -> None:
        """Refuse pairs of seeds that there are not."""
        named = {s for pair in self.pairs for s in pair} if isinstance(self.pairs, list) else set()
        for seed in sorted(named - set(asked.seeds)):
            fix = nearest(seed, map(str, asked.seeds))
            raise UserError(f"no seed {seed}", where=f"metrics.{asked.name}.pairs", fix=fix)

    def rehearsed(self) -> dict[str, Any]:
        """Of listed pairs, whose seeds may be any, a rehearsal connects the first two replicas."""
        listed = {"pairs": "first"} if isinstance(self.pairs, list) else {}
        return {**super().rehearsed(), **listed}

    def passes(self, planned: PlannedCell) -> Passes:
        """Steps of the curves, then evaluations of curve and line on both splits."""
        count, images = len(self.compared(planned.seeds)), images_of(planned)
        steps = count * self.epochs * images / self.batch_size
        evaluations = 2 * count * self.points * 3 * images / IMAGES
        return [(steps, 6, self.batch_size), (evaluations, 2, IMAGES)]

    def memory(self, planned: PlannedCell) -> Memory:
        """Points of the curves with their velocities and gradients."""
        held = super().memory(planned)
        images = max(IMAGES, 4 * self.batch_size)
        return replace(held, vectors=held.vectors + 16 * (self.bends + 2), images=images)
