"""A config as its pilot: the smallest and the largest cell of each experiment, for one epoch.

Networks, data, batches and metrics are the real ones, and what is repeated by epochs is done once:
what a pilot takes, times the epochs, is what the run takes. A recorded run is as long as its first
window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lossatlas.spec.cost import LAPTOP, job_hours, training_hours
from lossatlas.spec.parts import EarlyStop, Recipe
from lossatlas.spec.rehearsal import EARLY, changed, decays, steps_per_epoch, with_parts

if TYPE_CHECKING:
    from lossatlas.spec.config import Config
    from lossatlas.spec.plan import Plan, PlannedCell

Point = Mapping[str, int | float]


def piloted(config: Config) -> Config:
    """Return a config of the same names that trains and measures two cells of each experiment.

    Args:
        config: As it was checked, with the axes and seeds of networks trained elsewhere filled in.
    """
    chosen = extremes(config)
    metrics = {name: _metric(config, name) for name in config.metrics_measured}
    small = with_parts(config, metrics={**config.metrics, **metrics}, figures={}, only="")
    small._picked.update(chosen)  # noqa: SLF001 -- of this copy
    recipes = {name: _recipe(small, name) for name in small.recipes}
    experiments = {
        name: one.model_copy(update={"refine": None, "only": ""})
        for name, one in small.experiments.items()
    }
    return with_parts(small, recipes=recipes, experiments=experiments)


def extremes(config: Config) -> dict[str, list[Point]]:
    """Return experiment -> the points of its cheapest and its dearest cell, in the grid's order."""
    from lossatlas.spec.plan import make_plan

    plan = make_plan(config, lambda _: [])
    found: dict[str, list[Point]] = {}
    for name, cells in plan.experiments.items():
        costs = [hours(plan, plan.cells[cell]) for cell in cells]
        places = {costs.index(min(costs)), len(costs) - 1 - costs[::-1].index(max(costs))}
        points = config.grid(name)
        found[name] = [dict(points[place]) for place in sorted(places)]
    return found


def hours(plan: Plan, planned: PlannedCell) -> float:
    """Return the estimated hours of a cell; what is unknown counts as none."""
    metrics = [plan.config.metric(name, planned.cell) for name in planned.metrics]
    found = [training_hours(planned, LAPTOP), *(job_hours(planned, m, LAPTOP) for m in metrics)]
    return sum(part or 0.0 for part in found)


def _metric(config: Config, name: str) -> dict[str, Any]:
    """Return a metric's settings, with one epoch of what it trains, where mode allows it."""
    lowered = config.metric(name).rehearsed()
    given = config.metrics.get(name, {})
    return {**given, "epochs": lowered["epochs"]} if "epochs" in lowered else dict(given)


def _recipe(config: Config, name: str) -> Recipe:
    """Return a recipe of one epoch, or as many as the first window of a recorded path takes."""
    recipe = config.recipes[name]
    record, rule = recipe.record, recipe.early_stop
    experiments = [
        key for key, one in config.experiments.items() if one.recipe == name and not one.checkpoints
    ]
    if not experiments:
        return recipe
    epochs = 1
    if record is not None:
        steps = record.start + record.length - 1
        epochs = -(-steps // min(steps_per_epoch(config, one) for one in experiments))
        epochs = min(max(epochs, 1), recipe.epochs)
        if record.snapshots > epochs:
            record = record.model_copy(update={"snapshots": epochs})
    return changed(
        recipe,
        epochs=epochs,
        record=record,
        decay_epochs=decays(recipe, epochs),
        warmup_steps=min(recipe.warmup_steps, epochs),
        early_stop=rule and EarlyStop(**{**rule.model_dump(exclude_unset=True), **EARLY}),
    )
