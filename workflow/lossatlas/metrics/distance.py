"""Distance of replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossatlas.metrics.base import Given, Metric, Output, Passes, Unit

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State


class Distance(Metric):
    """Distance of weights, and how differently two replicas predict.

    Of tasks without classes there is no disagreement and no divergence.
    """

    per = "pair"
    outputs = (
        Output("l2_distance", "", "Euclidean distance of the trained parameters"),
        Output("normalised_distance", "", "the same in units of the parameters' own size"),
        Output("disagreement", "percent", "test images that are classified differently"),
        Output("js_divergence", "nats", "Jensen-Shannon divergence of the predictions"),
        Output("logit_cosine", "", "cosine between the logits, or outputs, of all test images"),
    )
    reads = "arrays"

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Compare each pair."""
        from lossatlas.similarity.distance import measure

        pairs = [(first, last) for first, last in units]
        return measure(given.weights, given.logits, self, pairs, classes=given.task.classes)

    def passes(self, planned: PlannedCell) -> Passes:
        """No network is run."""
        return []
