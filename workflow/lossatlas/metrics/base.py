"""The declaration of a metric: settings, outputs, inputs, cost, checks and function in one class.

A metric of one's own is no more than this:

    import lossatlas as la

    class GradientNorm(la.Metric):
        \"\"\"L2 norm of the gradient of the mean loss of the first training images.\"\"\"

        per = "replica"
        samples: int = 1000
        outputs = [la.Output("gradient_norm", unit="nats", doc="norm of that gradient")]

        def measure(self, net, data):
            return la.Value(net.gradient(data.train[: self.samples]).norm())

What a class assigns without a type is declared about the metric; what has a type is a setting.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lossatlas.errors import UserError
from lossatlas.spec.parts import Strict
from lossatlas.spec.sizes import images_of
from lossatlas.tasks import CLASSIFICATION, Task

if TYPE_CHECKING:
    from lossatlas.diffusion.recorded import Recorded
    from lossatlas.spec.parts import DataPart, Recipe
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.networks import Networks
    from lossatlas.training.state import State

Mode = Literal["fixed", "paper"]
Checkpoint = Literal["final", "best", "early"]
Per = Literal["replica", "pair", "cell"]
Reads = Literal["networks", "networks and snapshots", "snapshots", "path", "arrays"]
Unit = tuple[int, ...]  # seeds of what is measured at once: (3,), (0, 1), or all of a cell

# Settings that a rehearsal lowers, of any metric that has a whole number of such a name.
REHEARSED = {
    **dict.fromkeys(("epochs", "bends", "cycles", "density_probes"), 1),
    **dict.fromkeys(("modes", "connectors", "repeats", "vertices", "components"), 2),
    **dict.fromkeys(("cycle_epochs", "surrogates"), 2),
    **dict.fromkeys(("draws", "eigenvalues", "points", "places", "raster"), 3),
    **dict.fromkeys(("probes", "bootstrap"), 5),
    "density_steps": 8,
    "batch_size": 16,
    "iterations": 10,
    "samples": 32,
    "images": 32,
    "side": 17,
    "entries": 200,
}
REHEARSED_WINDOW = 32  # points of a recorded window, at most
IMAGES = 1024  # that metrics pass through a network at once
OPTIMISER = Field("sgd", description="sgd, adam, adamw, or your own 'package.module:object'")


def ends(values: Sequence[Any]) -> list[Any]:
    """Return the first and the last value: what a rehearsal takes of a list."""
    return list(values[:: max(1, len(values) - 1)])


@dataclass(frozen=True)
class Output:
    """A number that a metric writes into the tables.

    Attributes:
        name: In the column `metric`; variants may add to it ("cka_biased.<layer>").
        unit: Such as "nats"; "" for a plain number.
        doc: One phrase for config/README.md.
        per: Of what it is one; default: as the metric.
        tasks: Names of the tasks that it is of; default: all.
    """

    name: str
    unit: str = ""
    doc: str = ""
    per: Per | None = None
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """A number with its standard error and status; numbers or tensors of one element.

    `df` are the degrees of freedom of the error; NaN: unknown, so that no interval follows from it.

    A number that is not finite gets the status "undefined", unless another than "ok" is given.
    """

    value: Any
    stderr: Any = math.nan
    status: str = "ok"
    df: float = math.nan


@dataclass(frozen=True)
class Given:
    """What a metric reads of the replicas it measures; which of these, its `reads` says.

    Attributes:
        loaded: The replicas with their data.
        snapshots: Epoch -> the replicas with the weights kept then.
        paths: Seed -> the recorded path of training.
        weights: Seed -> name -> trained parameters as an array.
        logits: Seed -> logits of the test images, from `performance`; outputs of other tasks.
        task: What the replicas are for.
    """

    loaded: Networks | None = None
    snapshots: Mapping[int, Networks] = field(default_factory=dict)
    paths: Mapping[int, Recorded] = field(default_factory=dict)
    weights: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    logits: Mapping[int, Any] = field(default_factory=dict)
    task: Task = CLASSIFICATION

    @property
    def networks(self) -> Networks:
        """The replicas with their data.

        Raises:
            ValueError: If the metric does not read them.
        """
        if self.loaded is None:
            raise ValueError("this metric does not read networks")
        return self.loaded


@dataclass(frozen=True)
class Asked:
    """The experiment that a metric is to be measured on, for `Metric.check`.

    Attributes:
        name: Of the metric, in the config.
        where: Key of the experiment.
        seeds: Of its replicas.
        recipe_name: A name from `recipes`.
        recipe: That recipe, without the values of axes.
        dataset_name: A name from `datasets`.
        data: That data set, without the values of axes.
        fractions: Shares of the training images, of all cells.
        adopted: Whether the networks were trained elsewhere: then `recipe` has what is known of
            that (`model_fields_set`), and its other values say nothing.
    """

    name: str
    where: str
    seeds: list[int]
    recipe_name: str
    recipe: Recipe
    dataset_name: str
    data: DataPart
    fractions: list[float]
    adopted: bool = False


@dataclass(frozen=True)
class Memory:
    """What a job holds at once: an estimate of its memory.

    Attributes:
        vectors: How many copies of a network's parameters.
        images: How many images' activations.
        numbers: Other numbers of 4 bytes.
        network: Whether it holds networks and data at all.
    """

    vectors: float = 0.0
    images: int = IMAGES
    numbers: float = 0.0
    network: bool = True


Passes = list[tuple[float, float, int]]  # (how many, operations per multiply-add, images in one)


class Metric(Strict):
    """What every metric is. A subclass declares, and writes `measure` or `measure_units`.

    Attributes:
        PAPER: Defaults of mode "paper" that are not those of mode "fixed".
        kind: The name of a built-in metric; "package.module:object" of others. Not to be set.
        per: What one measurement is made of: one replica, a pair of replicas, or all of a cell.
        outputs: The numbers that it writes.
        reads: "networks": trained weights and data; "snapshots": weights kept along training, and
            data ("networks and snapshots": both, if some were kept); "path": what training
            recorded; "arrays": weights as arrays, and the predictions that `performance` stored.
            The last two need no torch.
        resumes: Whether `measure_units` keeps unfinished work in the state that it is given.
        keeps_vertices: Whether it trains vertices of simplexes, which outlive the job.
        trains: Whether it trains networks, which then must run in training mode.
        needs_held_out: Whether it needs training images that were not trained on.
        needs_classes: Whether it needs a task with classes; `needs_images`: images to change.
        at_once: Whether `measure_units` gets all units that are to be measured in one call, because
            they share work; else one after another, and each is kept when it is done.
        costs_only: Settings that change memory or time but no number beyond rounding; a result
            stays valid when they change.
        files: Files beside the module that it reads; a change of one makes the results anew.
    """

    PAPER: ClassVar[dict[str, Any]] = {}
    kind: ClassVar[str] = ""
    per: ClassVar[Per] = "replica"
    outputs: ClassVar[Sequence[Output]] = ()
    reads: ClassVar[Reads] = "networks"
    resumes: ClassVar[bool] = False
    keeps_vertices: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    needs_held_out: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False
    at_once: ClassVar[bool] = False
    costs_only: ClassVar[Sequence[str]] = ()
    files: ClassVar[Sequence[str]] = ()

    checkpoint: Checkpoint | None = Field(
        None, description="which weights; default: the first that the recipe keeps"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_paper(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("mode") == "paper":
            return {**cls.PAPER, **given}
        return given

    # --- the function ---------------------------------------------------------------------------
    def measure(self, *given: Any) -> Any:
        """Measure one unit.

        Args:
            given: The network of a replica, those of a pair, or a list of all of a cell
                (`metrics.network.Network`), then the data (`data.tensors.TensorData`).

        Returns:
            A `Value` or a number for the only output; or name -> that; or (these, list of
            `store.Series`).
        """
        raise NotImplementedError(f"{type(self).__name__} defines no 'measure'")

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Measure several units; the default calls `measure` for each.

        Args:
            given: What the metric reads.
            units: Seeds of each.
            state: Where unfinished work is kept and found; None unless `resumes`.

        Returns:
            A record with all units, in any order. Arrays whose first axis is "replica" or "pair"
            have a row per unit, in the order of `units`; others must not depend on them.
        """
        from lossatlas.metrics.results import collect

        return collect(self, given, units)

    def finish(self, record: Record) -> Record:
        """Complete the record of a cell, put together from its units: what needs several of them.

        Args:
            record: All units that could be measured, in the order of `units`.
        """
        return record

    # --- what is measured -----------------------------------------------------------------------
    def uses(self, seeds: Sequence[int]) -> list[int]:
        """Return which of a cell's seeds matter to this metric; default: all."""
        return sorted(seeds)

    def compared(self, seeds: Sequence[int]) -> list[tuple[int, int]]:
        """Return the pairs of seeds that are compared; default: all, the smaller seed first."""
        return list(combinations(sorted(seeds), 2))

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """Return what is measured of a cell with these seeds."""
        used = self.uses(seeds)
        if self.per == "pair":
            return list(self.compared(used))
        return [(seed,) for seed in used] if self.per == "replica" else [tuple(used)]

    @property
    def least(self) -> int:
        """How many replicas must have ended well for anything to be measured."""
        return 2 if self.per == "pair" else 1

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that decide the numbers."""
        return self.model_dump(exclude=set(self.costs_only))

    # --- before anything runs -------------------------------------------------------------------
    def check(self, asked: Asked) -> None:
        """Refuse an experiment that this cannot be measured on.

        Raises:
            UserError: With the key and the nearest fix.
        """

    def rehearsed(self) -> dict[str, Any]:
        """Return the settings that a rehearsal changes, with its values: those that cost time.

        Default: whole numbers of the names of `REHEARSED`. What mode "paper" fixes stays.
        """
        fixed = self.PAPER if getattr(self, "mode", "") == "paper" else {}
        found = {key: getattr(self, key) for key in type(self).model_fields if key in REHEARSED}
        return {
            key: REHEARSED[key]
            for key, value in found.items()
            if isinstance(value, int) and value > REHEARSED[key] and key not in fixed
        }

    def passes(self, planned: PlannedCell) -> Passes:
        """Return the passes through the network that a cell takes: what its time is made of.

        Operations per multiply-add are 2 for a forward pass, 6 with a gradient, 12 for a product
        with the Hessian. The default is ten gradients on all training images per replica.
        """
        return [(10 * len(planned.seeds) * images_of(planned) / IMAGES, 6, IMAGES)]

    def seconds(self, planned: PlannedCell) -> float | None:
        """Return the time that a cell takes where passes do not tell, on any machine."""
        return None

    def memory(self, planned: PlannedCell) -> Memory:
        """Return what a job on a cell holds at once."""
        return Memory(2 * len(planned.seeds) + 8)

    def trained_vertices(self, replicas: int) -> int:
        """Return how many vertices of simplexes are trained and kept on disk."""
        return 0

    # --- the class itself -----------------------------------------------------------------------
    @classmethod
    def needs_torch(cls) -> bool:
        """Say whether its job needs torch."""
        return cls.reads not in ("path", "arrays")

    @classmethod
    def costs(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of some settings that only cost memory or time."""
        return {name: given[name] for name in cls.costs_only if name in given}

    @classmethod
    def output(cls, name: str) -> Output | None:
        """Return the declaration of an output, by its name or that of a variant."""
        known = {one.name: one for one in cls.outputs}
        if name in known:
            return known[name]
        variants = [one for key, one in known.items() if name.startswith((f"{key}.", f"{key}_"))]
        return max(variants, key=lambda one: len(one.name), default=None)

    @classmethod
    def per_of(cls, output: Output) -> Per:
        """Return of what an output is one."""
        return output.per or cls.per

    @classmethod
    def declared_files(cls) -> list[Path]:
        """Return the files that it reads beside its module.

        Raises:
            UserError: If one is missing.
        """
        if not cls.files:
            return []
        folder = Path(inspect.getfile(cls)).resolve().parent
        found = [folder / name for name in cls.files]
        for file in found:
            if not file.is_file():
                fix = f"put it there, or correct 'files' of {cls.__name__}"
                raise UserError("no such file", where=f"{cls.kind}: {file}", fix=fix)
        return found
