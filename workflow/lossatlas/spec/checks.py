"""What the types of a config cannot tell: names that exist, parts that fit together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from lossatlas import plugins
from lossatlas.errors import UserError, nearest
from lossatlas.metrics import registry
from lossatlas.metrics.base import Asked, Metric
from lossatlas.spec import figure_checks, fits, names, own, refining, subset, varying
from lossatlas.spec.catalogue import NETWORKS, data_source
from lossatlas.spec.cells import LOAD_AXES, TEMPERATURE_AXES, Cell, axis_target
from lossatlas.spec.complaints import explain
from lossatlas.spec.depths import ANY
from lossatlas.spec.parts import Recipe
from lossatlas.spec.sizes import parameter_count

if TYPE_CHECKING:
    from lossatlas.spec.config import Config, Experiment

MOST_LAYERS = 10_000
MOST_PARAMETERS = 10**11


def check(config: Config) -> None:
    """Refuse a config that names what does not exist, or whose parts do not fit together.

    Raises:
        UserError: With the key that is wrong and the nearest fix.
    """
    names.check(config)
    _check_data(config)
    _check_models(config)
    _check_metrics(config)
    axes = {axis for one in config.experiments.values() for axis in one.axes}
    subset.check(subset.conditions(config.only, "only"), axes, "only")
    for name in config.experiments:
        _check_experiment(config, name)
    figure_checks.check(config)


def _check_data(config: Config) -> None:
    for name, part in config.datasets.items():
        source = data_source(part.source, where=f"datasets.{name}.source")
        names.check_name(part.source, f"datasets.{name}")
        if source.known and len(part.mean) not in (0, source.channels):
            what = f"{len(part.mean)} numbers for {source.channels} channels"
            raise UserError(what, where=f"datasets.{name}.mean", fix="one for each channel")
        fits.check_data(part, f"datasets.{name}")


def _check_models(config: Config) -> None:
    for name, model in config.models.items():
        where = f"models.{name}"
        if target := plugins.target_of(model.builder, "lossatlas.models", NETWORKS, where):
            own.check_object(target, where)
        else:
            for key, value in model.arguments.items():
                _check_argument(model.builder, key, where)
                _check_value(model.builder, key, value, where)


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
    for name, given in config.metrics.items():
        kind = given.get("kind", name)
        where = f"metrics.{name}"
        if not isinstance(kind, str):
            raise UserError(f"kind is {json.dumps(kind)}", where=where, fix="a metric's name")
        if name in registry.built_in() and kind != name:
            what = f"'{name}' is the name of a built-in metric, and this is '{kind}'"
            raise UserError(what, where=where, fix="give it another name")
        metric = registry.find(kind, where)
        varying.check(given, metric, where)
        try:
            config.metric(name)
        except ValidationError as error:
            raise _wrong_setting(error, metric, where) from None


def _wrong_setting(error: ValidationError, metric: type[Metric], where: str) -> UserError:
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return UserError(f"unknown key '{key}'", where=where, fix=nearest(key, metric.model_fields))
    explained = explain(error, metric)
    return UserError(explained.what, where=f"{where}.{explained.where}" if key else where)


def _as_measured(config: Config, name: str, cells: list[Cell], where: str) -> list[Metric]:
    """Return a metric as it is measured on some cells, each once.

    Raises:
        UserError: If a setting that varies with an axis cannot have the value that it gets.
    """
    plain = config.metric(name)
    if not config.varies(name):
        return [plain]
    found: list[Metric] = []
    for cell in cells:
        try:
            one = config.metric(name, cell)
        except ValidationError as error:
            wrong = _wrong_setting(error, type(plain), f"{where}: cell {cell.id}: metrics.{name}")
            whole = error.errors()[0]["type"] == "int_from_float"
            fix = "add 'round: nearest'" if whole else ""
            raise UserError(wrong.what, where=wrong.where, fix=fix) from None
        except ValueError as error:
            place = f"{where}: cell {cell.id}: metrics.{name}"
            raise UserError(str(error), where=place, fix="leave 'per' out, or that cell") from None
        if one not in found:
            found.append(one)
    return found


def _check_experiment(config: Config, name: str) -> None:
    one, where = config.experiments[name], f"experiments.{name}"
    usual = type(one).model_fields["origin"].default
    if one.origin != usual and not one.checkpoints:
        what = "says where checkpoints come from, and there are none"
        raise UserError(what, where=f"{where}.origin", fix="add 'checkpoints', or leave it out")
    if not (one.recipe or one.checkpoints):
        fix = "add it; config/README.md says what it is"
        raise UserError("is missing", where=f"{where}.recipe", fix=fix)
    for key, section in (("dataset", "datasets"), ("model", "models"), ("recipe", "recipes")):
        value, known = getattr(one, key), getattr(config, section)
        if value not in known and (value or key != "recipe"):
            fix = nearest(value, known)
            raise UserError(f"no '{value}' in {section}", where=f"{where}.{key}", fix=fix)
    for metric in one.metrics:
        if metric not in config.metrics and metric not in registry.built_in():
            raise _unknown_metric(config, metric, f"{where}.metrics")
    _check_axes(config, one, where)
    _check_subset(config, name)
    try:
        cells = config.cells(name)
    except ValidationError as error:
        explained = explain(error, Recipe)
        raise UserError(explained.what, where=f"{where}: {explained.where}") from None
    for cell in cells:
        check_cell(cell, where)
    if len({cell.id for cell in cells}) != len(cells):
        raise UserError("two points of the grid are the same cell", where=where)
    fits.check_blocks(config.recipe(name), one.together, where)
    _check_enough(config, name, cells, where)
    refining.check(config, name)


def _check_subset(config: Config, name: str) -> None:
    one = config.experiments[name]
    own = f"experiments.{name}.only"
    subset.check(subset.conditions(one.only, own), one.axes, own)
    if not config.grid(name):
        fix = "wider conditions; targets choose among experiments"
        raise UserError(f"leaves no cell of '{name}'", where=own if one.only else "only", fix=fix)


def _unknown_metric(config: Config, name: str, where: str) -> UserError:
    if registry.is_empty(name):
        fix = "write a class of la.Metric with outputs"
        return UserError(f"metrics/{name}.py defines no metric", where=where, fix=fix)
    fix = nearest(name, {*config.metrics, *registry.built_in()})
    if ":" in name:
        fix = f'declare it, metrics: {{NAME: {{kind: "{name}"}}}}, and list that name'
    elif not fix.startswith("did"):
        fix += '; or declare yours: metrics: {NAME: {kind: "module:Class"}}'
    return UserError(f"unknown metric '{name}'", where=where, fix=fix)


def _check_axes(config: Config, one: Experiment, where: str) -> None:
    groups: tuple[tuple[Literal["load", "temperature"], dict[str, tuple[str, str]]], ...]
    groups = (("load", LOAD_AXES), ("temperature", TEMPERATURE_AXES))
    builder, arguments = config.models[one.model].builder, {*config.models[one.model].arguments}
    for group, known in groups:
        for axis in getattr(one, group):
            if axis not in known and not axis.startswith("model."):
                fix = f"{nearest(axis, known)}, or 'model.<argument>'"
                if axis in _arguments(builder, where):
                    fix = f"did you mean 'model.{axis}'?"
                raise UserError(f"unknown axis '{axis}'", where=f"{where}.{group}", fix=fix)
            part, key = axis_target(axis)
            if [axis_target(other) for other in one.axes].count((part, key)) > 1:
                what = f"'{axis}' and another axis both set {part}.{key}"
                raise UserError(what, where=f"{where}.{group}", fix="leave one of them out")
            if part == "model" and builder in NETWORKS:
                _check_argument(builder, key, f"{where}.{group}")
            elif part == "model":
                arguments.add(key)
    if target := plugins.target_of(builder, "lossatlas.models", NETWORKS, where):
        own.check_arguments(target, arguments, f"{where}: models.{one.model}")


def _arguments(builder: str, where: str) -> Iterable[str]:
    """Return the names of a builder's arguments."""
    target = plugins.target_of(builder, "lossatlas.models", NETWORKS, where)
    return own.arguments(target, where) if target else NETWORKS[builder].arguments


def check_cell(cell: Cell, where: str) -> None:
    """Refuse a cell that cannot be trained; of one trained elsewhere, what was not either.

    Raises:
        UserError: If the network or its images do not exist, or batch or record are too long.
    """
    fits.check_cell(cell, f"{where}: cell {cell.id}")
    _check_network(cell, f"{where}: cell {cell.id}")
    source, augment = data_source(cell.data.source), cell.recipe.augment
    if not source.known:
        return
    if augment is not None and augment.crop >= source.image_size:
        what = f"a crop of {augment.crop} pixels leaves nothing of images of {source.image_size}"
        raise UserError(what, where=f"{where}: cell {cell.id}", fix="a smaller 'augment.crop'")
    if cell.adopted:
        return
    images = cell.data.kept(source.train)
    if cell.recipe.batch_tokens is None and cell.recipe.batch_size > images:
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
    if depth > MOST_LAYERS:
        raise UserError(f"depth is {depth}", where=where, fix=f"at most {MOST_LAYERS}")
    if network is None:
        return
    for key in arguments.keys() & network.arguments.keys() - {"width", "depth"}:
        value = arguments[key]
        if not (isinstance(network.arguments[key], bool) and value in (0, 1)):  # of an axis
            _check_value(cell.model.builder, key, value, where)
    _check_divisor({**network.arguments, **arguments}, network.divisor, where)
    source = data_source(cell.data.source)
    if not source.known:
        return
    if source.image_size < network.smallest:
        what = f"images of {source.image_size} pixels are too small for '{cell.model.builder}'"
        raise UserError(what, where=where, fix=f"at least {network.smallest}, or another network")
    if network.channels not in (0, source.channels):
        what = f"images of {source.channels} channels are not for '{cell.model.builder}'"
        raise UserError(what, where=where, fix=f"{network.channels} channel, or another network")
    if (size := parameter_count(cell) or 0) > MOST_PARAMETERS:
        what = f"'{cell.model.builder}' has {size:.1e} parameters, more than any memory holds"
        raise UserError(what, where=where, fix="a smaller 'width'")


def _check_divisor(arguments: Mapping[str, Any], divisor: str, where: str) -> None:
    """Refuse a width that cannot be divided as a network divides it."""
    if divisor and arguments["width"] % arguments[divisor]:
        parts = arguments[divisor]
        near = max(1, round(arguments["width"] / parts)) * parts
        what = f"width {arguments['width']} is no multiple of '{divisor}: {parts}'"
        raise UserError(what, where=where, fix=f"the nearest is {near}")


def _check_adopted(config: Config, one: Experiment, where: str) -> None:
    """Refuse what weights alone cannot tell, of an experiment that was trained elsewhere."""
    names.check_name(one.origin, f"{where}.origin")
    if config.models[one.model].start_from:
        what = "says where training starts, and these networks were trained elsewhere"
        raise UserError(what, where=f"models.{one.model}.start_from", fix="leave it out")
    for key in ("record", "checkpoints", "early_stop"):
        if one.recipe and key in config.recipes[one.recipe].model_fields_set:
            what = f"'{key}' says what training keeps, and these networks were trained elsewhere"
            raise UserError(what, where=f"recipes.{one.recipe}", fix="leave it out")
    for name in one.metrics:
        metric = config.metric(name)
        if metric.reads in ("path", "snapshots"):
            what = f"'{name}' needs the path of training, and checkpoints are its end"
            fix = "leave it out, or train the networks here, with 'record' in the recipe"
            raise UserError(what, where=f"{where}.metrics", fix=fix)
        if metric.checkpoint not in (None, "final"):
            what = f"checkpoint is '{metric.checkpoint}', and a file holds one network"
            raise UserError(what, where=f"metrics.{name}", fix="leave it out")


def _check_enough(config: Config, experiment: str, cells: list[Cell], where: str) -> None:
    """Refuse metrics that cannot be measured on an experiment, or that write the same number."""
    one = config.experiments[experiment]
    data, recipe = config.datasets[one.dataset], config.recipe(experiment)
    if one.checkpoints:
        _check_adopted(config, one, where)
    writers: dict[str, tuple[str, str]] = {}
    for name in one.metrics:
        metric = config.metric(name)
        if metric.per == "pair" and len(one.seed_list) < 2:
            what = f"'{name}' compares replicas, and there is one seed"
            raise UserError(what, where=f"{where}.seeds", fix="at least 2 seeds")
        _check_recorded(recipe, one.recipe, name, metric)
        if not one.checkpoints and metric.checkpoint not in (None, *recipe.checkpoints):
            what = f"the recipe '{one.recipe}' keeps no '{metric.checkpoint}'"
            fix = f"add it to recipes.{one.recipe}.checkpoints"
            raise UserError(what, where=f"metrics.{name}.checkpoint", fix=fix)
        fits.check_metric(metric, name, data, where)
        on = asked(config, experiment, name, one.seed_list)
        for measured in _as_measured(config, name, cells, where):
            measured.check(on)
        for output in metric.outputs:
            kind, other = writers.setdefault(output.name, (metric.kind, name))
            if kind != metric.kind:
                what = f"'{other}' and '{name}' both write '{output.name}'"
                raise UserError(what, where=f"{where}.metrics", fix="rename one of the outputs")


def asked(config: Config, experiment: str, metric: str, seeds: list[int]) -> Asked:
    """Return what a metric of an experiment is asked, for replicas of these seeds."""
    one = config.experiments[experiment]
    data, where = config.datasets[one.dataset], f"experiments.{experiment}"
    fractions = one.axes.get("data_fraction", [data.fraction])
    place = (one.recipe, config.recipe(experiment), one.dataset, data, fractions)
    return Asked(metric, where, seeds, *place, adopted=bool(one.checkpoints))


def _check_recorded(recipe: Recipe, recipe_name: str, name: str, metric: Metric) -> None:
    """Refuse metrics of a path that the recipe does not record."""
    missing = metric.reads in ("path", "snapshots") and recipe.record is None
    fix = "add 'record: {length: 1000, stride: 1000}' to the recipe"
    if metric.reads == "snapshots" and recipe.record is not None and not recipe.record.snapshots:
        missing, fix = True, "add 'snapshots: 5' to the recipe's 'record'"
    if missing:
        what = f"'{name}' needs the path of training"
        raise UserError(what, where=f"recipes.{recipe_name}", fix=fix)
