"""Small multiples over the grid: one little plot of curves for each cell, hot on top."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import FixedLocator

import lossatlas as la
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.grid import Grid, grid_of
from lossatlas.spec.figures import Figure as Style
from lossatlas.tables.collect import FIRST, SERIES, axes_of, cell_summary

Place = tuple[float, float]  # load, temperature
Panels = dict[Place, Axes]
Marks = list[tuple[Any, str]]  # of the key: how it looks, and what it says

ERROR, DENSITY = "train_error", "hessian_density"  # their series
STRAIGHT = "linear"
BLUE, ORANGE = "#1f5a9e", "#d97a16"
_LEFT, _RIGHT, _TOP, _BOTTOM = 15.0, 13.0, 16.0, 12.0  # mm around the panels
_WIDEST, _TALLEST = 48.0, 215.0  # mm: one panel, all panels
_ROOMY = 20.0  # mm: narrower panels have fewer tick labels
_CHARACTER = 1.5  # mm: width of a character of a tick label
_FLOOR = 1e-6  # densities below this share of the largest are not shown


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
    rows = _series(tables, ERROR, "let the experiment measure the metric 'connectivity'")
    grid = grid_of(_places(tables), load, temperature)
    with style.sheet():
        figure, panels = _sheet_of(grid, "place t on the path", "training error (%)")
        for key, group in rows.groupby(["path", load, temperature], sort=False):
            path, *place = cast("tuple[str, float, float]", key)
            _bundle(panels[place[0], place[1]], group, path_look(path))
        for axes in panels.values():
            axes.set_xlim(-0.06, 1.06)
            axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
            _error_scale(axes, rows["y"])
        marks = _mark(panels, tables, rows, load, temperature)
        paths = [
            (Line2D([], [], linewidth=1.5, **path_look(path)), path_words(path))
            for path in sorted(rows["path"].unique(), key=lambda path: path == STRAIGHT)
        ]
        thin = Line2D([], [], color=style.GREY, linewidth=0.4)
        _key(figure, [*paths, (thin, "single pairs (thick: their mean)")], marks)
    names = {load: "load", temperature: "temperature", "x": "t", "y": "train_error"}
    columns = ["load", "temperature", "path", "replica", "partner", "t", "train_error"]
    return Drawn(figure, rows.rename(columns=names)[columns].reset_index(drop=True))


@la.figure(
    "taxonomy_spectra", scalars=["hessian"], series=["hessian"], axes=["load", "temperature"]
)
def spectra(tables: Tables, chosen: Style, load: str, temperature: str) -> Drawn:
    """Spectral densities of the Hessian over the grid.

    Args:
        tables: Series `hessian_density` of the Hessian. Its scalars, if given, tell which cells
            diverged.
        chosen: Not needed; all figures are called alike.
        load: Name of the axis to the right.
        temperature: Name of the axis upwards.

    Returns:
        The picture, and load, temperature, replica, eigenvalue, density of each point.

    Raises:
        UserError: If the tables do not span the two axes, or hold no such series.
    """
    del chosen
    rows = _series(tables, DENSITY, "let 'hessian' have density_probes: 1 or more")
    grid = grid_of(_places(tables), load, temperature)
    with style.sheet():
        figure, panels = _sheet_of(grid, "eigenvalue of the Hessian", "spectral density")
        for key, group in rows.groupby([load, temperature, "replica"], sort=False):
            place = cast("tuple[float, float, int]", key)
            axes = panels[place[:2]]
            axes.plot(group["x"], group["y"], color=BLUE, linewidth=0.6, alpha=0.7)
        for axes in panels.values():
            spectral_scales(axes, rows)
        marks = _mark(panels, tables, rows, load, temperature)
        _key(figure, [(Line2D([], [], color=BLUE, linewidth=0.8), "one replica")], marks)
    names = {load: "load", temperature: "temperature", "x": "eigenvalue", "y": "density"}
    columns = ["load", "temperature", "replica", "eigenvalue", "density"]
    return Drawn(figure, rows.rename(columns=names)[columns].reset_index(drop=True))


def _series(tables: Tables, name: str, fix: str) -> pd.DataFrame:
    """Return the rows of the series of that name; none is fine where replicas diverged."""
    rows = tables.series[tables.series["series"] == name]
    if rows.empty and not (tables.scalars["status"] == "diverged").any():
        raise UserError(f"the figure's tables have no series '{name}'", where="figures", fix=fix)
    if rows.empty:  # a table without rows may lack the axes
        rows = rows.reindex(columns=[*FIRST, *axes_of(tables.scalars), "path", *SERIES])
        return rows.astype({"x": float, "y": float})
    return rows


def _places(tables: Tables) -> pd.DataFrame:
    """Return the cells of both tables with their axes."""
    named = tables.scalars.rename(columns={"metric": "series"})
    parts = [t[[*FIRST, *axes_of(t), "series"]] for t in (named, tables.series) if not t.empty]
    return pd.concat(parts, ignore_index=True)


def _sheet_of(grid: Grid, x_label: str, y_label: str) -> tuple[Figure, Panels]:
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
                axes.set_title(style.spell_axis(grid.load.values[j]), loc="center", fontsize=7)
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
    figure.text(x, top, load, ha="center", va="bottom", fontsize=8)
    upwards = {"rotation": 90.0, "va": "center", "ha": "center"}
    figure.text(right, y, temperature, fontsize=8, **upwards)  # type: ignore[arg-type]
    figure.text(x, 2 / page_height, labels[0], ha="center", va="bottom", fontsize=8)
    figure.text(3 / page_width, y, labels[1], fontsize=8, **upwards)  # type: ignore[arg-type]


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
    axes.set_ylim(-0.03 * min(largest, 10), largest * 1.15)


def spectral_scales(axes: Axes, rows: pd.DataFrame) -> None:
    """Share one scale of eigenvalues (symmetric logarithm) and one of densities (logarithm)."""
    widest = _largest(rows["x"].abs()) or 1.0
    highest = _largest(rows["y"]) or 1.0
    decade = 10.0 ** np.floor(np.log10(widest))
    axes.set_xscale("symlog", linthresh=decade / 100, linscale=0.5)
    axes.set_xlim(min(-1.3 * _largest(-rows["x"]), -decade / 100), widest * 1.3)
    _eigenvalue_ticks(axes, decade)
    axes.set_yscale("log", nonpositive="clip")
    if not _roomy(axes):
        top = 10.0 ** np.floor(np.log10(highest))
        axes.yaxis.set_major_locator(FixedLocator([top * 1e-4, top]))
        axes.yaxis.minorticks_off()
    axes.set_ylim(highest * _FLOOR, highest * 3)


def _eigenvalue_ticks(axes: Axes, decade: float) -> None:
    """Label 0, the largest decade and, if it is there, the one farthest below 0; 0 gives way."""
    lowest = axes.get_xlim()[0]
    below = [-decade / 10**k for k in range(3) if -decade / 10**k >= lowest]
    ticks = [*below[:1], 0, *([decade / 100] if _roomy(axes) else []), decade]
    words = [style.spell_axis(tick).replace("-", "−") for tick in ticks]
    figure = axes.get_figure(root=True)
    if below and figure is not None:
        places = axes.transData.transform([(tick, 1.0) for tick in ticks])[:, 0]
        apart = (places[1] - places[0]) / figure.dpi / style.MM
        if apart < _CHARACTER * (len(words[0]) + len(words[1])) / 2 + 1:
            words[1] = ""
            axes.axvline(0, color=style.GREY, linewidth=0.3, zorder=1, gid="zero")
    axes.set_xticks(ticks, words)


def _mark(panels: Panels, tables: Tables, rows: pd.DataFrame, load: str, temperature: str) -> Marks:
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


def _key(figure: Figure, entries: list[tuple[Line2D, str]], marks: Marks) -> None:
    """Name the lines and the marks that there are above the panels."""
    handles, words = zip(*entries, *marks, strict=True)
    figure.legend(handles, words, loc="upper center", ncols=len(words), borderaxespad=0.4)
