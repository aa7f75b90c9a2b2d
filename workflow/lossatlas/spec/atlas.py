"""What the page shows of each experiment: its tables, the thresholds of its phases, its origin."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from lossatlas import paths
from lossatlas.paths import REFERENCE
from lossatlas.spec.figures import Thresholds
from lossatlas.spec.shown import REFERENCE_KINDS, Shown
from lossatlas.spec.told import thresholds_of

if TYPE_CHECKING:
    from lossatlas.spec.config import Config


def experiments(config: Config) -> list[dict[str, Any]]:
    """Return, in the order of the page, what `page.contents.Asked` holds, and what is told of it.

    Of several metrics of one kind the first is shown. The published results come last, where a
    figure draws them.
    """
    found = [_experiment(config, name) for name in config.experiments]
    if any(Shown(config, figure).drawing.reference for figure in config.figures):
        found.append(_tables(config, REFERENCE, REFERENCE_KINDS, "published") | {"made": False})
    return [one for one in found if one["scalars"]]


def _experiment(config: Config, name: str) -> dict[str, Any]:
    one = config.experiments[name]
    told = f"data {one.dataset}, network {one.model}, {len(one.seed_list)} seeds per cell"
    metrics = [*config.firsts(name).values()]
    made = {
        "metrics": metrics,
        "made": True,
        "about": told if not one.checkpoints else f"{told}, trained elsewhere",
    }
    return _tables(config, name, metrics, "nulls") | made


def _tables(config: Config, name: str, metrics: list[str], rule: str) -> dict[str, Any]:
    limits = thresholds_of(config, name) or Thresholds()
    return {
        "name": name,
        "scalars": [paths.metric_table(name, metric) for metric in metrics],
        "series": [paths.series_table(name, metric) for metric in metrics],
        "thresholds": limits.model_copy(update={"rule": limits.rule or rule}).model_dump(),
    }


def units(config: Config) -> dict[str, tuple[str, str]]:
    """Return, by scalar, its unit and what it is, of all metrics of the config."""
    found: dict[str, tuple[str, str]] = {}
    for name in config.experiments:
        for metric in config.firsts(name).values():
            for output in config.metric(metric).outputs:
                found.setdefault(output.name, (output.unit, output.doc))
    return found


def digest(config: Config) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of a config, as it was read and checked."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
