"""Where a paper makes its claims: the conditions of an experiment under which they are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lossatlas.spec.figures import Thresholds

FAULT = "the check failed: "  # how the reason of a row begins whose check has a fault


def faults(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each row of a table of claims whose check has a fault."""
    return [
        f"claim {row['claim']} on '{row['experiment']}': {row['observed']}"
        for row in rows
        if str(row["observed"]).startswith(FAULT)
    ]


class NotTestableError(Exception):
    """This experiment cannot tell whether a claim holds; the message says why."""


@dataclass(frozen=True)
class About:
    """What is known of an experiment besides its tables; None where it is not known.

    Attributes:
        classes: Of its data set; 0 where it does not say.
        label_noise: Shares of training labels drawn anew, of all cells.
        pixel_noise: Standard deviations of noise on training pixels, of all cells.
        momentum: Of SGD, of all cells.
        rate: Rule of the learning rate: "decay", "cosine", "constant".
        optimiser: Of the recipe.
        task: Of the data set.
        thresholds: Of the phases.
        fit: Lags (steps) between which exponents were fitted.
    """

    classes: int = 0
    label_noise: tuple[float, ...] | None = None
    pixel_noise: tuple[float, ...] | None = None
    momentum: tuple[float, ...] | None = None
    rate: str = ""
    optimiser: str = ""
    task: str = ""
    thresholds: Thresholds = field(default_factory=Thresholds)
    fit: tuple[float, float] | None = None


def about(given: Mapping[str, Any]) -> About:
    """Return the facts of an experiment from plain values (`spec.told.about`)."""
    made: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    if isinstance(known := made.get("thresholds"), Mapping):
        made["thresholds"] = Thresholds(**known)
    return About(**made)


@dataclass(frozen=True)
class Condition:
    """Where a claim is made: in words, and why an experiment is not there ("" if it is)."""

    words: str
    lacks: Callable[[About], str]

    def need(self, known: About) -> None:
        """Refuse an experiment in which the paper does not make the claim.

        Raises:
            NotTestableError: With the reason.
        """
        if reason := self.lacks(known):
            raise NotTestableError(f"the paper claims it for {self.words}; here {reason}")


def _noise(known: About) -> str:
    labels, pixels = (max(some or (0.0,)) for some in (known.label_noise, known.pixel_noise))
    if labels:
        return f"{labels:.0%} of the labels are drawn anew"
    return f"pixels have noise of {pixels:g}" if pixels else ""


def _others(known: About) -> str:
    """Say what is neither classification nor SGD, of which all papers speak."""
    if known.task not in ("", "classification"):
        return f"the task is {known.task}"
    return f"the optimiser is {known.optimiser}" if known.optimiser not in ("", "sgd") else ""


def _released(known: About) -> str:
    if reason := _others(known) or _noise(known):
        return reason
    if known.rate not in ("", "decay"):
        return f"the learning rate is {known.rate}"
    return f"there are {known.classes} classes" if known.classes not in (0, 10) else ""


def _plain(known: About) -> str:
    if reason := _others(known):
        return reason
    if known.rate not in ("", "constant"):
        return f"the learning rate is {known.rate}"
    if any(known.momentum or ()):
        return f"momentum is {max(known.momentum or ()):g}"
    if max(known.pixel_noise or (0.0,)):
        return _noise(known)
    return ""


def _clean_labels(known: About) -> str:
    """Cells with noisy labels are left out where the experiment has others."""
    if min(known.label_noise or (0.0,)):
        return _noise(known)
    return ""


def _walk(known: About) -> str:
    return _plain(known) or _clean_labels(known)


def _fitted(known: About) -> str:
    if known.fit is not None and known.fit != (10, 100):
        return f"exponents were fitted over lags {known.fit[0]:g} to {known.fit[1]:g}"
    return ""


def _random_labels(known: About) -> str:
    if known.label_noise is not None and max(known.label_noise) < 1:
        return f"at most {max(known.label_noise):.0%} of the labels are drawn anew"
    return ""


RELEASED = Condition("clean labels of 10 classes and a decay of the learning rate", _released)
WALK = Condition("plain SGD at a constant rate on clean labels", _walk)
FITTED_WALK = Condition(
    "plain SGD at a constant rate on clean labels, exponents over lags 10 to 100",
    lambda known: _walk(known) or _fitted(known),
)
RANDOM_LABELS = Condition(
    "plain SGD at a constant rate on random labels, exponents over lags 10 to 100",
    lambda known: _plain(known) or _fitted(known) or _random_labels(known),
)
TRAINED = Condition("modes that were trained (loss below half of chance)", _others)
ANY = Condition("any", lambda _: "")
