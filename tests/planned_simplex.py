"""Tables with as many units as the plan of the simplex paper measures, on which claims hold or not.

Of each metric of an experiment, the rows that its settings and the seeds of its cell make; numbers
are those of `planted`: clearly on the claimed side ("yes"), or on the other one ("no").
"""

from __future__ import annotations

from itertools import combinations

import pandas as pd

import planted
from lossatlas.figures import Tables
from lossatlas.metrics.base import Metric
from lossatlas.simplex.ensembles import groups
from lossatlas.spec.config import Config
from lossatlas.spec.plan import PlannedCell, make_plan

WAYS = (0, 1, 2)


def tables(config: Config, kind: str) -> dict[str, dict[str, Tables]]:
    """Return experiment -> kind of metric -> tables, in the order of the config."""
    cells = {one.cell.id: one for one in make_plan(config).cells.values()}
    draw, found = planted.Draw(kind, 0), {}
    makers = {
        "simplex": _simplex,
        "simplex_volume": _volume,
        "espro": _espro,
        "espro_strength": _strength,
    }
    for name in config.experiments:
        (cell,) = config.cells(name)
        own: dict[str, Tables] = {}
        for metric, named in config.firsts(name).items():
            if metric == "connectivity":
                own[metric] = planted._curves(draw, 1)
            else:
                own[metric] = makers[metric](config.metric(named), cells[cell.id], draw)
        found[name] = {key: _in_cell(one, cell.id) for key, one in own.items()}
    found["studies"] = {"sampling_bias": planted._tables([], {"tests": planted._bias(draw)})}
    return found


def _in_cell(one: Tables, cell: str) -> Tables:
    return Tables(one.scalars.assign(cell=cell), one.series.assign(cell=cell))


def _simplex(metric: Metric, planned: PlannedCell, draw: planted.Draw) -> Tables:
    seeds, size = metric.uses(planned.seeds), metric.least
    rows: list[tuple] = [("mode_loss", 0.01, seed, None) for seed in seeds]
    for first in seeds[::size]:
        numbers = {
            "inside_loss": 0.02,
            "inside_loss_max": 0.25 + draw.gap(0.1),
            "inside_accuracy_min": 98 - draw.gap(0.5),
        }
        if size > 1:
            numbers |= {"segment_loss_max": 1.0, "path_loss_max": 0.2 + draw.gap(0.1)}
        rows += [(name, value, first, None) for name, value in numbers.items()]
    inside = pd.DataFrame({"simplex": 0, "train_loss": 0.02}, index=range(metric.points))
    return planted._tables(rows, {"inside": inside})


def _nll(draw: planted.Draw, strength: float) -> float:
    """1 without a volume term; changed by less than 1% by small strengths, and more by large."""
    if not strength:
        return 1.0
    side = 1 if strength < 1e-3 else -1
    return 1 + abs(0.01 + side * draw.gap(0.005))


def _volume(metric: Metric, planned: PlannedCell, draw: planted.Draw) -> Tables:
    pairs = len(metric.uses(planned.seeds)) // 2
    rows = [
        {
            "pair": pair,
            "way": way,
            "regularisation": strength,
            "connectors": count,
            "simplex": 0,
            "height": 0.5 + draw.gap(0.2) if count == metric.connectors else 1.0,
            "log_volume": -float(count),
            "train_accuracy": 99.0,
            "test_nll": _nll(draw, strength),
        }
        for pair in range(pairs)
        for way in WAYS
        for strength in metric.regularisations
        for count in range(1, metric.connectors + 1)
    ]
    return planted._tables([], {"volume": pd.DataFrame(rows)})


def _strength(metric: Metric, planned: PlannedCell, draw: planted.Draw) -> Tables:
    rows = [
        {
            "component": seed,
            "way": way,
            "regularisation": strength,
            "nll": _nll(draw, strength),
            "error": 8.0,
        }
        for seed in metric.uses(planned.seeds)
        for way in (0, 1)
        for strength in metric.regularisations
    ]
    return planted._tables([], {"strengths": pd.DataFrame(rows)})


def _espro(metric: Metric, planned: PlannedCell, draw: planted.Draw) -> Tables:
    seeds = metric.uses(planned.seeds)
    most = min(metric.components, len(seeds))
    rows: list[tuple] = [("simplex_disagreement", 3 + draw.gap(1.0), seed, None) for seed in seeds]
    rows += [("mode_disagreement", 3.0, *pair) for pair in combinations(seeds, 2)]
    made = {"ensembles": _groups(draw, len(seeds), range(1, most + 1), metric.vertices)}
    if metric.severities or metric.corruptions:
        shifted = _groups(draw, len(seeds), (min(2, most),), metric.vertices)
        shifted = shifted.assign(severity=1.0, nll_scaled=shifted["nll"], kind="noise")
        made["corruption"] = shifted
    return planted._tables(rows, made)


def _groups(draw: planted.Draw, count: int, sizes: object, vertices: int) -> pd.DataFrame:
    rows = []
    for size in sizes:  # type: ignore[attr-defined]
        for group, (_, apart) in enumerate(groups(count, size)):
            nll, excess = 0.3 / size, draw.gap(0.1)
            own = {"components": size, "group": group, "disjoint": float(apart)}
            error = 8.0 if size == 1 else 4.0
            rows.append({**own, "method": 0, "nll": nll, "error": error})
            for method in range(1, vertices + 1):
                here = nll + draw.gap(0.01)
                rows.append({**own, "method": method, "nll": here, "error": error + draw.gap(0.5)})
            for row in rows[-1 - vertices :]:
                row["member_nll"] = row["nll"] - excess
    return pd.DataFrame(rows)
