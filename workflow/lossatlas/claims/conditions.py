"""Where a paper makes its claims: the conditions of an experiment under which they are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from lossatlas.spec.figures import Thresholds

_SAME = 1e-9
LARGEST_BATCH = 1024  # of the released grid
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
        axes: Axis -> its values.
        data: Settings of the data set that are no axes.
        model: Settings of the network that are no axes.
        recipe: Settings of the recipe that are no axes.
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
    axes: Mapping[str, Sequence[float]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
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


PLANE = ("width", "batch_size")
DATA = ("cifar100", "svhn")  # beside CIFAR-10
NETWORKS = ("vgg11", "densenet40")  # beside ResNet18
_DECAY = {"decay_epochs", "decay_factor"}
_END = {"epochs", "early_stop", "checkpoints"}
_SCALED = "constant, scaled by the batch size"


def _along(*axes: str) -> Callable[[About], str]:
    """Return what says that an experiment lacks some axes."""

    def lacks(known: About) -> str:
        absent = [axis for axis in axes if axis not in known.axes]
        return f"no axis is {', '.join(absent)}" if absent else ""

    return lacks


def _clean_along(*axes: str) -> Callable[[About], str]:
    """Return what says that an experiment lacks some axes, or is not SGD on clean images."""
    return lambda known: _along(*axes)(known) or _others(known) or _noise(known)


def _decayed(known: About) -> str:
    return _plane(known) or _released(known)


def _plane(known: About) -> str:
    if sorted(known.axes) != sorted(PLANE):
        return f"the axes are {', '.join(known.axes) or 'not known'}"
    return ""


def _some_noisy_labels(known: About) -> str:
    if reason := _plane(known) or _others(known):
        return reason
    if known.rate != "constant":
        return f"the learning rate is {known.rate}"
    labels, pixels = known.label_noise or (0.0,), max(known.pixel_noise or (0.0,))
    if pixels or any(abs(share - 0.1) > _SAME for share in labels):
        return f"labels drawn anew: {', '.join(f'{share:.0%}' for share in labels)}"
    return ""


def _label_noise(known: About) -> str:
    pixels = max(known.pixel_noise or (0.0,))
    return _along("label_noise")(known) or _others(known) or ("pixels have noise" if pixels else "")


def _pixel_noise(known: About) -> str:
    labels = max(known.label_noise or (0.0,))
    return _along("pixel_noise")(known) or _others(known) or ("labels have noise" if labels else "")


def _large_batches(known: About) -> str:
    if reason := _clean_along("batch_size")(known):
        return reason
    most = max(known.axes["batch_size"])
    return f"the largest batch size is {most:g}" if most <= LARGEST_BATCH else ""


def _scaled(known: About) -> str:
    if reason := _clean_along("batch_size")(known):
        return reason
    return "" if known.rate == _SCALED else f"the learning rate is {known.rate}"


def _other_planes(known: About) -> str:
    if reason := _clean_along("width")(known):
        return reason
    if len(known.axes) != len(PLANE):
        return f"the axes are {', '.join(known.axes)}"
    (temperature,) = known.axes.keys() - {"width"}
    if temperature in ("learning_rate", "weight_decay"):
        return ""
    if temperature != "batch_size":
        return f"the axes are {', '.join(known.axes)}"
    other = known.data.get("source") in DATA or known.model.get("builder") in NETWORKS
    return "" if other else "data, network and axes are those of the other claims"


def _alike(one: About, two: About, but: Set[str]) -> bool:
    """Say whether two experiments are the same but for some settings of the recipe."""
    if not (one.recipe and two.recipe and list(one.axes) == list(two.axes)):
        return False
    recipes = [{k: v for k, v in known.recipe.items() if k not in but} for known in (one, two)]
    return (one.data, one.model, recipes[0]) == (two.data, two.model, recipes[1])


def undecayed(known: About, other: About) -> bool:
    """Say whether the other experiment has a constant rate, and is the same but for when it ends.

    The rate itself may differ: one that decays begins higher.
    """
    return other.rate == "constant" and _alike(known, other, _DECAY | _END | {"learning_rate"})


def unscaled(known: About, other: About) -> bool:
    """Say whether the other experiment is the same without scaling of the rate."""
    return other.rate == "constant" and _alike(known, other, {"learning_rate"})


def ends_otherwise(known: About, other: About) -> bool:
    """Say whether the other experiment is the same but for an earlier end of training, as given."""
    ends = [_end(one) for one in (known, other)]
    return _alike(known, other, _END) and known.rate == other.rate and ends[0] > ends[1]


def _end(known: About) -> tuple[float, str]:
    """Return what orders experiments by when training ends."""
    settings = [known.recipe.get(key) for key in sorted(_END)]
    return float(known.recipe.get("epochs", 0)), repr(settings)


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
DECAYED = Condition(
    "clean labels of 10 classes, a decay of the learning rate, and the same at a constant rate",
    _decayed,
)
NOISY_LABELS = Condition(
    "10% of the labels drawn anew, a constant learning rate, width and batch size",
    _some_noisy_labels,
)
AMOUNT_OF_DATA = Condition("an axis data_fraction, clean images", _clean_along("data_fraction"))
LABEL_NOISE = Condition("an axis label_noise", _label_noise)
WEIGHT_DECAY = Condition(
    "axes width and weight_decay, clean images", _clean_along("width", "weight_decay")
)
PIXEL_NOISE = Condition("an axis pixel_noise", _pixel_noise)
LARGE_BATCHES = Condition(f"batch sizes above {LARGEST_BATCH}, clean images", _large_batches)
SCALED = Condition(
    "a learning rate in proportion to the batch size, and the same at a constant rate", _scaled
)
TRANSLATION = Condition(
    "translation (sequence to sequence), trained to zero loss and stopped early",
    lambda known: "" if known.task == "sequence_to_sequence" else f"the task is {known.task}",
)
OTHER_PLANES = Condition(
    "width against learning rate or weight decay, CIFAR-100, SVHN, VGG11, DenseNet; clean images",
    _other_planes,
)
