"""What the papers' claims must know of an experiment besides its tables: where a claim is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossatlas.paths import REFERENCE, STUDIES
from lossatlas.spec.catalogue import data_source
from lossatlas.spec.cells import axis_target
from lossatlas.spec.config import Config
from lossatlas.spec.figures import Thresholds
from lossatlas.spec.parts import Recipe
from lossatlas.spec.shown import Shown, tables_told

# The authors' released run: CIFAR-10, one decay of the learning rate, clean labels.
_PUBLISHED = {
    "classes": 10,
    "label_noise": [0.0],
    "pixel_noise": [0.0],
    "momentum": [0.9],
    "rate": "decay",
}


def about(config: Config, paper: str) -> dict[str, dict[str, Any]]:
    """Return, by experiment that tells of a paper's claims, what `claims.conditions.About` holds.

    Raises:
        UserError: If a data set is unknown.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in tables_told(config, paper):
        if name == STUDIES:
            found[name] = {}
            continue
        facts = _PUBLISHED if name == REFERENCE else _facts(config, name)
        found[name] = {**facts, **_settings(config, name, paper)}
    return found


def _facts(config: Config, name: str) -> dict[str, Any]:
    one = config.experiments[name]
    cells, part = config.cells(name), config.datasets[one.dataset]
    facts = {
        "classes": data_source(part.source).classes,
        "task": part.task,
        "axes": {axis: list(values) for axis, values in one.axes.items()},
        **_settings_besides(config, name),
    }
    if one.checkpoints:  # trained elsewhere: nobody knows how
        return {**facts, "recipe": {}, "rate": "not known"}
    recipe = config.recipe(name)
    return {
        **facts,
        "label_noise": sorted({cell.data.label_noise for cell in cells}),
        "pixel_noise": sorted({cell.data.pixel_noise for cell in cells}),
        "momentum": sorted({cell.recipe.momentum for cell in cells}),
        "rate": _rate(recipe),
        "optimiser": recipe.optimiser,
    }


def _settings_besides(config: Config, name: str) -> dict[str, dict[str, Any]]:
    """Return the settings of data, network and recipe that are no axes, as they act.

    Without defaults, as the specs of cells: a setting that is new changes nothing that was said.
    """
    one = config.experiments[name]
    model = config.models[one.model]
    found = {
        "data": config.datasets[one.dataset].effective().model_dump(exclude_defaults=True),
        "model": {"builder": model.builder, **model.arguments},
        "recipe": config.recipe(name).effective().model_dump(exclude_defaults=True),
    }
    for part, key in map(axis_target, one.axes):
        found[part].pop(key, None)
    return found


def _rate(recipe: Recipe) -> str:
    """Return the rule of the learning rate in words."""
    names = {"decay": recipe.decay_epochs, "cosine": recipe.cosine}
    names["falling as an inverse square root"] = recipe.inverse_sqrt
    rate = next((name for name, there in names.items() if there), "constant")
    if recipe.warmup_steps:
        rate += " after a warm-up"
    return rate if recipe.rate_per_batch is None else f"{rate}, scaled by the batch size"


def _settings(config: Config, name: str, paper: str) -> Mapping[str, Any]:
    """Return what the config sets for a paper's claims: thresholds of phases, lags of a fit."""
    if paper == "taxonomy" and (limits := thresholds_of(config, name)):
        return {"thresholds": limits.model_dump()}
    if paper == "diffusion" and "diffusion" in (firsts := config.firsts(name)):
        metric: Any = config.metric(firsts["diffusion"])
        return {"fit": list(metric.fit)}
    return {}


def thresholds_of(config: Config, name: str) -> Thresholds | None:
    """Return the thresholds by which a figure of an experiment's phases is drawn, if one is."""
    for figure, style in config.figures.items():
        shown = Shown(config, figure)
        phases = shown.style.draws in ("taxonomy_phases", "taxonomy_reference_phases")
        if phases and shown.experiment == name:
            return style.thresholds
    return None
