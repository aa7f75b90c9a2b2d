"""Settings of each metric, and what each metric puts in the tables. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lossatlas.spec.parts import Strict

Mode = Literal["fixed", "paper"]
Checkpoint = Literal["final", "best", "early"]


class MetricSettings(Strict):
    """What every metric has.

    Attributes:
        PAPER: Defaults of mode "paper" that are not those of mode "fixed".
    """

    PAPER: ClassVar[dict[str, Any]] = {}

    checkpoint: Checkpoint | None = Field(
        None, description="which weights; default: the first that the recipe keeps"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_paper(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("mode") == "paper":
            return {**cls.PAPER, **given}
        return given


class Performance(MetricSettings):
    """Loss and accuracy of each replica and of their ensemble; predictions on the test set."""

    kind: Literal["performance"] = "performance"


class Hessian(MetricSettings):
    """Top eigenvalues, trace and spectral density of the Hessian of the mean cross entropy."""

    PAPER: ClassVar[dict[str, Any]] = {"samples": 200, "iterations": 100, "probes": 100}

    kind: Literal["hessian"] = "hessian"
    mode: Mode = Field("fixed", description="'paper': power iteration and Hutchinson's trace")
    samples: int = Field(512, ge=1, description="training images in the loss; 200 in mode 'paper'")
    eigenvalues: int = Field(1, ge=1, description="how many of the largest in modulus")
    iterations: int = Field(
        60, ge=2, description="most Lanczos products; in mode 'paper' 100, of power iteration"
    )
    tolerance: float = Field(1e-3, gt=0, description="relative residual at which a value converged")
    probes: int = Field(
        40, ge=3, description="products spent on the trace; in mode 'paper' 100 at most"
    )
    density_probes: int = Field(2, ge=0, description="starting vectors of the spectral density")
    density_steps: int = Field(30, ge=2, description="Lanczos steps of each")
    parameters: str = Field("", description="regular expression that picks parameters; '' is all")
    chunk: int = Field(
        512, ge=1, description="images per pass; the loss is accumulated over passes"
    )
    seed: int = Field(0, ge=0, description="seed of the images and of the probes")


class HessianPath(MetricSettings):
    """Spectrum of the Hessian at the weights that the recipe's `record.snapshots` keeps."""

    PAPER: ClassVar[dict[str, Any]] = {"iterations": 20, "tolerance": 1e-4}

    kind: Literal["hessian_path"] = "hessian_path"
    mode: Mode = Field(
        "fixed", description="'paper': power iteration, each product on the next batch"
    )
    samples: int = Field(512, ge=1, description="training images in the loss")
    batch_size: int = Field(128, ge=1, description="images of a product in mode 'paper'")
    eigenvalues: int = Field(20, ge=1, description="how many of the largest in modulus")
    iterations: int = Field(
        100, ge=2, description="most products; in mode 'paper' 20, for each value"
    )
    tolerance: float = Field(
        1e-3,
        gt=0,
        description="relative residual at which a value converged; in mode 'paper' 1e-4, of the "
        "change",
    )
    density_probes: int = Field(1, ge=0, description="starting vectors of the spectral density")
    density_steps: int = Field(40, ge=2, description="Lanczos steps of each")
    chunk: int = Field(512, ge=1, description="images per pass")
    seed: int = Field(0, ge=0, description="seed of the images and of the starting vectors")


Pair = Annotated[list[int], Field(min_length=2, max_length=2)]


class Connectivity(MetricSettings):
    """Error along trained curves between replicas, and along the straight line."""

    PAPER: ClassVar[dict[str, Any]] = {"start": "random", "points": 5, "pairs": "first"}

    kind: Literal["connectivity"] = "connectivity"
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


class Cka(MetricSettings):
    """Linear centred kernel alignment between replicas, on blended training images."""

    PAPER: ClassVar[dict[str, Any]] = {"samples": 768}

    kind: Literal["cka"] = "cka"
    mode: Mode = Field("fixed", description="which estimator 'cka' is: unbiased; 'paper': biased")
    samples: int = Field(640, ge=4, description="blended images; 768 in mode 'paper'")
    batch_size: int = Field(128, ge=4, description="images blended with one coefficient")
    mixup_alpha: float = Field(16.0, ge=0, description="Beta(alpha, alpha) of the blend; 0: none")
    layers: list[str] = Field(
        ["softmax", "output"], min_length=1, description="'softmax', 'output' or names of modules"
    )
    seed: int = Field(0, ge=0, description="seed of the images and of the blend")


class Distance(MetricSettings):
    """Distance of weights, and how differently two replicas predict."""

    kind: Literal["distance"] = "distance"


class Spro(MetricSettings):
    """How the vertices of simplexes are trained (Benton et al., 2021)."""

    mode: Mode = Field(
        "fixed",
        description="'paper': losses summed over samples, log(V^2 + 1e-4) of the first simplex, "
        "simplexes chosen with equal probability, strength by the rule of the authors' code",
    )
    epochs: int = Field(20, ge=1, description="passes over the training data, per vertex")
    batch_size: int = Field(128, ge=1, description="images per step")
    learning_rate: float = Field(0.01, gt=0, description="initial step size; annealed by a cosine")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="L2 on the vertex that is trained")
    samples: int = Field(5, ge=1, description="points of the complex per step")
    regularisation: float = Field(
        1e-3, ge=0, description="strength of -log V; in mode 'paper' what its rule starts from"
    )
    epsilon: float | None = Field(
        None,
        ge=0,
        description="added to V^2 inside the logarithm; default: 0, in mode 'paper' 1e-4",
    )
    jitter: float = Field(
        0.03, ge=0, description="distance of a vertex's start from the mean, by the mean's norm"
    )
    seed: int = Field(0, ge=0, description="seed of data order, of points and of starts")


class Simplex(Spro):
    """A complex of simplexes between replicas: loss inside, on segments and on planes."""

    kind: Literal["simplex"] = "simplex"
    complex: Literal["shared", "single"] | list[list[str]] = Field(
        "shared",
        description="'shared': one simplex per mode, all with the same connectors; 'single': one "
        "simplex grown from the first mode; or a list of simplexes such as [[w0, c0], [w1, c0]]",
    )
    modes: int = Field(2, ge=1, description="replicas that 'shared' connects: the first ones")
    connectors: int = Field(3, ge=1, description="trained vertices of 'shared' and 'single'")
    repeats: int = Field(
        1,
        ge=1,
        description="complexes of 'shared' or 'single', each with the next replicas as modes, for "
        "statistics over seeds; tables show the first",
    )
    points: int = Field(25, ge=1, description="random points at which each simplex is evaluated")
    places: int = Field(21, ge=3, description="places on each segment")
    planes: list[Annotated[list[str], Field(min_length=3, max_length=3)]] = Field(
        [],
        description="three vertices of each plane, such as [[w0, w1, c0]]; default: up to four "
        "triangles that show the complex",
    )
    raster: int = Field(21, ge=2, description="points along each side of a plane")
    images: int = Field(512, ge=1, description="training images for planes")

    @model_validator(mode="after")
    def _repeats(self) -> Simplex:
        if self.repeats > 1 and isinstance(self.complex, list):
            raise ValueError("repeats: a listed complex has its modes by name; ask for 1")
        return self

    @property
    def replicas(self) -> int:
        """Modes of all complexes together, if they are not listed."""
        return self.repeats * (self.modes if self.complex == "shared" else 1)


class SimplexVolume(Spro):
    """Volume of the complex between two replicas against the number of connectors.

    Grown three ways: "fixed", "fixed" with 1e-4 added to V^2, and "paper".
    """

    kind: Literal["simplex_volume"] = "simplex_volume"
    epochs: int = Field(10, ge=1, description="passes over the training data, per vertex")
    connectors: int = Field(12, ge=1, description="vertices trained, one after another")
    regularisations: list[Annotated[float, Field(ge=0)]] = Field(
        [0.0, 1e-6, 2e-2, 6e-2], min_length=1, description="strengths, each in all three ways"
    )
    repeats: int = Field(
        1, ge=1, description="pairs of replicas, each the next two, for statistics over seeds"
    )
    points: int = Field(25, ge=1, description="random points at which each complex is evaluated")


class Espro(Spro):
    """Fast ensembles: simplexes grown from each replica, against the replicas themselves."""

    kind: Literal["espro"] = "espro"
    vertices: int = Field(2, ge=1, description="trained vertices per replica: dimension at most")
    draws: int = Field(25, ge=1, description="networks sampled in each simplex (H)")
    components: int = Field(8, ge=1, description="most replicas in an ensemble (J)")
    cycles: int = Field(3, ge=0, description="members of fast geometric ensembles; 0: none")
    cycle_epochs: int = Field(4, ge=2, description="passes over the data per member")
    cycle_rates: list[float] = Field(
        [0.05, 0.0005], min_length=2, max_length=2, description="largest and smallest step size"
    )
    severities: list[Annotated[float, Field(ge=0)]] = Field(
        [0.1, 0.2, 0.4, 0.6, 0.8],
        description="s.d. of Gaussian noise on the normalised test images",
    )
    corruptions: str = Field(
        "", description="archive of corrupted test images to measure on as well: cifar10_c"
    )

    @field_validator("cycle_rates")
    @classmethod
    def _rates(cls, value: list[float]) -> list[float]:
        if not value[0] >= value[1] > 0:
            raise ValueError("must be two step sizes, the larger one first, both positive")
        return value


class Diffusion(MetricSettings):
    """Training as a random walk: displacement, contour, loss and gradients in windows of its path.

    Reads what the recipe's `record` asked for.
    """

    kind: Literal["diffusion"] = "diffusion"
    mode: Mode = Field(
        "fixed",
        description="'paper': pairs grouped by exactly equal path length, square of the mean loss "
        "difference, losses beside the weights after their step, local exponents over 20 lags, "
        "excursions of random stretches, the faulty displacement from the first point",
    )
    fit: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        [10, 100], description="smallest and largest lag of the fit of the exponent"
    )
    last_lag: int | None = Field(
        None, ge=2, description="largest lag; default a quarter of the window"
    )
    bootstrap: int = Field(100, ge=0, description="replicates for standard errors; 0: none")
    surrogates: int = Field(5, ge=2, description="paths with reordered steps")
    entries: int = Field(5000, ge=50, description="gradient entries in a fit of a stable law")
    seed: int = Field(0, ge=0, description="seed of bootstrap, surrogates and entries")

    @field_validator("fit")
    @classmethod
    def _range(cls, value: list[float]) -> list[float]:
        if not 0 < value[0] < value[1]:
            raise ValueError("must be two lags, the smaller one first, both positive")
        return value


class Landscape(MetricSettings):
    """Roughness of the loss on planes of random filter-normalised and of principal directions.

    The latter need the weights that the recipe's `record.snapshots` keeps.
    """

    kind: Literal["landscape"] = "landscape"
    side: int = Field(65, ge=9, description="nodes along each side: 2^n + 1")
    extent: float = Field(1.0, gt=0, description="half the side, in lengths of the directions")
    samples: int = Field(256, ge=1, description="training images in the loss")
    seed: int = Field(0, ge=0, description="seed of the images and of the directions")

    @field_validator("side")
    @classmethod
    def _dyadic(cls, value: int) -> int:
        if (value - 1) & (value - 2):
            raise ValueError("must be 2^n + 1, such as 33, 65 or 129")
        return value


KINDS: dict[str, type[MetricSettings]] = {
    "performance": Performance,
    "hessian": Hessian,
    "connectivity": Connectivity,
    "cka": Cka,
    "distance": Distance,
    "simplex": Simplex,
    "simplex_volume": SimplexVolume,
    "espro": Espro,
    "diffusion": Diffusion,
    "landscape": Landscape,
    "hessian_path": HessianPath,
}
