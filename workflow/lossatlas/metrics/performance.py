"""Loss and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossatlas.metrics.base import IMAGES, Given, Metric, Output, Passes, Unit
from lossatlas.spec.catalogue import data_source
from lossatlas.spec.sizes import images_of
from lossatlas.tasks.translation import AT_ONCE

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State


class Performance(Metric):
    """Loss and accuracy of each replica and of their ensemble; predictions on the test set."""

    outputs = (
        Output("train_loss", "nats", "mean cross entropy on the training images"),
        Output("train_accuracy", "percent", "on the training images"),
        Output("test_loss", "nats", "mean cross entropy on the test images"),
        Output("test_accuracy", "percent", "on the test images"),
        Output(
            "test_bleu",
            "BLEU",
            "of greedy translations of the test sentences",
            tasks=("translation",),
        ),
        Output("ensemble_accuracy", "percent", "of the mean probability of the replicas", "cell"),
        Output("ensemble_nll", "nats", "of the mean probability of the replicas", "cell"),
        Output("chance_loss", "nats", "ln(classes): the loss of equal probabilities", "cell"),
    )

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Evaluate each replica."""
        from lossatlas.similarity.performance import measure_replicas

        networks = given.networks
        return measure_replicas(networks, [networks.seeds.index(seed) for (seed,) in units])

    def finish(self, record: Record) -> Record:
        """Evaluate the ensemble from the replicas' predictions."""
        from lossatlas.similarity.performance import add_ensemble

        return add_ensemble(record)

    def passes(self, planned: PlannedCell) -> Passes:
        """Both splits once."""
        source = data_source(planned.cell.data.source)
        images = images_of(planned) + source.test
        passes: Passes = [(len(planned.seeds) * images / IMAGES, 2, IMAGES)]
        if source.text:  # a translation of half the longest length takes as many passes
            tokens = len(planned.seeds) * source.test * source.image_size / 2
            passes.append((tokens / AT_ONCE, 2, AT_ONCE))
        return passes
