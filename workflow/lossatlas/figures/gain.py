"""What one experiment gains over another on the same grid, such as by a decay of the rate."""

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
from lossatlas.figures.grid import Floats, Grid, grid_of
from lossatlas.spec.figures import PUBLISHED, Thresholds
from lossatlas.spec.figures import Figure as Style
from lossatlas.tables.collect import cell_summary
from lossatlas.tables.gains import gains

# Millimetres: height of the page, the map and the plot beside it as (left, bottom, width, height).
_HEIGHT, _MAP, _BESIDE = 92.0, (17.0, 12.0, 62.0, 62.0), (116.0, 12.0, 60.0, 62.0)
_DOT, _LEAST = 0.25, 0.01  # standard errors, of the bar's range: a full tile, and the least dot
_PANEL = style.Panel("gain", "", "% points", "PuOr_r", (-10, 10), "centred")
_LINES: tuple[dict[str, Any], ...] = (
    {"color": style.INK, "linewidth": 1.4, "linestyle": "-"},
    {"color": style.INK, "linewidth": 1.0, "linestyle": (0, (2, 1.5))},
)
_BORDER = "mode_connectivity"


@la.figure(
    "taxonomy_decay_gain",
    scalars=["performance", "connectivity"],
    axes=["load", "temperature"],
    against=True,
)
def decay_gain(tables: Tables, chosen: Style, load: str, temperature: str) -> Drawn:
    """Test accuracy of one experiment minus that of another, over load and temperature.

    Args:
        tables: Scalars of performance and connectivity of both experiments.
        chosen: `against` is what is subtracted; `thresholds.mode_connectivity` parts the poorly
            from the well connected cells.
        load: Name of the axis to the right.
        temperature: Name of the axis upwards.

    Returns:
        The picture, and for each cell of the first experiment the gain, its error, and the mode
        connectivity of both.

    Raises:
        UserError: If the tables do not span the two axes.
    """
    rows, other = tables.scalars, chosen.against
    first = next((one for one in rows["experiment"].unique() if one != other), "")
    grid = grid_of(rows[rows["experiment"] == first], load, temperature)
    found = gains(rows, "test_accuracy", first, other)
    for name in (first, other):
        summary = cell_summary(rows[rows["experiment"] == name])
        found = _beside(found, summary, name, [load, temperature])
    limit = _limit(chosen.thresholds)
    with style.sheet():
        figure = style.page(_HEIGHT)
        axes = _axes(figure, _MAP)
        axes.set_title(rf"$\mathbf{{a}}$  Accuracy of {first}" + f"\nminus that of {other}")
        _map(figure, axes, grid, found, (first, other), limit)
        beside = _axes(figure, _BESIDE)
        beside.set_title(r"$\mathbf{b}$  Gain and connectivity")
        _scatter(beside, found, first, limit)
        _key(figure, grid, found, (first, other), limit)
    names = {load: "load", temperature: "temperature", "value": "gain"}
    return Drawn(figure, found.rename(columns=names))


def _beside(
    found: pd.DataFrame, summary: pd.DataFrame, experiment: str, axes: list[str]
) -> pd.DataFrame:
    """Return the gains with the mode connectivity of an experiment, and its error."""
    rows = summary[summary["metric"] == _BORDER]
    names = {"value": f"connectivity_{experiment}", "stderr": f"connectivity_stderr_{experiment}"}
    kept = rows[[*axes, *names]].rename(columns=names)
    return found.merge(kept, on=axes, how="left")


def _limit(limits: Thresholds) -> float:
    """Return the mode connectivity below which cells are poorly connected; default: R1's."""
    given = limits.number(_BORDER)
    return PUBLISHED[_BORDER] if given is None else given


def _axes(figure: Figure, place: tuple[float, float, float, float]) -> Axes:
    x, y, width, height = place
    page = style.PAGE, _HEIGHT
    return figure.add_axes((x / page[0], y / page[1], width / page[0], height / page[1]))


def _map(
    figure: Figure,
    axes: Axes,
    grid: Grid,
    found: pd.DataFrame,
    names: tuple[str, str],
    limit: float,
) -> None:
    """Colour the tiles by gain, mark what is absent, and draw the border of both experiments."""
    values, errors = grid.matrix(found, "value"), grid.matrix(found, "stderr")
    norm, colours = style.norm(_PANEL, values, "data"), style.colour_map(_PANEL)
    tiles.frame(axes, grid, _MAP[2:])
    mesh = tiles.fill(axes, grid, values, colours, norm)
    inks = style.inks(values, colours, norm)
    tiles.mark(axes, grid, found, values, inks)
    if grid.roomy:
        tiles.write(axes, grid, mesh, values, errors, inks)
    else:
        _dots(axes, grid, values, errors, inks)
    for name, look in zip(names, _LINES, strict=True):
        border = grid.matrix(found, f"connectivity_{name}")
        group = (border < limit).astype(object)
        group[np.isnan(border)] = None
        for colour, wider in (("white", 1.6), (style.INK, 0.0)):  # readable on any tile
            strokes = {**look, "linewidth": look["linewidth"] + wider, "color": colour}
            tiles.parted(axes, grid, group, f"border {name}", **strokes)
    x, y, width, height = _MAP
    place = x + width + 2.5, y, 2.5, height
    colour_bar(figure, mesh, _axes(figure, place), values, "% points")


def _dots(axes: Axes, grid: Grid, values: Floats, errors: Floats, inks: tiles.Inks) -> None:
    finite = values[np.isfinite(values)]
    range_ = 2 * float(np.abs(finite).max(initial=0)) or 1.0
    shares = errors / range_
    tiles.dots(axes, grid, np.where(shares >= _LEAST, shares, np.nan) / _DOT, inks)


def _scatter(axes: Axes, found: pd.DataFrame, first: str, limit: float) -> None:
    """Draw the gain of each cell against its mode connectivity, with errors."""
    x, x_error = (found[f"connectivity_{part}{first}"] for part in ("", "stderr_"))
    axes.errorbar(
        x,
        found["value"],
        found["stderr"].fillna(0),
        x_error.fillna(0),
        fmt="o",
        color="#1f5a9e",
        markersize=2.5,
        elinewidth=0.4,
        gid="cells",
    )
    if (x * found["value"]).notna().any():
        axes.axhline(0, color=style.GREY, linewidth=0.5)
        axes.axvline(limit, **_LINES[0] | {"linewidth": 0.8})
    else:
        axes.text(0.5, 0.5, "no cell has both numbers", transform=axes.transAxes, ha="center")
        axes.set(xticks=[], yticks=[])
    axes.set_xlabel(f"mode connectivity of {first} (% points)")
    axes.set_ylabel("gain of test accuracy (% points)")


def _key(
    figure: Figure, grid: Grid, found: pd.DataFrame, names: tuple[str, str], limit: float
) -> None:
    """Name the lines and the marks that there are, above the panels."""
    entries: list[tuple[Any, str]] = []
    for name, look in zip(names, _LINES, strict=True):
        border = found[f"connectivity_{name}"]
        if (border < limit).any() and (border >= limit).any():
            entries.append(
                (Line2D([], [], **look), f"connectivity of {name} is {limit:g}".replace("-", "−"))
            )
    if (found["diverged"] > 0).any():
        entries.append((style.hatched(), "replicas diverged"))
    if found["value"].isna().any() or len(found) < np.prod(grid.shape):
        entries.append((style.cross(), "no number"))
    if (found["status"] == "unconverged").any():
        entries.append((style.unsure(), "some numbers did not converge"))
    if not grid.roomy and found["stderr"].notna().any():
        dot = Line2D([], [], marker="o", linestyle="", color=style.INK, markersize=4)
        entries.append((dot, f"standard error: a full tile is {_DOT:.0%} of the bar"))
    if entries:
        handles, words = zip(*entries, strict=True)
        figure.legend(handles, words, loc="upper center", ncols=3, borderaxespad=0.3)
