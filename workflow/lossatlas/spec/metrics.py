"""Settings of each metric, and what each metric puts in the tables. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from lossatlas.spec.parts import Strict

Mode = Literal["fixed", "paper"]
Checkpoint = Literal["final", "best", "early"]


class MetricSettings(Strict):
    """What every metric has."""

    checkpoint: Checkpoint | None = Field(
        None, description="which weights; default: the first that the recipe keeps"
    )


class Performance(MetricSettings):
    """Loss and accuracy of each replica and of their ensemble; predictions on the test set."""

    kind: Literal["performance"] = "performance"


class Hessian(MetricSettings):
    """Top eigenvalues, trace and spectral density of the Hessian of the mean cross entropy."""

    kind: Literal["hessian"] = "hessian"
    mode: Mode = Field("fixed", description="'paper': power iteration and Hutchinson's trace")
    samples: int = Field(512, ge=1, description="training images in the loss (the paper: 200)")
    eigenvalues: int = Field(1, ge=1, description="how many of the largest in modulus")
    iterations: int = Field(60, ge=2, description="most Lanczos (or power iteration) products")
    tolerance: float = Field(1e-3, gt=0, description="relative residual at which a value converged")
    probes: int = Field(40, ge=3, description="products spent on the trace")
    density_probes: int = Field(2, ge=0, description="starting vectors of the spectral density")
    density_steps: int = Field(30, ge=2, description="Lanczos steps of each")
    parameters: str = Field("", description="regular expression that picks parameters; '' is all")
    chunk: int = Field(
        512, ge=1, description="images per pass; the loss is accumulated over passes"
    )
    seed: int = Field(0, ge=0, description="seed of the images and of the probes")


Pair = Annotated[list[int], Field(min_length=2, max_length=2)]


class Connectivity(MetricSettings):
    """Error along trained curves between replicas, and along the straight line."""

    kind: Literal["connectivity"] = "connectivity"
    mode: Mode = Field("fixed", description="'paper': 5 points, random middle, first two seeds")
    curve: Literal["bezier", "polygon"] = Field("bezier", description="shape of the path")
    bends: int = Field(1, ge=1, description="trained points between the two ends")
    pairs: Literal["all", "first", "chain"] | list[Pair] = Field(
        "chain", description="which seeds to connect: all, the first two, neighbours, or a list"
    )
    epochs: int = Field(50, ge=1, description="passes over the training data")
    batch_size: int = Field(128, ge=1, description="images per step")
    learning_rate: float = Field(0.01, gt=0, description="initial step size")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="L2 on the sampled point")
    start: Literal["linear", "random"] = Field("linear", description="where bends start")
    points: int = Field(21, ge=3, description="places t at which the error is measured")
    seed: int = Field(0, ge=0, description="seed of the data order and of t")

    @field_validator("pairs")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if isinstance(value, list):
            keys = [tuple(sorted(pair)) for pair in value]
            if not keys or len(set(keys)) != len(keys) or any(a == b for a, b in keys):
                raise ValueError("must name at least one pair of different seeds, each pair once")
        return value


class Cka(MetricSettings):
    """Linear centred kernel alignment between replicas, on blended training images."""

    kind: Literal["cka"] = "cka"
    mode: Mode = Field("fixed", description="which estimator 'cka' is: unbiased; 'paper': biased")
    samples: int = Field(640, ge=4, description="blended images (the paper's code: 768)")
    batch_size: int = Field(128, ge=4, description="images blended with one coefficient")
    mixup_alpha: float = Field(16.0, ge=0, description="Beta(alpha, alpha) of the blend; 0: none")
    layers: list[str] = Field(
        ["softmax", "output"], min_length=1, description="'softmax', 'output' or names of modules"
    )
    seed: int = Field(0, ge=0, description="seed of the images and of the blend")


class Distance(MetricSettings):
    """Distance of weights, and how differently two replicas predict."""

    kind: Literal["distance"] = "distance"


KINDS: dict[str, type[MetricSettings]] = {
    "performance": Performance,
    "hessian": Hessian,
    "connectivity": Connectivity,
    "cka": Cka,
    "distance": Distance,
}

# What each kind writes: name of the scalar -> of what ("replica", "pair" or "cell").
PRODUCES: dict[str, dict[str, str]] = {
    "performance": {
        "train_loss": "replica",
        "train_accuracy": "replica",
        "test_loss": "replica",
        "test_accuracy": "replica",
        "ensemble_accuracy": "cell",
        "ensemble_nll": "cell",
    },
    "hessian": {"hessian_eigenvalue": "replica", "hessian_trace": "replica"},
    "connectivity": {
        "mode_connectivity": "pair",
        "path_dip": "pair",
        "path_bump": "pair",
        "linear_barrier": "pair",
    },
    "cka": {"cka": "pair", "cka_biased": "pair", "cka_unbiased": "pair"},
    "distance": {
        "l2_distance": "pair",
        "normalised_distance": "pair",
        "disagreement": "pair",
        "js_divergence": "pair",
        "logit_cosine": "pair",
    },
}
