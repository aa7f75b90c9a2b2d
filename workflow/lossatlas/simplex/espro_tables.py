"""Tables of ensembles: scores, reliability, scores on shifted images.

All are made of stored log-probabilities; an ensemble is the uniform mixture over its components and
their samples, and its temperature is fitted on held-out images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lossatlas.similarity import predictions
from lossatlas.simplex import ensembles
from lossatlas.simplex.ensembles import Floats, groups
from lossatlas.store import Rows

CORRUPTED = 2  # components of the ensembles that see corrupted images
MASS_BINS = 10  # of equally many images


@dataclass
class Predicted:
    """Log-probabilities, float32, of one component; of all components, with one more axis.

    Attributes:
        logs: "test" or "held_out" -> (sample, image, class).
        shifted: Kind of shift -> (severity, image, class), of the mixture of the samples.
    """

    logs: dict[str, np.ndarray]
    shifted: dict[str, np.ndarray]


@dataclass
class Method(Predicted):
    """Predictions of one method, for all components.

    Attributes:
        code: In the column `method`, as in `measure_espro`.
        passes: Passes over the training data that one component takes.
    """

    code: int
    passes: float


def ensembles_table(methods: list[Method], labels: dict[str, np.ndarray], most: int) -> Rows:
    """Assess all groups of 1 to `most` components, before and after temperature scaling."""
    found = Rows()
    for method in methods:
        mixed = {
            split: np.stack([ensembles.mixture(logs) for logs in method.logs[split]])
            for split in labels
        }
        singles = np.array([_single(logs, labels["test"]) for logs in method.logs["test"]])
        for size in range(1, most + 1):
            for group, (chosen, apart) in enumerate(groups(len(mixed["test"]), size)):
                test, held_out = (ensembles.mixture(mixed[s][chosen]) for s in ("test", "held_out"))
                t = ensembles.temperature(held_out, labels["held_out"])
                raw = ensembles.assess(test, labels["test"])
                calm = ensembles.assess(ensembles.scaled(test, t), labels["test"])
                found.add(
                    method=method.code,
                    components=size,
                    group=group,
                    disjoint=float(apart),
                    passes=size * method.passes,
                    temperature=t,
                    member_nll=float(singles[chosen].mean()),
                    **raw,
                    **{f"{name}_scaled": value for name, value in calm.items()},
                )
    return found


def _single(logs: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean NLL of the networks of one component (H, N, classes)."""
    return float(np.mean([predictions.nll(one, labels) for one in logs]))


def _together(logs: np.ndarray) -> Floats:
    return ensembles.mixture(np.stack([ensembles.mixture(one) for one in logs]))


def _sure(
    methods: list[Method], labels: dict[str, np.ndarray], most: int
) -> Iterator[tuple[int, float, Floats, np.ndarray]]:
    """Yield method, whether it is scaled (1 or 0), confidence (N,) and right answers (N,).

    Of the ensemble of the first `most` components.
    """
    for method in methods:
        test, held_out = (_together(method.logs[split][:most]) for split in ("test", "held_out"))
        t = ensembles.temperature(held_out, labels["held_out"])
        for calm, logs in ((0.0, test), (1.0, ensembles.scaled(test, t))):
            yield method.code, calm, np.exp(logs.max(axis=1)), logs.argmax(axis=1) == labels["test"]


def reliability_table(methods: list[Method], labels: dict[str, np.ndarray], most: int) -> Rows:
    """Collect confidence and accuracy in bins, of the first `most` components."""
    found = Rows()
    for method, calm, confidence, right in _sure(methods, labels, most):
        places = np.minimum((confidence * ensembles.BINS).astype(int), ensembles.BINS - 1)
        for place in np.unique(places):
            here = places == place
            found.add(
                method=method,
                scaled=calm,
                bin=float(place),
                share=float(here.mean()),
                confidence=float(confidence[here].mean()),
                accuracy=float(right[here].mean()),
            )
    return found


def equal_mass_table(methods: list[Method], labels: dict[str, np.ndarray], most: int) -> Rows:
    """Collect confidence and right answers in bins of equally many images, least sure first.

    Of the first `most` components, as in `reliability_table`.
    """
    found = Rows()
    for method, calm, confidence, right in _sure(methods, labels, most):
        order = np.argsort(confidence, kind="stable")
        for place, here in enumerate(np.array_split(order, MASS_BINS)):
            if len(here):
                found.add(
                    method=method,
                    scaled=calm,
                    bin=place,
                    images=len(here),
                    right=int(right[here].sum()),
                    confidence=float(confidence[here].mean()),
                )
    return found


def corruption_table(
    methods: list[Method],
    labels: dict[str, np.ndarray],
    kind: str,
    severities: list[float],
    most: int,
) -> Rows:
    """Assess ensembles on one kind of shift; severity 0 are the images as they are."""
    found, size = Rows(), min(CORRUPTED, most)
    for method in methods:
        for group, (chosen, apart) in enumerate(groups(len(method.shifted[kind]), size)):
            t = ensembles.temperature(
                _together(method.logs["held_out"][chosen]), labels["held_out"]
            )
            clean = _together(method.logs["test"][chosen])
            noisy = [
                ensembles.mixture(method.shifted[kind][chosen, index])
                for index in range(len(severities))
            ]
            for severity, logs in zip([0.0, *severities], [clean, *noisy], strict=True):
                raw = ensembles.assess(logs, labels["test"])
                calm = ensembles.assess(ensembles.scaled(logs, t), labels["test"])
                found.add(
                    method=method.code,
                    components=size,
                    group=group,
                    disjoint=float(apart),
                    severity=severity,
                    **raw,
                    nll_scaled=calm["nll"],
                    ece_scaled=calm["ece"],
                )
    return found
