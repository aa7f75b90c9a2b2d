"""Barriers and distances modulo permutations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lossatlas.metrics.base import IMAGES, Given, Memory, Metric, Output, Passes, Unit
from lossatlas.spec.sizes import images_of

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State


class Alignment(Metric):
    """Linear barrier and distance of replicas, before and after their units are matched.

    CKA does not change when units are permuted, nor do predictions: they need no alignment.
    """

    per = "pair"
    outputs = (
        Output(
            "barrier_before",
            "percent",
            "rise of the training error above its ends, on the straight line",
        ),
        Output("barrier_after", "percent", "the same once the partner's units are permuted"),
        Output(
            "loss_barrier_before",
            "nats",
            "rise of the training loss above its ends, on the straight line",
        ),
        Output("loss_barrier_after", "nats", "the same once the partner's units are permuted"),
        Output("distance_before", "", "normalised distance of the weights"),
        Output("distance_after", "", "the same once the partner's units are permuted"),
        Output("permuted_groups", "", "sets of units that can be exchanged with each other"),
        Output("permuted_units", "", "units in these: neurons and channels"),
        Output("moved_share", "", "share of these units that another one takes the place of"),
    )

    matching: Literal["weights", "activations"] = Field(
        "weights", description="what is matched: parameters (Git Re-Basin), or features on examples"
    )
    repair: bool = Field(
        False,
        description="whether means and variances of features are put right along the line "
        "(REPAIR); BatchNorm's statistics are estimated anew in any case, and nothing else is then",
    )
    pairs: Literal["chain", "all", "first"] = Field(
        "chain", description="which seeds to compare: neighbours, all, or the first two"
    )
    points: int = Field(21, ge=3, description="places t at which the loss is measured")
    samples: int = Field(
        512, ge=16, description="training examples for 'matching: activations' and for 'repair'"
    )
    restarts: int = Field(
        1, ge=1, description="searches by weights, of which the best counts; all but one at random"
    )
    seed: int = Field(0, ge=0, description="seed of the order of groups and examples")

    def compared(self, seeds: Sequence[int]) -> list[tuple[int, int]]:
        """The pairs that the settings choose."""
        ordered = sorted(seeds)
        if self.pairs == "chain":
            return list(pairwise(ordered))
        return list(combinations(ordered[:2] if self.pairs == "first" else ordered, 2))

    def uses(self, seeds: Sequence[int]) -> list[int]:
        """The seeds of all pairs."""
        return sorted({seed for pair in self.compared(seeds) for seed in pair})

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Align and compare each pair."""
        from lossatlas.permutation.measure import measure

        return measure(given.networks, self, [(first, last) for first, last in units])

    def passes(self, planned: PlannedCell) -> Passes:
        """Evaluations of two lines on both splits, and of examples where features are needed."""
        count, images = len(self.compared(planned.seeds)), images_of(planned)
        features = 2 * count if self.matching == "activations" else 0
        features += 2 * count * self.points if self.repair else 0
        evaluations = 2 * count * self.points * 3 * images / IMAGES
        return [(evaluations + features * self.samples / IMAGES, 2, IMAGES)]

    def memory(self, planned: PlannedCell) -> Memory:
        """Two networks in double precision, permuted step by step, and examples all at once."""
        held = super().memory(planned)
        images = max(IMAGES, 2 * self.samples) if self.repair else IMAGES
        return replace(held, vectors=held.vectors + 16, images=images)
