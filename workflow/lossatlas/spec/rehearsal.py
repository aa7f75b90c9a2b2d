"""A config made small: the same experiments, metrics and figures, on few examples and few steps.

What a rehearsal runs is a config like any other, with the same names, so that nothing downstream
knows more than where its results lie. Numbers that must fit each other are lowered together: batch
sizes with the number of examples, decays and windows with the steps of a run, seeds with what the
metrics connect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lossatlas.errors import UserError
from lossatlas.metrics.base import REHEARSED_WINDOW
from lossatlas.spec import checks
from lossatlas.spec.catalogue import NETWORKS, data_source, register, rehearsal_of
from lossatlas.spec.parts import DataPart, EarlyStop, ModelPart, Recipe, Recording, Strict

if TYPE_CHECKING:
    from lossatlas.spec.config import Config, Experiment

SEEDS = 2
EPOCHS = 5
BATCH = 16  # examples of a step; as many at least are kept of a data set
WIDTH, DEPTH = 8, 8  # of built-in networks where they are no axis, at most
WINDOWS = 2  # of a recorded path: the first and the last
_COSTLY = ("width", "depth")  # axes of which the small end is taken; and the network's arguments

Number = int | float


def shrunk(config: Config) -> Config:
    """Return a config of the same names and jobs that takes minutes.

    Args:
        config: As it was checked, with the axes and seeds of networks trained elsewhere filled in.
    """
    small = with_parts(
        config,
        only="",  # conditions are on values of the whole grid
        datasets={name: _data(part) for name, part in config.datasets.items()},
        metrics={
            **config.metrics,
            **{name: _metric(config, name) for name in config.metrics_measured},
        },
    )
    small = with_parts(small, models={name: _model(small, name) for name in small.models})
    limits = {name: _limit(small, name) for name in small.recipes}
    axes = {name: _axes(small, name, limits) for name in small.experiments}
    small = with_parts(small, experiments=axes)
    small = with_parts(
        small, recipes={name: _recipe(small, name, limits) for name in small.recipes}
    )
    recorded = {name: _recorded(config, small, name) for name in small.recipes}
    small = with_parts(small, recipes=recorded)
    seeds = {name: _seeds(small, name) for name in small.experiments}
    experiments = {
        name: one.model_copy(update={"seeds": seeds[name], "refine": None})
        for name, one in axes.items()
    }
    return with_parts(small, experiments=experiments)


def with_parts(config: Config, **parts: Any) -> Config:
    """Return a config with other parts, and its metrics made anew."""
    found = config.model_copy(update=parts)
    found._made = {}  # noqa: SLF001 -- metrics with the settings before
    return found


def _metric(config: Config, name: str) -> dict[str, Any]:
    return {**config.metrics.get(name, {}), **config.metric(name).rehearsed()}


def _data(part: DataPart) -> DataPart:
    """Return a part of the data that stand for a data set, of which a batch at least is kept."""
    row = rehearsal_of(data_source(part.source))
    if row.own:
        register(row)
    least = min(1.0, BATCH / row.train) if row.train else 0.0
    update = {"source": row.name, "fraction": max(part.fraction, least)}
    return part.model_copy(update=update)


def _model(config: Config, name: str) -> ModelPart:
    """Return a built-in network as a narrow and shallow one, unless its weights are there."""
    model, network = config.models[name], NETWORKS.get(config.models[name].builder)
    adopted = any(one.model == name and one.checkpoints for one in config.experiments.values())
    if network is None or adopted or model.start_from:
        return model
    given = {**network.arguments, **model.arguments}
    width = max(WIDTH, given.get("heads", 1))  # each head has a part of the width
    most = {"width": width, "depth": network.depths.nearest(DEPTH)}
    changed = {key: most[key] for key in most if key in given and given[key] > most[key]}
    return ModelPart(**{**model.model_dump(), **changed})


def _experiments(config: Config, recipe: str) -> list[str]:
    """Return the experiments that train by a recipe."""
    found = config.experiments.items()
    return [name for name, one in found if one.recipe == recipe and not one.checkpoints]


def _kept(config: Config, name: str, fraction: float | None = None) -> int:
    """Return how many examples of its data set an experiment trains on, without its axes."""
    part = config.datasets[config.experiments[name].dataset]
    if fraction is not None:
        part = part.model_copy(update={"fraction": fraction})
    return part.kept(data_source(part.source).train)


def _limit(config: Config, recipe: str) -> int:
    """Return the largest batch of a recipe."""
    kept = [_kept(config, name) for name in _experiments(config, recipe)]
    return max(1, min([BATCH, *kept]))


def _axes(config: Config, name: str, limits: Mapping[str, int]) -> Experiment:
    """Return an experiment on a few values of each axis: three of one axis, two of several."""
    one = config.experiments[name]
    most = 3 if sum(len(values) > 1 for values in one.axes.values()) == 1 else 2
    if one.checkpoints:
        return _there(config, name, most)

    def few(axis: str, values: list[Number]) -> list[Number]:
        if axis in _COSTLY or axis.startswith("model."):
            chosen = sorted(values)[:most]
            return [value for value in values if value in chosen]
        if axis == "batch_size":
            return _batches(values, most, limits[one.recipe])
        if axis == "data_fraction":
            values = [value for value in values if _kept(config, name, value) >= BATCH] or [1.0]
        return _spread(values, most)

    update = {
        group: {axis: few(axis, values) for axis, values in getattr(one, group).items()}
        for group in ("load", "temperature")
    }
    return one.model_copy(update={**update, "only": ""})


def _there(config: Config, name: str, most: int) -> Experiment:
    """Return an experiment on networks trained elsewhere, with a few values that have files."""
    one, points = config.experiments[name], config.grid(name)
    chosen = {axis: _spread(values, most) for axis, values in one.axes.items()}
    if not any(all(point[axis] in chosen[axis] for axis in chosen) for point in points):
        chosen = {axis: [value] for axis, value in points[0].items()}
    update = {
        group: {axis: chosen[axis] for axis in getattr(one, group)}
        for group in ("load", "temperature")
    }
    return one.model_copy(update=update)


def _spread(values: list[Number], most: int) -> list[Number]:
    """Return the first and the last value, and of three the middle one."""
    if len(values) <= most:
        return values
    middle = [values[len(values) // 2]] if most == 3 else []
    return [values[0], *middle, values[-1]]


def _batches(values: list[Number], most: int, limit: int) -> list[Number]:
    """Return batch sizes that fit; those of the config if enough of them do."""
    count = min(most, len(values))
    fitting = [value for value in values if value <= limit]
    if len(fitting) >= count:
        return _spread(fitting, most)
    halved: list[Number] = [max(1, limit >> step) for step in range(count)]
    return sorted(set(halved), reverse=values[0] > values[-1])


def _recipe(config: Config, name: str, limits: Mapping[str, int]) -> Recipe:
    """Return a recipe of a few epochs, its decays at the same shares of them."""
    recipe = config.recipes[name]
    if not _experiments(config, name):
        return recipe
    epochs = min(EPOCHS, recipe.epochs)
    return changed(
        recipe,
        epochs=epochs,
        batch_size=min(recipe.batch_size, limits[name]),
        decay_epochs=decays(recipe, epochs),
        warmup_steps=min(recipe.warmup_steps, epochs),
        early_stop=recipe.early_stop and EarlyStop(**{**_given(recipe.early_stop), **EARLY}),
    )


EARLY = {"after": 1, "epochs": 1}


def decays(recipe: Recipe, epochs: int) -> list[int]:
    """Return the epochs of decays in a run of so many."""
    at = {round(epoch * epochs / recipe.epochs) for epoch in recipe.decay_epochs}
    return sorted({min(max(epoch, 1), epochs - 1) for epoch in at}) if epochs > 1 else []


def _recorded(before: Config, config: Config, name: str) -> Recipe:
    """Return a recipe that records its path with short windows, and epochs for a few of them."""
    recipe, record = config.recipes[name], config.recipes[name].record
    experiments = _experiments(config, name)
    if record is None or not experiments:
        return recipe
    length = min(record.length, REHEARSED_WINDOW)
    stride = max(1, round(length * min(record.stride / record.length, 1)))
    start = min(record.start, REHEARSED_WINDOW // 10)
    windows = min([WINDOWS, *(_windows(before, one) for one in experiments)])
    steps = start + (windows - 1) * stride + length - 1
    epochs = -(-steps // min(steps_per_epoch(config, one) for one in experiments))
    small = Recording(
        **{
            **_given(record),
            "start": start,
            "length": length,
            "stride": stride,
            **{key: min(getattr(record, key), most) for key, most in _RECORD.items()},
            "snapshots": -(-epochs // 3) if record.snapshots else 0,
        }
    )
    at = decays(before.recipes[name], epochs)
    return changed(recipe, epochs=epochs, record=small, decay_epochs=at)


_RECORD = {"projection": 64, "gradients": 64, "after": 2, "whole": 5}  # at most


def _windows(config: Config, name: str) -> int:
    """Return the least windows that a run of an experiment has as it was asked for."""
    found = []
    for cell in config.cells(name):
        images, record = cell.data.kept(data_source(cell.data.source).train), cell.recipe.record
        found.append(len(record.windows(cell.recipe.steps(images))) if images and record else 1)
    return max(1, min(found))


def steps_per_epoch(config: Config, name: str) -> int:
    """Return the least steps of an epoch that a run of an experiment has."""
    found = []
    for cell in config.cells(name):
        images = cell.data.kept(data_source(cell.data.source).train)
        found.append(cell.recipe.steps(images) // cell.recipe.epochs)
    return max(1, min(found))


def _given(part: Strict) -> dict[str, Any]:
    """Return what was set of a part."""
    return part.model_dump(exclude_unset=True)


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """Return a recipe with other values, checked; keys that keep theirs stay unset."""
    changed = {key: value for key, value in changes.items() if getattr(recipe, key) != value}
    return Recipe(**{**_given(recipe), **changed})


def _seeds(config: Config, name: str) -> list[int]:
    """Return the first seeds of an experiment, as many as its metrics connect."""
    one, seeds = config.experiments[name], config.experiments[name].seed_list
    for count in range(min(SEEDS, len(seeds)), len(seeds)):
        try:
            for metric in one.metrics:
                config.metric(metric).check(checks.asked(config, name, metric, seeds[:count]))
        except UserError:
            continue
        return seeds[:count]
    return seeds
