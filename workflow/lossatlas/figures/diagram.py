"""Metrics over load and temperature, a panel each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import lossatlas as la
from lossatlas.figures import Drawn, Tables, style, tiles
from lossatlas.figures.bars import colour_bar
from lossatlas.figures.grid import Grid, grid_of
from lossatlas.spec.figures import PUBLISHED, Thresholds
from lossatlas.spec.figures import Figure as Style
from lossatlas.tables.collect import cell_summary

# Standard errors, of the colour bar's range: the one whose dot fills a tile, the least with a dot.
_DOT, _LEAST = 0.25, 0.01
_ERROR = style.Panel("", "Std. error of accuracy", "% points", "cividis_r", (0, 2), "log")
# Grey hides the sign of mode connectivity; this line shows it where no numbers are written.
_POSITIVE = {"colors": style.INK, "linewidths": 0.7}
# Millimetres: first corner, panel, distance from panel to panel, colour bar's gap and width.
_CORNER, _SIDE, _PITCH, _BAR = (16.0, 11.0), 39.0, (54.5, 48.0), (2.2, 2.2)
_HEIGHT = _CORNER[1] + 2 * _PITCH[1] + _SIDE + 7.0


@la.figure(
    "taxonomy_phase_diagram",
    scalars=["performance", "hessian", "connectivity", "cka", "distance"],
    axes=["load", "temperature"],
)
@la.figure(
    "taxonomy_reference_phase_diagram",
    about="The phase diagrams from the results that Yang et al. (2021) published.",
    scalars=["performance", "hessian", "connectivity", "cka", "distance"],
    reference=True,
)
def phase_diagram(tables: Tables, chosen: Style, load: str, temperature: str) -> Drawn:
    """Seven metrics and their uncertainty over load and temperature, a panel each.

    Args:
        tables: Scalars of performance, Hessian, connectivity, CKA and distance. A metric that was
            not measured leaves its panel grey.
        chosen: Where the colour limits come from.
        load: Name of the axis to the right.
        temperature: Name of the axis upwards.

    Returns:
        The picture, and metric, load, temperature, value, stderr, df, stderr_status, status of each
        tile.

    Raises:
        UserError: If the tables do not span the two axes.
    """
    grid = grid_of(tables.scalars, load, temperature)
    summary = cell_summary(tables.scalars)
    summary = summary[summary["metric"].isin([panel.metric for panel in style.PANELS])]
    with style.sheet():
        figure = style.page(_HEIGHT)
        for slot, panel in enumerate(style.PANELS):
            rows = summary[summary["metric"] == panel.metric]
            axes = _panel(figure, slot, grid, rows, panel, chosen.limits)
            if panel.metric == "mode_connectivity" and not tiles.fits(grid, _SIDE):
                positive = grid.matrix(rows, "value") > -_poor(chosen.thresholds)
                tiles.parted(axes, grid, positive.astype(object), "positive", **_POSITIVE)
        accuracy = summary[summary["metric"] == "test_accuracy"]
        errors = accuracy.assign(value=accuracy["stderr"], stderr=np.nan)
        _panel(figure, 7, grid, errors, _ERROR, "data")
        _key(figure, summary, grid, chosen.thresholds)
    numbers = summary.rename(columns={load: "load", temperature: "temperature"})
    columns = ["metric", "load", "temperature", "value", "stderr", "df", "stderr_status", "status"]
    return Drawn(figure, numbers[columns].reset_index(drop=True))


def _poor(limits: Thresholds) -> float:
    """Return the mode connectivity below which cells are poorly connected; default: R1's."""
    given = limits.number("mode_connectivity")
    return PUBLISHED["mode_connectivity"] if given is None else given


def _place(figure: Figure, slot: int) -> tuple[Axes, Axes]:
    """Return the panel of a slot, counted by rows, and the place of its colour bar."""
    x = _CORNER[0] + slot % 3 * _PITCH[0]
    y = _CORNER[1] + (2 - slot // 3) * _PITCH[1]
    panel = figure.add_axes((x / style.PAGE, y / _HEIGHT, _SIDE / style.PAGE, _SIDE / _HEIGHT))
    left, width = (x + _SIDE + _BAR[0]) / style.PAGE, _BAR[1] / style.PAGE
    return panel, figure.add_axes((left, y / _HEIGHT, width, _SIDE / _HEIGHT))


def _panel(
    figure: Figure, slot: int, grid: Grid, rows: pd.DataFrame, panel: style.Panel, limits: str
) -> Axes:
    """Draw the tiles of one metric with their marks and colour bar; return the panel."""
    axes, beside = _place(figure, slot)
    values = grid.matrix(rows, "value")
    norm, colours = style.norm(panel, values, limits), style.colour_map(panel)
    axes.set_title(rf"$\mathbf{{{'abcdefgh'[slot]}}}$  {panel.title}")
    tiles.frame(axes, grid, (_SIDE, _SIDE))
    axes.tick_params(labelleft=slot % 3 == 0, labelbottom=slot >= 5)
    axes.set_ylabel(axes.get_ylabel() if slot % 3 == 0 else "")
    axes.yaxis.set_label_coords(-12.4 / _SIDE, 0.5)
    axes.set_xlabel(axes.get_xlabel() if slot >= 5 else "")
    mesh = tiles.fill(axes, grid, values, colours, norm)
    inks = style.inks(values, colours, norm)
    tiles.mark(axes, grid, rows, values, inks)
    errors = grid.matrix(rows, "stderr")
    if tiles.fits(grid, _SIDE):
        tiles.write(axes, grid, mesh, values, errors, inks)
    else:
        shifts = np.ma.filled(norm(values + errors) - norm(values), np.nan)
        tiles.dots(axes, grid, np.where(shifts >= _LEAST, shifts, np.nan) / _DOT, inks)
    colour_bar(figure, mesh, beside, values, panel.unit)
    return axes


def _key(figure: Figure, summary: pd.DataFrame, grid: Grid, limits: Thresholds) -> None:
    """Explain, in the last slot, the marks that panels bear."""
    axes, beside = _place(figure, 8)
    axes.set_axis_off()
    beside.remove()
    dot = Line2D([], [], marker="o", linestyle="", color=style.INK, markersize=4)
    entries: list[tuple[Any, str]] = []
    if (summary["diverged"] > 0).any():
        words = "replicas diverged: some\n(on colour) or all (on grey)"
        entries.append((style.hatched(), words))
    if summary["value"].isna().any() or len(summary) < len(style.PANELS) * np.prod(grid.shape):
        entries.append((style.cross(), "no number"))
    if (summary["status"] == "unconverged").any():
        entries.append((style.unsure(), "some numbers did\nnot converge"))
    if tiles.fits(grid, _SIDE) and summary["stderr"].notna().any():
        nothing = Line2D([], [], linestyle="")
        entries.append((nothing, "±: standard error over\nreplicas or pairs of them"))
    if not tiles.fits(grid, _SIDE):
        line = Line2D([], [], color=style.INK, linewidth=0.7)
        words = f"mode connectivity is above\n{-_poor(limits):g} on the orange side"
        entries.append((line, words))
        words = f"standard error: a dot as\nwide as its tile is {_DOT:.0%}\nof the colour bar;"
        entries.append((dot, f"{words}\nno dot: below {_LEAST:.0%}"))
    handles, labels = [handle for handle, _ in entries], [words for _, words in entries]
    axes.legend(handles, labels, loc="upper left", alignment="left", labelspacing=1.2)
