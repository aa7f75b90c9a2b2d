"""Similarity of representations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lossatlas.metrics.base import Given, Metric, Mode, Output, Passes, Unit

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State


class Cka(Metric):
    """Linear centred kernel alignment between replicas, on blended training images."""

    PAPER: ClassVar[dict[str, Any]] = {"samples": 768}

    per = "pair"
    outputs = (
        Output("cka", "", "of the first layer; the estimator is that of the mode"),
        Output("cka_biased", "", "of the first layer; others are `cka_biased.<layer>`"),
        Output("cka_unbiased", "", "of the first layer; others are `cka_unbiased.<layer>`"),
    )
    at_once = True  # features of a replica serve all of its pairs

    mode: Mode = Field("fixed", description="which estimator 'cka' is: unbiased; 'paper': biased")
    samples: int = Field(640, ge=4, description="blended images; 768 in mode 'paper'")
    batch_size: int = Field(128, ge=4, description="images blended with one coefficient")
    mixup_alpha: float = Field(16.0, ge=0, description="Beta(alpha, alpha) of the blend; 0: none")
    layers: list[str] = Field(
        ["softmax", "output"],
        min_length=1,
        description="'softmax' (of classes), 'output' or names of modules",
    )
    layer_images: int = Field(
        256,
        ge=0,
        description="blended images on which all layers are compared; fewer than 4: none are",
    )
    seed: int = Field(0, ge=0, description="seed of the images and of the blend")

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Compare each pair."""
        from lossatlas.similarity.measure_cka import measure

        return measure(given.networks, self, [(first, last) for first, last in units])

    def passes(self, planned: PlannedCell) -> Passes:
        """Each replica sees each image once, and some again, for the matrix of all layers."""
        images = self.samples + min(self.samples, self.layer_images)
        return [(len(planned.seeds) * images / self.batch_size, 2, self.batch_size)]
