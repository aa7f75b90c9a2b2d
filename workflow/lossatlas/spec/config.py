"""The config: typed, and checked before anything is spent."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from lossatlas.errors import UserError, nearest
from lossatlas.simplex import complexes
from lossatlas.spec.catalogue import NETWORKS, corrupted_source, data_source
from lossatlas.spec.cells import (
    LOAD_AXES,
    TEMPERATURE_AXES,
    Cell,
    axis_target,
    canonical,
    from_spec,
)
from lossatlas.spec.depths import ANY
from lossatlas.spec.figures import Figure
from lossatlas.spec.metrics import KINDS, Espro, MetricSettings, Simplex, SimplexVolume
from lossatlas.spec.parts import DataPart, ModelPart, Recipe, Strict

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BRANCHES = ("int", "list[", "constrained-")  # what Pydantic calls the branches of a union
LEAST_WINDOW = 4  # points that `diffusion` can analyse: one lag of a quarter
AxisValues = Annotated[list[int | float], Field(min_length=1)]


class Experiment(Strict):
    """A set of cells and the metrics to measure on them."""

    dataset: str = Field(description="a name from `datasets`")
    model: str = Field(description="a name from `models`")
    recipe: str = Field(description="a name from `recipes`")
    load: dict[str, AxisValues] = Field({}, description="load axis: values")
    temperature: dict[str, AxisValues] = Field({}, description="temperature axis: values")
    seeds: Annotated[int, Field(ge=1)] | Annotated[list[int], Field(min_length=1)] = Field(
        3, description="how many replicas, or the list of their seeds"
    )
    metrics: list[str] = Field([], description="names from `metrics`")
    together: int = Field(
        1, ge=1, description="most replicas of a narrow network that one job trains, vectorised"
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

    mirror_dir: str = Field("", description="folder that is looked at before any download")
    datasets: dict[str, DataPart] = Field(description="named data sets")
    models: dict[str, ModelPart] = Field(description="named networks")
    recipes: dict[str, Recipe] = Field(description="named recipes")
    metrics: dict[str, dict[str, Any]] = Field({}, description="settings of named metrics")
    experiments: dict[str, Experiment] = Field(min_length=1, description="what to run")
    figures: dict[str, Figure] = Field({}, description="what to draw from which experiment")

    def metric(self, name: str) -> MetricSettings:
        """Return the settings of a named metric."""
        settings = self.metrics.get(name, {})
        kind = settings.get("kind", name)
        return KINDS[kind](**{**settings, "kind": kind})

    def firsts(self, experiment: str) -> dict[str, str]:
        """Return kind -> the experiment's first metric of it: what figures and claims show."""
        names = self.experiments[experiment].metrics
        return {self.metric(name).kind: name for name in reversed(names)}  # type: ignore[attr-defined]

    def cells(self, experiment: str) -> list[Cell]:
        """Return the cells of an experiment, in the order of its axes."""
        one = self.experiments[experiment]
        base = {
            "data": self.datasets[one.dataset].model_dump(),
            "model": self.models[one.model].model_dump(),
            "recipe": self.recipes[one.recipe].model_dump(),
        }
        found = []
        for values in product(*one.axes.values()):
            parts = {name: dict(part) for name, part in base.items()}
            for axis, value in zip(one.axes, values, strict=True):
                part, key = axis_target(axis)
                parts[part][key] = value
            found.append(_cell(parts))
        return found


def _cell(parts: dict[str, dict[str, Any]]) -> Cell:
    """Build a cell; arguments that equal the builder's defaults are left out."""
    model = canonical(parts["model"])
    if model["builder"] in NETWORKS:
        defaults = NETWORKS[model["builder"]].arguments
        model = {k: v for k, v in model.items() if k not in defaults or defaults[k] != v}
    return Cell(DataPart(**parts["data"]), ModelPart(**model), Recipe(**parts["recipe"]))


def load(raw: Mapping[str, Any]) -> Config:
    """Check a config and fill in its defaults.

    Raises:
        UserError: With the key that is wrong and the nearest fix.
    """
    try:
        plain = json.loads(json.dumps(dict(raw)))
        config = Config.model_validate(_with_names(plain))
    except ValidationError as error:
        raise _explain(error) from None
    except TypeError as error:
        raise UserError(f"not plain YAML: {error}", where="config") from None
    _check_names(config)
    _check_models(config)
    _check_metrics(config)
    for name in config.experiments:
        _check_experiment(config, name)
    _check_figures(config)
    return config


def _with_names(raw: dict[str, Any]) -> dict[str, Any]:
    """Fill in what a part is when its own name says so (a data set called digits is digits)."""
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


def _explain(error: ValidationError) -> UserError:
    """Turn the first of Pydantic's complaints into one line."""
    first = error.errors()[0]
    keys = [str(key) for key in first["loc"] if not str(key).startswith(_BRANCHES)]
    where = ".".join(keys) or "config"
    if first["type"] == "extra_forbidden":
        parent = ".".join(keys[:-1])
        fix = nearest(keys[-1], _valid_keys(keys[:-1]))
        return UserError(f"unknown key '{keys[-1]}'", where=parent or "config", fix=fix)
    if first["type"] == "missing":
        return UserError("is missing", where=where, fix="add it; config/README.md says what it is")
    message = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    whole = isinstance(given, dict) and first["type"] == "value_error"  # says what it is about
    if whole or (isinstance(given, dict | list) and len(str(given)) > 60):
        return UserError(message, where=where)
    return UserError(f"{message}, not {given!r}", where=where)


def _valid_keys(keys: list[str]) -> list[str]:
    models: dict[str, Any] = {
        "datasets": DataPart,
        "models": ModelPart,
        "recipes": Recipe,
        "experiments": Experiment,
        "figures": Figure,
    }
    if not keys:
        return list(Config.model_fields)
    if keys[-1] in ("early_stop", "record", "augment"):
        part = models["recipes"].model_fields[keys[-1]].annotation
        return list(part.__args__[0].model_fields)
    model = models.get(keys[0])
    return list(model.model_fields) if model else []


def _check_names(config: Config) -> None:
    for section in ("datasets", "models", "recipes", "metrics", "experiments", "figures"):
        for name in getattr(config, section):
            if not NAME.fullmatch(name):
                fix = "letters, digits and _, a letter first"
                raise UserError(f"'{name}' cannot be a name", where=section, fix=fix)
    for name, part in config.datasets.items():
        source = data_source(part.source, where=f"datasets.{name}.source")
        if len(part.mean) not in (0, source.channels):
            what = f"{len(part.mean)} numbers for {source.channels} channels"
            raise UserError(what, where=f"datasets.{name}.mean", fix="one for each channel")


def _check_models(config: Config) -> None:
    for name, model in config.models.items():
        where = f"models.{name}"
        if ":" in model.builder:
            _check_importable(model.builder, where)
        elif model.builder not in NETWORKS:
            fix = f"{nearest(model.builder, NETWORKS)}, or your own 'package.module:object'"
            raise UserError(f"unknown model '{model.builder}'", where=where, fix=fix)
        else:
            for key, value in model.arguments.items():
                _check_argument(model.builder, key, where)
                _check_value(model.builder, key, value, where)


def _check_importable(target: str, where: str) -> None:
    module, _, name = target.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", module) or not name.isidentifier():
        raise UserError(f"'{target}' is not 'package.module:object'", where=where)
    try:
        found = find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        fix = "start in the folder that holds it, or put that folder on PYTHONPATH"
        raise UserError(f"no module named '{module}'", where=where, fix=fix)
    if found.origin and found.origin.endswith(".py"):
        _check_defined(Path(found.origin), name, where)


def _check_defined(file: Path, name: str, where: str) -> None:
    """Refuse a name that a module's file cannot define, as far as reading it can tell."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{file.name} is no Python: {error}", where=where, fix="mend it") from None
    made = [n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
    if not names & {name, "*", "__getattr__", "globals"}:
        raise UserError(f"{file.name} has no '{name}'", where=where, fix=nearest(name, made))


def _check_argument(builder: str, key: str, where: str) -> None:
    known = NETWORKS[builder].arguments
    if key not in known:
        what = f"'{builder}' has no argument '{key}'"
        raise UserError(what, where=where, fix=nearest(key, known))


def _check_value(builder: str, key: str, value: Any, where: str) -> None:
    """Refuse an argument of another kind than its default; numbers of layers: `check_cell`."""
    network = NETWORKS[builder]
    default, choices = network.arguments[key], network.choices.get(key, ())
    what = f"{key} is {json.dumps(value)}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool) and not isinstance(value, bool):
        raise UserError(what, where=where, fix="true or false")
    if choices and value not in choices:
        raise UserError(what, where=where, fix=nearest(value, choices))
    if isinstance(default, float) and not (number and value >= 0):
        raise UserError(what, where=where, fix="a number from 0 up")
    if type(default) is int and key not in ("width", "depth"):
        _check_whole(key, value, 1, where)


def _check_whole(key: str, value: Any, least: int, where: str) -> None:
    """Refuse what is no whole number from `least` up; the message names the nearest one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        near = f": the nearest is {max(least, round(value))}" if number else ""
        fix = f"a whole number from {least} up{near}"
        raise UserError(f"{key} is {value}", where=where, fix=fix)


def _check_metrics(config: Config) -> None:
    for name, settings in config.metrics.items():
        kind = settings.get("kind", name)
        where = f"metrics.{name}"
        if kind not in KINDS:
            raise UserError(f"unknown metric '{kind}'", where=where, fix=nearest(kind, KINDS))
        try:
            config.metric(name)
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0]) if first["loc"] else ""
            if first["type"] == "extra_forbidden":
                fix = nearest(key, KINDS[kind].model_fields)
                raise UserError(f"unknown key '{key}'", where=where, fix=fix) from None
            explained = _explain(error)
            where = f"{where}.{explained.where}" if key else where
            raise UserError(explained.what, where=where) from None


def _check_experiment(config: Config, name: str) -> None:
    one, where = config.experiments[name], f"experiments.{name}"
    for key, section in (("dataset", "datasets"), ("model", "models"), ("recipe", "recipes")):
        value, known = getattr(one, key), getattr(config, section)
        if value not in known:
            fix = nearest(value, known)
            raise UserError(f"no '{value}' in {section}", where=f"{where}.{key}", fix=fix)
    for metric in one.metrics:
        if metric not in config.metrics and metric not in KINDS:
            fix = nearest(metric, {*config.metrics, *KINDS})
            raise UserError(f"unknown metric '{metric}'", where=f"{where}.metrics", fix=fix)
    _check_axes(config, one, where)
    try:
        cells = config.cells(name)
    except ValidationError as error:
        explained = _explain(error)
        raise UserError(explained.what, where=f"{where}: {explained.where}") from None
    for cell in cells:
        check_cell(cell, where)
    if len({cell.id for cell in cells}) != len(cells):
        raise UserError("two points of the grid are the same cell", where=where)
    _check_enough(config, one, where)


def _check_axes(config: Config, one: Experiment, where: str) -> None:
    groups: tuple[tuple[Literal["load", "temperature"], dict[str, tuple[str, str]]], ...]
    groups = (("load", LOAD_AXES), ("temperature", TEMPERATURE_AXES))
    builder = config.models[one.model].builder
    for group, known in groups:
        for axis in getattr(one, group):
            own = axis.startswith("model.")
            if axis not in known and not own:
                fix = f"{nearest(axis, known)}, or 'model.<argument>'"
                raise UserError(f"unknown axis '{axis}'", where=f"{where}.{group}", fix=fix)
            part, key = axis_target(axis)
            if part == "model" and builder in NETWORKS:
                _check_argument(builder, key, f"{where}.{group}")


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
    check_cell(cell, where)
    return cell


def check_cell(cell: Cell, where: str) -> None:
    """Refuse a cell that cannot be trained.

    Raises:
        UserError: If the network or its images do not exist, or batch or record are too long.
    """
    _check_network(cell, f"{where}: cell {cell.id}")
    source, augment = data_source(cell.data.source), cell.recipe.augment
    if augment is not None and augment.crop >= source.image_size:
        what = f"a crop of {augment.crop} pixels leaves nothing of images of {source.image_size}"
        raise UserError(what, where=f"{where}: cell {cell.id}", fix="a smaller 'augment.crop'")
    images = cell.data.kept(source.train)
    if cell.recipe.batch_size > images:
        what = f"batch_size {cell.recipe.batch_size} is more than the {images} training images"
        raise UserError(what, where=f"{where}: cell {cell.id}", fix=f"at most {images}")
    record, steps = cell.recipe.record, cell.recipe.steps(images)
    if record is not None and not record.windows(steps):
        what = f"a window of {record.length} points from point {record.start} on is longer than"
        fix = "a shorter 'record.length', or more epochs"
        where = f"{where}: cell {cell.id}"
        raise UserError(f"{what} the run, which has {steps + 1}", where=where, fix=fix)


def _check_network(cell: Cell, where: str) -> None:
    """Refuse widths and depths in which a network does not exist, and images too small for it."""
    arguments, network = cell.model.arguments, NETWORKS.get(cell.model.builder)
    _check_whole("width", arguments.get("width", 1), 1, where)
    depth, depths = arguments.get("depth", 1), network.depths if network else ANY
    if "depth" in arguments and not (type(depth) is int and depths.holds(depth)):
        near = f"; the nearest is {depths.nearest(depth)}" if isinstance(depth, float | int) else ""
        raise UserError(f"depth is {depth}", where=where, fix=f"{depths.rule}{near}")
    if network is None:
        return
    source = data_source(cell.data.source)
    if source.image_size < network.smallest:
        what = f"images of {source.image_size} pixels are too small for '{cell.model.builder}'"
        raise UserError(what, where=where, fix=f"at least {network.smallest}, or another network")
    if network.channels not in (0, source.channels):
        what = f"images of {source.channels} channels are not for '{cell.model.builder}'"
        raise UserError(what, where=where, fix=f"{network.channels} channel, or another network")


def _check_simplexes(config: Config, one: Experiment, name: str, where: str) -> None:
    """Refuse complexes that the seeds do not make up, and temperatures without held-out images."""
    settings, count = config.metric(name), len(one.seed_list)
    modes = 2 if isinstance(settings, SimplexVolume) else 1
    if isinstance(settings, Simplex) and settings.complex == "shared":
        modes = settings.modes
    if count < modes:
        what = f"'{name}' connects {modes} replicas, and there are {count} seeds"
        raise UserError(what, where=f"{where}.seeds", fix=f"at least {modes} seeds")
    if isinstance(settings, Simplex) and isinstance(settings.complex, list):
        complexes.listed(settings.complex, one.seed_list, f"metrics.{name}.complex")
    fractions = one.axes.get("data_fraction", [config.datasets[one.dataset].fraction])
    if isinstance(settings, Espro) and max(fractions) == 1:
        what = f"'{name}' fits temperatures on held-out training images, and there are none"
        raise UserError(what, where=f"datasets.{one.dataset}", fix="a fraction below 1")
    if isinstance(settings, Espro) and settings.corruptions:
        _check_corruptions(config.datasets[one.dataset].source, settings.corruptions, name)


def _check_corruptions(source: str, corruptions: str, name: str) -> None:
    """Refuse corrupted images of another data set."""
    where = f"metrics.{name}.corruptions"
    clean, found = data_source(source), corrupted_source(corruptions, where)
    shapes = [(row.classes, row.channels, row.image_size) for row in (clean, found)]
    if shapes[0] != shapes[1] or found.test % clean.test:
        what = f"'{corruptions}' does not hold the test images of '{source}'"
        raise UserError(what, where=where, fix="leave it out for this data set")


def _check_enough(config: Config, one: Experiment, where: str) -> None:
    pairwise = {"connectivity", "cka", "distance"}
    for name in one.metrics:
        settings = config.metric(name)
        kind = settings.kind  # type: ignore[attr-defined]
        if kind in pairwise and len(one.seed_list) < 2:
            what = f"'{name}' compares replicas, and there is one seed"
            raise UserError(what, where=f"{where}.seeds", fix="at least 2 seeds")
        _check_recorded(config, one.recipe, name, kind)
        _check_simplexes(config, one, name, where)
        pairs = getattr(settings, "pairs", None)
        for seed in {seed for pair in pairs for seed in pair} if isinstance(pairs, list) else ():
            if seed not in one.seed_list:
                fix = nearest(seed, map(str, one.seed_list))
                raise UserError(f"no seed {seed}", where=f"metrics.{name}.pairs", fix=fix)


def _check_recorded(config: Config, recipe: str, name: str, kind: str) -> None:
    """Refuse metrics of a path that the recipe does not record."""
    record = config.recipes[recipe].record
    missing = kind in ("diffusion", "hessian_path") and record is None
    fix = "add 'record: {length: 1000, stride: 1000}' to the recipe"
    if kind == "hessian_path" and record is not None and not record.snapshots:
        missing, fix = True, "add 'snapshots: 5' to the recipe's 'record'"
    if missing:
        raise UserError(f"'{name}' needs the path of training", where=f"recipes.{recipe}", fix=fix)
    if kind == "diffusion" and record is not None and record.length < LEAST_WINDOW:
        what = f"'{name}' needs windows of {LEAST_WINDOW} points or more, not {record.length}"
        where = f"recipes.{recipe}.record.length"
        raise UserError(what, where=where, fix="500 or more for exponents over lags 10 to 100")


def _check_figures(config: Config) -> None:
    for name, figure in config.figures.items():
        where = f"figures.{name}"
        if figure.experiment and figure.experiment not in config.experiments:
            fix = nearest(figure.experiment, config.experiments)
            what = f"unknown experiment '{figure.experiment}'"
            raise UserError(what, where=where, fix=fix)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the config."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
