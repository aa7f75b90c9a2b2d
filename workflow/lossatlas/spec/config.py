"""The config: typed, and checked before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, ClassVar

from pydantic import Field, PrivateAttr, ValidationError, field_validator

from lossatlas import paths, plugins
from lossatlas.errors import UserError
from lossatlas.metrics import registry
from lossatlas.metrics.base import Metric
from lossatlas.spec import (
    checks,
    elsewhere,
    kinds,
    owndata,
    refining,
    rehearsal,
    starts,
    subset,
    textdata,
    varying,
)
from lossatlas.spec.catalogue import NETWORKS
from lossatlas.spec.cells import (
    Cell,
    axis_target,
    canonical,
    from_spec,
)
from lossatlas.spec.complaints import explain
from lossatlas.spec.figures import Figure
from lossatlas.spec.kinds import numbers
from lossatlas.spec.parts import DataPart, ModelPart, Recipe, Strict

MOST_SEEDS = 10_000  # of an experiment: names of blocks are lists of them
_WORDS = {"on": True, "true": True, "off": False, "false": False}
AxisValues = Annotated[list[int | float], Field(min_length=1)]


class Experiment(Strict):
    """A set of cells and the metrics to measure on them."""

    OTHERWISE: ClassVar[frozenset[str]] = frozenset({"load", "temperature"})

    dataset: str = Field(description="a name from `datasets`")
    model: str = Field(description="a name from `models`")
    recipe: str = Field(
        "",
        description="a name from `recipes`; with `checkpoints` it may be left out: only the keys"
        " that it sets are then taken, as what is known of training",
    )
    checkpoints: str = Field(
        "",
        description="networks trained elsewhere, in place of training: a pattern of their files, or"
        " a table (.csv, .tsv)",
    )
    origin: str = Field(
        "elsewhere",
        description="a word for where `checkpoints` come from, which tells cells apart that are the"
        " same in all that is known of them",
    )
    load: dict[str, AxisValues] = Field({}, description="load axis: values")
    temperature: dict[str, AxisValues] = Field({}, description="temperature axis: values")
    only: str = Field(
        "", description="cells that are made for now: 'width<=16 and batch_size>=64'; default: all"
    )
    seeds: (
        Annotated[int, Field(ge=1, le=MOST_SEEDS)]
        | Annotated[list[int], Field(min_length=1, max_length=MOST_SEEDS)]
    ) = Field(3, description="how many replicas, or the list of their seeds; of `checkpoints`: all")
    metrics: list[str] = Field([], description="names from `metrics`")
    together: int = Field(
        1,
        ge=1,
        le=MOST_SEEDS,
        description="most replicas of a narrow network that one job trains, vectorised",
    )
    refine: refining.Refine | None = Field(
        None, description="measure the cells that tell most of the phases; default: all cells"
    )

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: int | list[int]) -> int | list[int]:
        if isinstance(value, list) and (len(set(value)) != len(value) or min(value) < 0):
            raise ValueError("must be different whole numbers, from 0 up")
        return value

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if repeated := [name for name in value if value.count(name) > 1]:
            raise ValueError(f"repeats '{repeated[0]}'")
        return value

    @field_validator("load", "temperature", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        for axis, values in value.items() if isinstance(value, dict) else ():
            for one in values if isinstance(values, list) else ():
                if isinstance(numbers(one), str) and not one.lstrip("+-")[:1].isdigit():
                    what = f"'{axis}' has '{one}', and an axis has numbers"
                    raise ValueError(f"{what}: make an experiment of each")
            # an argument of the network's may be true or false
            kind = list[bool | float] if str(axis).startswith("model.") else list[float]
            kinds.checked(values, kind, kinds.MOST)
        return value

    @field_validator("load", "temperature")
    @classmethod
    def _no_repeats(cls, value: dict[str, list[int | float]]) -> dict[str, list[int | float]]:
        for axis, values in value.items():
            if len(set(values)) != len(values):
                raise ValueError(f"'{axis}' repeats a value")
        return value

    @property
    def seed_list(self) -> list[int]:
        """The seeds of the replicas, ascending."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else sorted(self.seeds)

    @property
    def axes(self) -> dict[str, list[int | float]]:
        """Load axes, then temperature axes."""
        return {**self.load, **self.temperature}


class Config(Strict):
    """The whole config."""

    name: str = Field(
        paths.DEFAULT,
        description="folder in results/ of figures, tables, claims and report; default: the name of"
        " the file that has `experiments`; those of config.yaml lie in results/ itself",
    )
    mirror_dir: str = Field("", description="folder that is looked at before any download")
    plugins: bool = Field(
        True, description="`off`: nothing of a plug-in is imported; for configs from elsewhere"
    )
    only: str = Field(
        "",
        description="cells of all experiments that are made for now, as `experiments.<name>.only`; "
        "a condition on an axis that an experiment does not have leaves that one as it is",
    )
    walltime: float = Field(
        24.0,
        gt=0,
        description="most hours that a queue gives a job; longer work is cut there, keeps what it "
        "has and goes on in the next attempt",
    )
    rehearse: bool = Field(
        False,
        description="run the same jobs small first, on few examples and for few steps, in"
        " results/rehearsal/; `snakemake --config rehearse=true`",
    )
    pilot: bool = Field(
        False,
        description="run the smallest and the largest cell of each experiment for one epoch, in"
        " results/pilot/, and compare what jobs take with what they ask for; `snakemake --config"
        " pilot=true`",
    )
    datasets: dict[str, DataPart] = Field(description="named data sets")
    models: dict[str, ModelPart] = Field(description="named networks")
    recipes: dict[str, Recipe] = Field({}, description="named recipes")
    metrics: dict[str, dict[str, Any]] = Field({}, description="settings of named metrics")
    experiments: dict[str, Experiment] = Field(min_length=1, description="what to run")
    figures: dict[str, Figure] = Field({}, description="what to draw from which experiment")

    _made: dict[tuple[str, str], Metric] = PrivateAttr(default_factory=dict)
    _found: dict[str, elsewhere.Found] = PrivateAttr(default_factory=dict)
    _picked: dict[str, list[Mapping[str, int | float]]] = PrivateAttr(default_factory=dict)

    def metric(self, name: str, cell: Cell | None = None) -> Metric:
        """Return a named metric with its settings.

        Args:
            name: From `metrics`, or a built-in one.
            cell: That it is measured on. Without it, settings that vary with an axis have their
                defaults: enough for what does not depend on them.
        """
        settings = self.metrics.get(name, {})
        vary = varying.varying(settings)
        own = varying.resolved(vary, cell) if cell is not None and vary else {}
        key = name, str(own)
        if key not in self._made:  # each job asks some 14 times
            kind = settings.get("kind", name)
            plain = {one: value for one, value in settings.items() if one not in {"kind", *vary}}
            plain |= own
            self._made[key] = registry.find(kind, f"metrics.{name}")(**plain)
        return self._made[key]

    def varies(self, name: str) -> bool:
        """Say whether a metric has settings that vary with an axis."""
        return bool(varying.varying(self.metrics.get(name, {})))

    def firsts(self, experiment: str) -> dict[str, str]:
        """Return kind -> the experiment's first metric of it: what figures and claims show."""
        names = self.experiments[experiment].metrics
        return {self.metric(name).kind: name for name in reversed(names)}

    def grid(self, experiment: str) -> list[dict[str, int | float]]:
        """Return axis -> value of each cell of an experiment, as the config gives them."""
        if experiment in self._picked:  # of a pilot
            return [dict(point) for point in self._picked[experiment]]
        one, found = self.experiments[experiment], self._found.get(experiment)
        asked = subset.conditions(one.only, f"experiments.{experiment}.only")
        asked += subset.conditions(self.only, "only")
        every = (
            dict(zip(one.axes, values, strict=True))
            for values in product(*one.axes.values())
            if found is None or values in found.points
        )
        return [point for point in every if all(each.holds(point) for each in asked)]

    def checkpoints(self, experiment: str) -> list[Mapping[int, elsewhere.Checkpoint]]:
        """Return, for each cell of an experiment that was trained elsewhere, seed -> its file."""
        points = self._found[experiment].points
        return [points[tuple(point.values())] for point in self.grid(experiment)]

    @property
    def metrics_measured(self) -> list[str]:
        """The names of all metrics that are measured."""
        found = (name for one in self.experiments.values() for name in one.metrics)
        return list(dict.fromkeys(found))

    @property
    def missing(self) -> list[str]:
        """What the grids of experiments that were trained elsewhere lack, a line each."""
        return [f"{name}: {line}" for name, one in self._found.items() for line in one.missing]

    def recipe(self, experiment: str) -> Recipe:
        """Return the recipe of an experiment; what is known, where it was trained elsewhere."""
        one = self.experiments[experiment]
        if not one.checkpoints:
            return self.recipes[one.recipe]
        known = self.recipes[one.recipe].model_dump(exclude_unset=True) if one.recipe else {}
        return Recipe(**known)

    def cells(self, experiment: str) -> list[Cell]:
        """Return the cells of an experiment, in the order of its axes."""
        one = self.experiments[experiment]
        origin = one.origin if one.checkpoints else ""
        base = {
            "data": self.datasets[one.dataset].model_dump(),
            "model": self.models[one.model].model_dump(),
            "recipe": self.recipe(experiment).model_dump(exclude_unset=bool(origin)),
        }
        found = []
        for point in self.grid(experiment):
            parts = {name: dict(part) for name, part in base.items()}
            for axis, value in point.items():
                part, key = axis_target(axis)
                parts[part][key] = value
            found.append(_cell(parts, origin))
        return found


def _cell(parts: dict[str, dict[str, Any]], origin: str) -> Cell:
    """Build a cell; arguments that equal the builder's defaults are left out."""
    model = canonical(parts["model"])
    if model["builder"] in NETWORKS:
        defaults = NETWORKS[model["builder"]].arguments
        model = {k: v for k, v in model.items() if k not in defaults or defaults[k] != v}
    return Cell(DataPart(**parts["data"]), ModelPart(**model), Recipe(**parts["recipe"]), origin)


def load(raw: Mapping[str, Any]) -> Config:
    """Check a config and fill in its defaults.

    Raises:
        UserError: With the key that is wrong and the nearest fix.
    """
    try:
        plain = json.loads(json.dumps(dict(raw)))
        config = Config.model_validate(_with_names(plain))
    except ValidationError as error:
        raise explain(error, Config) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"not plain YAML: {error}", where="config") from None
    if not config.plugins:
        plugins.turn_off()
    config = config.model_copy(
        update={
            "datasets": {
                name: part.model_copy(update={"source": _source(part, name), "text": None})
                for name, part in config.datasets.items()
            }
        }
    )
    started = {name: starts.resolve(one, f"models.{name}") for name, one in config.models.items()}
    config = _adopted(config.model_copy(update={"models": started}))
    checks.check(config)
    if config.rehearse and config.pilot:
        raise UserError("is a pilot as well", where="rehearse", fix="choose one of the two")
    if config.rehearse:
        return _standing("in a rehearsal", rehearsal.shrunk(config))
    if not config.pilot:
        return config
    from lossatlas.spec.piloting import piloted  # which asks for the plan of a config

    return _standing("in a pilot", piloted(config))


def _standing(where: str, small: Config) -> Config:
    """Return the config that stands for another one, checked as any other."""
    small = _adopted(small)
    try:
        checks.check(small)
    except UserError as error:
        raise UserError(error.what, where=f"{where}: {error.where}", fix=error.fix) from None
    return small


def _source(part: DataPart, name: str) -> str:
    """Return the name under which the data of a part are known, and make them known."""
    where = f"datasets.{name}"
    return textdata.resolve(part, where) or owndata.resolve(part.source, f"{where}.source")


def _adopted(config: Config) -> Config:
    """Fill in the axes and seeds of experiments that were trained elsewhere, from their files."""
    both = {
        name: elsewhere.resolve(name, one)
        for name, one in config.experiments.items()
        if one.checkpoints
    }
    experiments = {name: one for name, (one, _) in both.items()}
    config = config.model_copy(update={"experiments": {**config.experiments, **experiments}})
    config._found.update({name: found for name, (_, found) in both.items()})  # noqa: SLF001
    return config


def _with_names(raw: dict[str, Any]) -> dict[str, Any]:
    """Fill in what a part is when its own name says so (a data set called digits is digits)."""
    for key in ("plugins", "rehearse", "pilot"):  # of a command line, where they are texts
        if isinstance(raw.get(key), str) and raw[key].lower() in _WORDS:
            raw[key] = _WORDS[raw[key].lower()]
    for section, key in (("datasets", "source"), ("models", "builder"), ("figures", "draws")):
        parts = raw.get(section)
        if isinstance(parts, dict):
            raw[section] = {
                name: {key: name, **(part or {})} if isinstance(part or {}, dict) else part
                for name, part in parts.items()
            }
    for section in ("recipes", "metrics"):
        if isinstance(raw.get(section), dict):
            raw[section] = {name: part or {} for name, part in raw[section].items()}
    return raw


def cell_of(spec: Any, where: str) -> Cell:
    """Return the cell of a specification that a person gives, such as a `spec.yaml`.

    Args:
        spec: What the file holds.
        where: The file.

    Raises:
        UserError: If it is no specification, or the cell cannot be trained.
    """
    fix = "give the 'spec.yaml' in a cell's folder"
    try:
        cell = from_spec(spec)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{key}: {what}" if key else what, where=where, fix=fix) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"is no cell's specification: {error}", where=where, fix=fix) from None
    checks.check_cell(cell, where)
    return cell


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the config."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
