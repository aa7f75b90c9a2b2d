"""What is drawn on the tiles of a load-temperature grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection, QuadMesh
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Polygon
from numpy.typing import NDArray

from lossatlas.figures import style
from lossatlas.figures.grid import COLD_AXES, Floats, Grid

_WRITTEN = 8.4  # mm: the narrowest tile that holds a number

Bools = NDArray[np.bool_]
Inks = NDArray[np.str_]


def frame(axes: Axes, grid: Grid, room: tuple[float, float]) -> None:
    """Set limits, ticks at the cells' values and axis labels, hot on top.

    Args:
        axes: Where.
        grid: The tiles.
        room: Width and height of the axes (mm).
    """
    x, y = grid.load, grid.temperature
    axes.set_xlim(x.edges[0], x.edges[-1])
    axes.set_ylim(y.edges[0], y.edges[-1])
    if y.name in COLD_AXES:
        axes.invert_yaxis()
    for axis, target, length in ((x, axes.xaxis, room[0]), (y, axes.yaxis, room[1])):
        kept = axis.labelled(length, upright=axis is y)
        words = [style.spell_axis(axis.values[k]) for k in kept]
        target.set_ticks(axis.centres[kept], words)
        target.set_ticks(np.delete(axis.centres, kept), minor=True)
    axes.set_xlabel(style.axis_label(x.name))
    axes.set_ylabel(style.hot_label(y.name))


def fill(axes: Axes, grid: Grid, values: Floats, colours: Colormap, norm: Normalize) -> QuadMesh:
    """Colour the tiles by value; tiles without a value stay empty."""
    return axes.pcolormesh(
        grid.load.edges,
        grid.temperature.edges,
        np.ma.masked_invalid(values),
        cmap=colours,
        norm=norm,
        edgecolors="white" if grid.roomy else "face",
        linewidth=0.6 if grid.roomy else 0.1,
        gid="tiles",
    )


def mark(axes: Axes, grid: Grid, rows: pd.DataFrame, values: Floats, inks: Inks) -> None:
    """Mark tiles that have no number, one that did not converge, or diverged replicas.

    Args:
        axes: Where.
        grid: The tiles.
        rows: A row per cell, with its `status` and how many replicas `diverged`.
        values: What is drawn (temperatures, loads).
        inks: What reads on each tile.
    """
    diverged = grid.matrix(rows, "diverged") > 0
    unsure = grid.matrix(rows.assign(unsure=rows["status"] == "unconverged"), "unsure") == 1
    empty = np.isnan(values)
    line = {"edgecolor": "white", "linewidth": 0.6 if grid.roomy else 0.1}
    for i, j in np.argwhere(empty):
        _tile(axes, grid, i, j, "missing", facecolor=style.MISSING, **line)
        if not diverged[i, j]:
            place = grid.load.middles[j], grid.temperature.middles[i]
            axes.plot(*place, "x", color=style.GREY, ms=3, mew=0.6, gid="cross")
    for i, j in np.argwhere(diverged):
        look = {"edgecolor": inks[i, j], "hatch": style.HATCH, "linewidth": 0}
        _tile(axes, grid, i, j, "diverged", fill=False, **look)
    for i, j in np.argwhere(unsure & ~empty):
        _corner(axes, grid, i, j, inks[i, j])


def _corner(axes: Axes, grid: Grid, i: int, j: int, ink: str) -> None:
    """Fill the upper left corner of a tile: what stays visible in tiles of any size."""
    x, y = grid.load.edges, grid.temperature.edges
    top, below = (y[i], y[i + 1]) if grid.temperature.name in COLD_AXES else (y[i + 1], y[i])
    share = 0.35 if grid.roomy else 0.6  # in print, a third of a narrow tile is not seen
    side = share * (x[j + 1] - x[j])
    points = [(x[j], top), (x[j] + side, top), (x[j], top + share * (below - top))]
    edge = "white" if ink == style.INK else style.INK  # what parts it from a dot of its colour
    look = {"facecolor": ink, "edgecolor": edge, "linewidth": 0.5, "zorder": 2.5}
    axes.add_patch(Polygon(points, gid="unconverged", **look))  # type: ignore[arg-type]


def _tile(axes: Axes, grid: Grid, i: int, j: int, name: str, **look: Any) -> None:
    tile = grid.tile(i, j)
    tile.set(**{"linewidth": 0.6, "gid": name, **look})
    axes.add_patch(tile)


def fits(grid: Grid, side: float) -> bool:
    """Say whether numbers fit into the tiles of a square of that many millimetres."""
    return grid.narrowest * side >= _WRITTEN


def write(
    axes: Axes, grid: Grid, mesh: QuadMesh, values: Floats, errors: Floats, inks: Inks
) -> None:
    """Write each number, and under it its standard error, into the tiles that `fill` drew."""
    for i, j in np.argwhere(np.isfinite(values)):
        text = style.spell(values[i, j])
        if np.isfinite(errors[i, j]):
            text += f"\n±{style.spell_error(errors[i, j])}"
        place = grid.load.middles[j], grid.temperature.middles[i]
        look = {"color": inks[i, j], "bbox": plate(mesh, values[i, j])}
        axes.text(*place, text, ha="center", va="center", **look)


def plate(mesh: QuadMesh, value: float) -> dict[str, Any]:
    """Return a box in the tile's colour: what keeps text legible on hatching."""
    return {"facecolor": mesh.to_rgba(np.array([value]))[0], "edgecolor": "none", "pad": 0.8}


def dots(axes: Axes, grid: Grid, shares: Floats, inks: Inks) -> None:
    """Draw a dot in each tile, its area in proportion to a share; at 1 it fills the tile.

    Args:
        axes: Where.
        grid: The tiles.
        shares: (temperatures, loads); NaN is no dot.
        inks: Colour of each dot.
    """
    where = np.argwhere(np.isfinite(shares))
    if len(where) == 0:
        return
    i, j = where.T
    sides = [np.diff(axis.edges) / np.ptp(axis.edges) for axis in (grid.temperature, grid.load)]
    narrow = np.minimum(sides[0][i], sides[1][j])  # of the axes' side: panels are square
    diameters = 0.9 * narrow * np.sqrt(np.minimum(shares[i, j], 1))
    axes.add_collection(
        EllipseCollection(
            diameters,
            diameters,
            np.zeros(len(where)),
            units="width",
            offsets=np.column_stack([grid.load.middles[j], grid.temperature.middles[i]]),
            offset_transform=axes.transData,
            facecolors=inks[i, j].tolist(),
            linewidths=0,
            gid="dots",
        ),
        autolim=False,
    )


def borders(grid: Grid, differ: Bools, across: Bools) -> list[Floats]:
    """Return the edges between neighbouring tiles as segments ((x, y), (x, y)).

    Args:
        grid: The tiles.
        differ: (temperatures, loads - 1): tiles (i, j) and (i, j + 1) are parted.
        across: (temperatures - 1, loads): tiles (i, j) and (i + 1, j) are parted.
    """
    x, y = grid.load.edges, grid.temperature.edges
    upright = [np.array([[x[j + 1], y[i]], [x[j + 1], y[i + 1]]]) for i, j in np.argwhere(differ)]
    level = [np.array([[x[j], y[i + 1]], [x[j + 1], y[i + 1]]]) for i, j in np.argwhere(across)]
    return upright + level


def parted(axes: Axes, grid: Grid, group: NDArray[np.object_], name: str, **look: object) -> bool:
    """Draw a line between neighbouring tiles of different groups; say whether there is any.

    None belongs to no group.
    """
    known = np.vectorize(lambda one: one is not None, otypes=[bool])(group)
    right = (group[:, 1:] != group[:, :-1]) & known[:, 1:] & known[:, :-1]
    below = (group[1:] != group[:-1]) & known[1:] & known[:-1]
    segments = borders(grid, right.astype(bool), below.astype(bool))
    axes.add_collection(LineCollection(segments, gid=name, **look), autolim=False)  # type: ignore[arg-type]
    return bool(segments)
