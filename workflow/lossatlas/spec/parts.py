"""The named parts of a config: data sets, models, recipes. Typed; unknown keys are refused."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lossatlas.spec import kinds
from lossatlas.spec.kinds import numbers


class Strict(BaseModel):
    """A part of the config that refuses keys it does not know, and texts and true for numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    OTHERWISE: ClassVar[frozenset[str]] = frozenset()  # fields that check themselves

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if name in cls.OTHERWISE:
            return value
        own = cls.__module__.startswith("lossatlas.") and not name.startswith("seed")
        most = kinds.MOST if own else kinds.LARGEST
        return kinds.checked(value, cls.model_fields[name].annotation, most)


_Part = TypeVar("_Part", bound=Strict)


def _with(part: _Part, **values: Any) -> _Part:
    """Return a part with other values; itself where they are its own, which is fast."""
    changed = {key: value for key, value in values.items() if getattr(part, key) != value}
    return part.model_copy(update=changed) if changed else part


class Text(Strict):
    """Which sentence pairs of a translation are used, and how they become tokens."""

    train: list[str] = Field(
        [], description="two text files of your own, source and target: a sentence per line"
    )
    test: list[str] = Field([], description="the same of held-out sentences")
    pairs: int | None = Field(
        None, ge=1, description="training pairs that are used, the first ones; none: all"
    )
    vocabulary: int = Field(
        8000, ge=5, description="subwords of both languages together (byte pair encoding)"
    )
    longest: int = Field(
        128, ge=2, description="most tokens of a sentence; longer training pairs are left out"
    )

    @model_validator(mode="after")
    def _two_files_each(self) -> Text:
        counts = {len(self.train), len(self.test)}
        if counts not in ({0}, {2}):
            raise ValueError("'train' and 'test' have two files each, source and target")
        return self


class DataPart(Strict):
    """A data set, what networks do with it, and the load put on it."""

    source: str = Field(
        "", description="row of resources/datasets.tsv, or your own data; default: the name"
    )
    task: str = Field(
        "classification",
        description="what networks are for: classification, regression, multi_label, "
        "token_classification, language_model, sequence_to_sequence, translation, or your own "
        "'package.module:object'",
    )
    fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training images that is kept"
    )
    label_noise: float = Field(0.0, ge=0, le=1, description="share of training labels drawn anew")
    pixel_noise: float = Field(0.0, ge=0, description="s.d. of noise on training pixels, of [0, 1]")
    transforms: Literal["fixed", "paper"] = Field(
        "fixed", description="how load is put on: seeded and stratified, or as the paper's code did"
    )
    seed: int = Field(0, ge=0, description="seed of the subset and of the noise")
    mean: list[float] = Field(
        [], description="subtracted from each channel of pixels in [0, 1], in place of the usual"
    )
    std: list[Annotated[float, Field(gt=0)]] = Field(
        [], description="what channels are divided by then"
    )
    text: Text | None = Field(None, description="of sentence pairs: which, and their tokens")

    @model_validator(mode="after")
    def _normalisation(self) -> DataPart:
        if len(self.mean) != len(self.std):
            raise ValueError("'mean' and 'std' have one number per channel each")
        return self

    def effective(self) -> DataPart:
        """Return the part as it acts: parts that give the same images and labels become equal."""
        if not (self.fraction < 1 or self.label_noise or self.pixel_noise):
            return _with(self, transforms="fixed", seed=0)
        return _with(self, seed=0) if self.transforms == "paper" else self  # has its own seed

    def kept(self, images: int) -> int:
        """Return how many of that many training images are used."""
        share = images * self.fraction
        return int(share) if self.transforms == "paper" else round(share)


class ModelPart(BaseModel):
    """A network: the name of a builder and its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    builder: str = Field("", description="built-in name, or the user's 'package.module:object'")
    start_from: str = Field(
        "",
        description="file of weights from which all replicas start, as for fine-tuning (or a folder"
        " with one safetensors file); what has another shape there is drawn",
    )

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, given: Any) -> Any:
        """Types tell numbers from texts elsewhere; here there are none."""
        if not isinstance(given, dict):
            return given
        return {key: numbers(value) for key, value in given.items()}

    @model_validator(mode="after")
    def _plain_arguments(self) -> ModelPart:
        for name, value in self.arguments.items():
            if not isinstance(value, int | float | str | bool | list | type(None)):
                raise ValueError(  # noqa: TRY004 -- Pydantic explains ValueErrors
                    f"'{name}' must be a number, a text, true, false or a list"
                )
            if not kinds.plain_number(value):
                raise ValueError(f"'{name}' is too large, or no finite number")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the builder's arguments."""
        return dict(self.__pydantic_extra__ or {})


class EarlyStop(Strict):
    """Stop, or keep a copy, when the training loss has stopped changing, or is as good as 0."""

    after: int = Field(30, ge=0, description="epochs that always run")
    epochs: int = Field(
        5, ge=1, description="successive changes that must be small, or epochs that must fit"
    )
    tolerance: float = Field(1e-4, gt=0, description="largest change of the epoch's mean loss")
    loss: float | None = Field(
        None, gt=0, description="in place of that: the largest mean loss of an epoch that fits"
    )
    accuracy: float | None = Field(
        None,
        gt=0,
        le=100,
        description="likewise its least training accuracy (%); 100: no training error is left",
    )
    stop: bool = Field(False, description="end training there; otherwise just keep the weights")

    @model_validator(mode="after")
    def _one_rule(self) -> EarlyStop:
        if self.fits and self.tolerance != type(self).model_fields["tolerance"].default:
            said = "loss" if self.loss is not None else "accuracy"
            raise ValueError(f"choose one of 'tolerance' and '{said}'")
        return self

    @property
    def fits(self) -> bool:
        """Whether it waits for training data that are fitted, not for a loss that settles."""
        return self.loss is not None or self.accuracy is not None

    @property
    def first(self) -> int:
        """The first epoch, from 1, after which it can hold."""
        return max(self.after, self.epochs if self.fits else self.epochs + 1)


class Augment(Strict):
    """What is done to training images, drawn anew for every step; `{crop: 4, flip: true}`."""

    crop: int = Field(
        0, ge=0, description="pixels by which images are moved at most, black where nothing is left"
    )
    flip: bool = Field(False, description="mirror half of the images, left to right")

    @model_validator(mode="after")
    def _something(self) -> Augment:
        if not (self.crop or self.flip):
            raise ValueError("give 'crop', 'flip' or both, or leave 'augment' out")
        return self


class Recording(Strict):
    """What of the path of the weights is recorded: windows of points; point 0 is the start."""

    start: int = Field(0, ge=0, description="first point of the first window")
    length: int = Field(1000, ge=2, description="points of a window; as many weights in memory")
    stride: int = Field(1000, ge=1, description="from the start of one window to the next")
    projection: int = Field(
        1024, ge=0, description="dimensions of the random projection of every point; 0: none"
    )
    gradients: int = Field(
        256, ge=0, description="parameters, drawn once, whose gradients are kept at every step"
    )
    reservoir: int = Field(
        8, ge=0, description="entries of the gradient, drawn anew at every step, that are kept"
    )
    snapshots: int = Field(
        0, ge=0, description="epochs from one kept copy of all weights to the next; 0: the initial"
    )
    after: int = Field(
        0, ge=0, description="steps from one loss after a step, on its batch, to the next; 0: none"
    )
    whole: int = Field(
        0, ge=0, description="points from one loss on all training images to the next; 0: none"
    )
    seed: int = Field(0, ge=0, description="seed of the projection and of the entries")

    def windows(self, steps: int) -> list[tuple[int, int]]:
        """Return (first, end) of the full windows of a run of that many steps."""
        last = steps + 1 - self.length
        return [(first, first + self.length) for first in range(self.start, last + 1, self.stride)]

    def kept_epochs(self, epochs: int) -> list[int]:
        """Return after which epochs of a run of that many all weights are kept; 0 is the start."""
        return list(range(0, epochs + 1, self.snapshots)) if self.snapshots else [0]


_DECAY_FACTOR = 0.1
OPTIMISERS = ("sgd", "adam", "adamw")
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class Recipe(Strict):
    """How a network is trained: by default, SGD with momentum on the loss of the task."""

    epochs: int = Field(100, ge=1, description="passes over the training data")
    batch_size: int = Field(128, ge=1, description="images per step")
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="most targets per step, in place of `batch_size`: tokens of sequences",
    )
    optimiser: str = Field(
        "sgd", description="sgd, adam, adamw, or your own 'package.module:object'"
    )
    learning_rate: float = Field(0.1, gt=0, description="initial step size")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD, without dampening")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        _BETAS, description="of Adam: decay of the mean gradient and of its mean square"
    )
    epsilon: float = Field(_EPSILON, gt=0, description="of Adam: added to the root of the square")
    nesterov: bool = Field(False, description="Nesterov's form of momentum")
    weight_decay: float = Field(
        5e-4, ge=0, description="L2 on every parameter, added to gradients; of adamw decoupled"
    )
    clip_norm: float | None = Field(
        None, gt=0, description="largest norm of the gradient, which is scaled down to it"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each training label spread over all classes"
    )
    decay_epochs: list[int] = Field([], description="epochs at whose start the rate is multiplied")
    decay_factor: float = Field(_DECAY_FACTOR, gt=0, description="what the rate is multiplied by")
    cosine: bool = Field(False, description="anneal the rate to 0 over the epochs, per epoch")
    warmup_steps: int = Field(0, ge=0, description="steps over which the rate rises from 0")
    inverse_sqrt: bool = Field(
        False, description="after the warm-up, lower the rate as sqrt(warmup_steps / step)"
    )
    rate_per_batch: int | None = Field(
        None, ge=1, description="scale the rate by batch_size / this (linear scaling rule)"
    )
    shuffle: bool = Field(True, description="visit images in an order drawn for each epoch")
    augment: Augment | None = Field(None, description="random crops and mirror images")
    incomplete_batch: Literal["drop", "keep"] = Field("drop", description="an epoch's last batch")
    early_stop: EarlyStop | None = Field(None, description="when to keep an early-stopped copy")
    checkpoints: list[Literal["final", "best", "early"]] = Field(
        ["final"],
        description="weights kept: last epoch, lowest running training loss, early stop; of a "
        "replica that never settles 'early' is 'best', if that is kept, else 'final'",
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="how products of matrices and convolutions round their inputs; weights, sums "
        "and losses are float32 in all (tf32: on GPUs only)",
    )
    deterministic: bool = Field(
        False,
        description="on a GPU, take algorithms that give the same bits each time (a CPU always "
        "does), so that resumed training equals that without a break",
    )
    record: Recording | None = Field(None, description="what of the path is recorded")

    @field_validator("decay_epochs")
    @classmethod
    def _increasing(cls, value: list[int]) -> list[int]:
        if sorted(set(value)) != value or any(epoch < 1 for epoch in value):
            raise ValueError("must increase, from 1 up")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if not self.checkpoints or len(set(self.checkpoints)) != len(self.checkpoints):
            raise ValueError("'checkpoints' must name at least one kind, each once")
        if "early" in self.checkpoints and self.early_stop is None:
            raise ValueError("the checkpoint 'early' needs 'early_stop' settings")
        if self.decay_epochs and self.decay_epochs[-1] >= self.epochs:
            late, count = self.decay_epochs[-1], self.epochs
            raise ValueError(f"'decay_epochs' has {late}, and there are {count} epochs, from 0")
        rules = {"cosine": self.cosine, "decay_epochs": self.decay_epochs}
        rules["inverse_sqrt"] = self.inverse_sqrt
        if len(chosen := [name for name, there in rules.items() if there]) > 1:
            raise ValueError(f"choose one of '{chosen[0]}' and '{chosen[1]}'")
        if self.optimiser not in OPTIMISERS and ":" not in self.optimiser:
            known = ", ".join(OPTIMISERS)
            what = f"'optimiser' is '{self.optimiser}': {known}, or 'package.module:object'"
            raise ValueError(what)
        others = {"batch_tokens", "warmup_steps", "inverse_sqrt", "clip_norm", "optimiser"}
        if self.record is not None and (odd := sorted(others & self._changed())):
            raise ValueError(f"'record' follows the steps of plain SGD: leave out '{odd[0]}'")
        if not 0 < self.initial_rate < math.inf:
            raise ValueError(f"'rate_per_batch' makes the learning rate {self.initial_rate}")
        return self

    def _changed(self) -> set[str]:
        """Return the keys that do not have their defaults."""
        return set(self.model_dump(exclude_defaults=True))

    @property
    def initial_rate(self) -> float:
        """The learning rate of the first epoch, scaled by the batch size where that is asked."""
        if self.rate_per_batch is None:
            return self.learning_rate
        return self.learning_rate * (self.batch_size / self.rate_per_batch)

    def effective(self) -> Recipe:
        """Return the recipe as it acts: recipes that train the same networks become equal.

        Only settings are replaced without which every result is the same bit for bit.
        """
        decays = [] if self.decay_factor == 1 else self.decay_epochs
        return _with(
            self,
            learning_rate=self.initial_rate,
            rate_per_batch=None,
            decay_epochs=decays,
            decay_factor=self.decay_factor if decays else _DECAY_FACTOR,
            cosine=self.cosine and self.epochs > 1,  # it starts at 1
            early_stop=self._effective_stop(),
            batch_size=128 if self.batch_tokens is not None else self.batch_size,
            **self._effective_optimiser(),
        )

    def _effective_optimiser(self) -> dict[str, Any]:
        """Return settings that this optimiser does not read at their defaults."""
        if self.optimiser == "sgd":
            return {"betas": _BETAS, "epsilon": _EPSILON}
        if self.optimiser in OPTIMISERS:
            return {"momentum": 0.9, "nesterov": False}
        return {}

    def _effective_stop(self) -> EarlyStop | None:
        """Return the rule of early stopping as it acts; None where it has no effect."""
        rule = self.early_stop
        if rule is None or not (rule.stop or "early" in self.checkpoints):
            return None
        if rule.first <= self.epochs:
            return _with(rule, after=rule.first)
        # The checkpoint 'early' of a run that cannot settle is another checkpoint.
        return EarlyStop(after=self.epochs + 1) if "early" in self.checkpoints else None

    def steps(self, images: int) -> int:
        """Return the steps of a whole run on that many images."""
        kept = self.incomplete_batch == "keep" and images % self.batch_size > 0
        return (images // self.batch_size + kept) * self.epochs
