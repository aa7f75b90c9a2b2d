"""A round of a refinement: from the tables of what is measured to what is measured next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lossatlas import store
from lossatlas.refine.choose import CONNECTED, FLAT, LEARNED, SIMILAR, choose, shares
from lossatlas.refine.surrogate import Floats, Surrogate, coordinates, fit
from lossatlas.spec.figures import Thresholds
from lossatlas.spec.refining import times_bought
from lossatlas.tables.collect import Axes, cell_summary, scalar_frame
from lossatlas.tables.phases import PHASES, PROBABILITIES

FEWEST = 4  # cells with a number, below which nothing is interpolated


def known(
    scalars: pd.DataFrame, axes: Axes, limits: Thresholds
) -> tuple[dict[str, Surrogate], float] | None:
    """Return what the measured cells tell of all cells, and the largest flat log trace.

    None where fewer than `FEWEST` cells have a number that decides.

    Args:
        scalars: Rows of the metrics that decide phases, of the measured cells.
        axes: Of each cell of the grid, its values on the axes.
        limits: With a rule.
    """
    summary = cell_summary(scalars)
    numbers = {cell: number for number, cell in enumerate(axes)}
    places = coordinates([[*point.values()] for point in axes.values()])
    found: dict[str, Surrogate] = {}
    flattest = float("nan")
    for name, limit in _limits(summary, limits).items():
        rows = _decisive(summary, name, limits)
        if len(rows) < FEWEST:
            if name == LEARNED:
                continue
            return None
        cells = np.array([numbers[cell] for cell in rows["cell"]])
        values, errors, df = (rows[one].to_numpy(np.float64) for one in ("value", "stderr", "df"))
        found[name], used = fit(places, cells, values, errors, df, limit)
        flattest = used if name == FLAT else flattest
    return found, flattest


def _limits(summary: pd.DataFrame, limits: Thresholds) -> dict[str, float | None]:
    """Return quantity -> its limit; None for the median over the grid."""
    found = {
        FLAT: limits.number("log_hessian_trace"),
        CONNECTED: limits.number("mode_connectivity") or 0.0,
        SIMILAR: limits.number("cka"),
    }
    if (summary["metric"] == "chance_loss").any():
        found[LEARNED] = 0.0
    return found


def _decisive(summary: pd.DataFrame, name: str, limits: Thresholds) -> pd.DataFrame:
    """Return the cells that have a quantity, which is compared with its limit."""
    rows = summary[summary["metric"] == name].set_index("cell")
    if name == CONNECTED and limits.number("mode_connectivity") is None:
        rows = rows.assign(value=rows["value"] + rows["stderr"].fillna(0.0))
    if name == LEARNED:
        chance = summary[summary["metric"] == "chance_loss"].set_index("cell")["value"]
        rows = rows.assign(value=rows["value"] - (1 - limits.chance) * chance)
    return rows[np.isfinite(rows["value"].to_numpy(np.float64))].reset_index()


def next_cells(
    scalars: pd.DataFrame,
    axes: Axes,
    bought: Sequence[str],
    count: int,
    limits: Thresholds,
    most: int,
) -> list[str]:
    """Return the cells to buy next, the most useful first.

    Args:
        scalars: As for `known`.
        axes: As for `known`.
        bought: The cells that were bought, one that was bought twice twice.
        count: How many.
        limits: With a rule.
        most: How often a cell may be bought.
    """
    cells, times = list(axes), times_bought(bought)
    candidates = [k for k, cell in enumerate(cells) if times.get(cell, 0) < most]
    found = known(scalars, axes, limits)
    if found is None:
        chosen = _far(axes, [cells.index(cell) for cell in times], count)
    else:
        chosen = choose(found[0], np.array(candidates), count)
    return [cells[number] for number in chosen]


def _far(axes: Axes, measured: list[int], count: int) -> list[int]:
    """Return the cells farthest from measured ones, where there is nothing else to go by."""
    places = coordinates([[*point.values()] for point in axes.values()])
    chosen: list[int] = []
    while len(chosen) < count and len(measured) + len(chosen) < len(places):
        near = places[[*measured, *chosen]]
        distances = np.linalg.norm(places[:, None] - near[None], axis=2).min(axis=1)
        chosen.append(int(distances.argmax()))
    return chosen


def inferred(
    experiment: str, scalars: pd.DataFrame, axes: Axes, limits: Thresholds
) -> pd.DataFrame:
    """Return the phases of the cells of a grid that are not measured, most probable first of all.

    Returns:
        Columns experiment, cell, <axes>, phase (the most probable; '' where that is not to have
        learned, or nothing can be told), probability (of it), `PROBABILITIES`, and flat_limit: the
        largest flat log trace, of all cells (NaN where nothing can be told).
    """
    measured = set(scalars["cell"])
    found = known(scalars, axes, limits)
    every = np.full((len(axes), len(PROBABILITIES)), np.nan) if found is None else shares(found[0])
    flattest = np.nan if found is None else found[1]
    rows = [
        (experiment, cell, *point.values(), *_likely(share), *share, flattest)
        for (cell, point), share in zip(axes.items(), every, strict=True)
        if cell not in measured
    ]
    names = list(next(iter(axes.values())))
    columns = ["experiment", "cell", *names, "phase", "probability", *PROBABILITIES, "flat_limit"]
    return pd.DataFrame(rows, columns=columns)


def _likely(share: Floats) -> tuple[str, float]:
    """Return the most probable phase and its probability."""
    if np.isnan(share).any():
        return "", float("nan")
    best = int(share.argmax())
    return (*PHASES, "")[best], float(share[best])


def read(experiment: str, axes: Axes, records: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return the scalars of the cells that are measured.

    Args:
        experiment: Its name.
        axes: Of each cell of the grid, its values on the axes.
        records: Cell -> the records of the metrics that decide phases.

    Raises:
        UserError: If a record cannot be read.
    """
    found = {
        cell: [scalar for path in some for scalar in store.read(Path(path), arrays=False).scalars]
        for cell, some in records.items()
    }
    return scalar_frame(experiment, {cell: axes[cell] for cell in axes if cell in found}, found)
