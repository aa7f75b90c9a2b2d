"""Small multiples over the grid: one little plot of curves for each cell, hot on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle

import lossatlas as la
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.grid import Grid, grid_of
from lossatlas.spec.figures import Figure as Style
from lossatlas.tables.collect import FIRST, SERIES, axes_of, cell_summary

Place = tuple[float, float]  # load, temperature
Panels = dict[Place, Axes]
Marks = list[tuple[Any, str]]  # of the key: how it looks, and what it says

ERROR = "train_error"  # the series
SWITCH = "linear below"
STRAIGHT = "linear"
BLUE, ORANGE = "#1f5a9e", "#d97a16"
_LEFT, _RIGHT, _TOP, _BOTTOM = 15.0, 13.0, 16.0, 12.0  # mm around the panels
_WIDEST, _TALLEST = 48.0, 215.0  # mm: one panel, all panels
_ROOMY = 20.0  # mm: narrower panels have fewer tick labels


@la.figure(
    "taxonomy_curves",
    scalars=["connectivity"],
    series=["connectivity"],
    axes=["load", "temperature"],
)
def curves(tables: Tables, chosen: Style, load: str, temperature: str) -> Drawn:
    """Training error along the curves and the straight lines between replicas.

    Args:
        tables: Series `train_error` of connectivity by `path`: x from 0 to 1, y in percent. Its
            scalars, if given, tell which cells diverged.
        chosen: Not needed; all figures are called alike.
        load: Name of the axis to the right.
        temperature: Name of the axis upwards.

    Returns:
        The picture, and load, temperature, path, replica, partner, t, train_error of each point.

    Raises:
        UserError: If the tables do not span the two axes, or hold no such series.
    """
    del chosen
    rows = series(tables, ERROR, "let the experiment measure the metric 'connectivity'")
    grid = grid_of(places(tables), load, temperature)
    with style.sheet():
        figure, panels = sheet_of(grid, "place t on the path", "training error (%)")
        for name, group in rows.groupby(["path", load, temperature], sort=False):
            path, *place = cast("tuple[str, float, float]", name)
            _bundle(panels[place[0], place[1]], group, path_look(path))
        for axes in panels.values():
            axes.set_xlim(-0.06, 1.06)
            axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
            _error_scale(axes, rows["y"])
        marks = mark(panels, tables, rows, load, temperature)
        paths = [
            (Line2D([], [], linewidth=1.5, **path_look(path)), path_words(path))
            for path in sorted(rows["path"].unique(), key=lambda path: path == STRAIGHT)
        ]
        thin = Line2D([], [], color=style.GREY, linewidth=0.4)
        if any(axes.get_yscale() == "symlog" for axes in panels.values()):
            paths.append((Line2D([], [], color=style.GREY, linewidth=0.5, linestyle=":"), SWITCH))
        key(figure, [*paths, (thin, "single pairs (thick: mean)")], marks)
    names = {load: "load", temperature: "temperature", "x": "t", "y": "train_error"}
    columns = ["load", "temperature", "path", "replica", "partner", "t", "train_error"]
    return Drawn(figure, rows.rename(columns=names)[columns].reset_index(drop=True))


def series(tables: Tables, name: str, fix: str) -> pd.DataFrame:
    """Return the rows of the series of that name; none is fine where replicas diverged."""
    rows = tables.series[tables.series["series"] == name]
    if rows.empty and not (tables.scalars["status"] == "diverged").any():
        raise UserError(f"the figure's tables have no series '{name}'", where="figures", fix=fix)
    if rows.empty:  # a table without rows may lack the axes
        rows = rows.reindex(columns=[*FIRST, *axes_of(tables.scalars), "path", *SERIES])
        return rows.astype({"x": float, "y": float})
    return rows


def places(tables: Tables) -> pd.DataFrame:
    """Return the cells of both tables with their axes."""
    named = tables.scalars.rename(columns={"metric": "series"})
    parts = [t[[*FIRST, *axes_of(t), "series"]] for t in (named, tables.series) if not t.empty]
    return pd.concat(parts, ignore_index=True)


def sheet_of(grid: Grid, x_label: str, y_label: str) -> tuple[Figure, Panels]:
    """Return a figure with an empty panel per cell, and with the axes' values around them."""
    rows, columns = grid.shape
    width = min((style.PAGE - _LEFT - _RIGHT) / columns, _WIDEST)
    height = min(0.8 * width, _TALLEST / rows)
    page_width = max(_LEFT + columns * width + _RIGHT, 100.0)
    page_height = _TOP + rows * height + _BOTTOM
    figure = style.page(page_height, page_width)
    panels: Panels = {}
    for row, i in enumerate(grid.rows_hot_first):
        for j in range(columns):
            corner = _LEFT + j * width, _BOTTOM + (rows - 1 - row) * height
            gap = 0.07 * min(width, height)
            box = corner[0] / page_width, corner[1] / page_height
            size = (width - gap) / page_width, (height - gap) / page_height
            axes = figure.add_axes((*box, *size))
            panels[grid.load.values[j], grid.temperature.values[i]] = axes
            below = row == rows - 1 and (width >= _ROOMY or j == 0)
            axes.tick_params(labelleft=j == 0, labelbottom=below)
            if row == 0:
                axes.set_title(style.spell_axis(grid.load.values[j]), loc="center")
            if j == columns - 1:
                value = style.spell_axis(grid.temperature.values[i])
                _beside(axes, value, 3)
    _name_axes(figure, grid, (columns * width, rows * height), (x_label, y_label))
    return figure, panels


def _beside(axes: Axes, words: str, points: float) -> None:
    axes.annotate(
        words,
        (1, 0.5),
        (points, 0),
        xycoords="axes fraction",
        textcoords="offset points",
        va="center",
    )


def _name_axes(
    figure: Figure, grid: Grid, size: tuple[float, float], labels: tuple[str, str]
) -> None:
    """Name load above and temperature at the right, and what the panels show at the other sides."""
    page_width, page_height = figure.get_size_inches() / style.MM
    x, y = (_LEFT + size[0] / 2) / page_width, (_BOTTOM + size[1] / 2) / page_height
    load, temperature = style.axis_label(grid.load.name), style.hot_label(grid.temperature.name)
    top = (_BOTTOM + size[1] + 5) / page_height
    right = (_LEFT + size[0] + _RIGHT - 2) / page_width
    figure.text(x, top, load, ha="center", va="bottom")
    upwards = {"rotation": 90.0, "va": "center", "ha": "center"}
    figure.text(right, y, temperature, **upwards)  # type: ignore[arg-type]
    figure.text(x, 2 / page_height, labels[0], ha="center", va="bottom")
    figure.text(3 / page_width, y, labels[1], **upwards)  # type: ignore[arg-type]


def path_look(path: str) -> dict[str, Any]:
    """Return the look of a line: that of the straight path, or of a curve."""
    if path == STRAIGHT:  # dashed, it lies on top: where both are equal, both are seen
        return {"color": ORANGE, "linestyle": "--", "zorder": 2.1}
    return {"color": BLUE, "linestyle": "-"}


def path_words(path: str) -> str:
    """Return what a kind of path is called in a key."""
    return "straight line" if path == STRAIGHT else f"{path} curve".capitalize()


def _bundle(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    """Draw one path of one cell: each pair thin, their mean thick."""
    pairs = [pair for _, pair in rows.groupby(["replica", "partner"], sort=False)]
    for pair in pairs:
        axes.plot(pair["x"], pair["y"], linewidth=0.4, alpha=0.7, gid="pair", **look)
    mean = rows.groupby("x")["y"].mean()
    axes.plot(mean.index, mean, linewidth=1.4, gid="mean", **look)


def _roomy(axes: Axes) -> bool:
    figure = axes.get_figure(root=True)
    width = axes.get_position().width * (figure.get_figwidth() if figure else 0)
    return width / style.MM >= _ROOMY


def _largest(values: pd.Series[float]) -> float:
    """Return the largest finite value, or 0 if none is above it."""
    numbers = values.to_numpy(float)
    return float(numbers[np.isfinite(numbers)].max(initial=0))


def _error_scale(axes: Axes, errors: pd.Series[float]) -> None:
    """Share one scale of errors: linear below 1%, logarithmic above, if they span that much."""
    largest = _largest(errors) or 1.0
    if largest > 10:
        axes.set_yscale("symlog", linthresh=1, linscale=0.5)
        ticks = [0, 1, 10, 100] if _roomy(axes) else [0, 10]
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.axhline(1, color=style.GREY, linewidth=0.5, linestyle=":", zorder=1, gid="switch")
    axes.set_ylim(-0.03 * min(largest, 10), largest * 1.15)


def mark(panels: Panels, tables: Tables, rows: pd.DataFrame, load: str, temperature: str) -> Marks:
    """Hatch cells with diverged replicas, grey those without any curve, and mark unconverged ones.

    Returns:
        What the key must name.
    """
    drawn = set(zip(rows[load], rows[temperature], strict=True))
    lost: set[Place] = set()
    rough = rows[rows["status"] == "unconverged"]
    unsure = set(zip(rough[load], rough[temperature], strict=True))
    for place in unsure & panels.keys():
        corner = Polygon(
            [(0, 1), (0.12, 1), (0, 0.88)], transform=panels[place].transAxes, color=style.INK
        )
        panels[place].add_patch(corner).set_gid("unconverged")
    if not tables.scalars.empty:
        summary = cell_summary(tables.scalars)
        bad = summary[summary["diverged"] > 0]
        lost = set(zip(bad[load], bad[temperature], strict=True))
    for place, axes in panels.items():
        if place not in drawn:
            axes.set_facecolor(style.MISSING)
        if place in lost:
            look: dict[str, Any] = {
                "hatch": style.HATCH,
                "alpha": 0.4,
                "zorder": 0,
                "gid": "diverged",
            }
            whole = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, linewidth=0)
            axes.add_patch(whole).set(**look)
        elif place not in drawn:
            (cross,) = axes.plot(0.5, 0.5, "x", transform=axes.transAxes, color=style.GREY, ms=4)
            cross.set_gid("cross")
    marks: Marks = [(style.hatched(), "replicas diverged")] if lost else []
    return [*marks, (style.unsure(), "some numbers did not converge")] if unsure else marks


def key(figure: Figure, entries: Sequence[tuple[Any, str]], marks: Marks) -> None:
    """Name the lines and the marks that there are above the panels."""
    handles, words = zip(*entries, *marks, strict=True)
    figure.legend(handles, words, loc="upper center", ncols=len(words), borderaxespad=0.4)
