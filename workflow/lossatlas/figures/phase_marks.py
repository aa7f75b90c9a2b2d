"""How sure phases are, drawn on their tiles: runners-up, what is undecided, bands of boundaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Patch, Rectangle

from lossatlas.figures import style, tiles
from lossatlas.figures.grid import Floats, Grid
from lossatlas.tables.phases import PHASES

ODDS = 3.0  # a phase that is less than so many times as probable as the runner-up is undecided
DOTS = "..."  # hatch of undecided tiles
_LEAST = 0.05  # probability from which on a band is drawn
_WIDEST = (7.0, 4.0)  # points: bands of the probability 1, in roomy grids and in others


def runners_up(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the second most probable phase of each row, "" if it has none, and its probability."""
    shares = numbers[[f"p_{phase}" for phase in PHASES]].to_numpy(float)
    at = [PHASES.index(phase) if phase else -1 for phase in numbers["phase"]]
    rest = np.where(np.isfinite(shares), shares, 0.0)
    rest[np.arange(len(rest)), at] = np.where(np.array(at) < 0, rest[:, -1], 0.0)
    best = rest.argmax(axis=1)
    found = rest[np.arange(len(rest)), best]
    known = (found >= 0.005) & (np.array(at) >= 0)
    names = [PHASES[k] if ok else "" for k, ok in zip(best, known, strict=True)]
    return pd.DataFrame({"runner_up": names, "p_runner_up": np.where(known, found, np.nan)})


def undecided(numbers: pd.DataFrame) -> np.ndarray:
    """Say which rows have a phase that is less than `ODDS` times as probable as the runner-up."""
    second = np.nan_to_num(numbers["p_runner_up"].to_numpy(float))
    found: np.ndarray = numbers["probability"].to_numpy(float) < ODDS * second
    return found


def hatch(axes: Axes, grid: Grid, which: tiles.Bools, inks: tiles.Inks) -> None:
    """Dot the tiles that are undecided."""
    for i, j in np.argwhere(which):
        tile = grid.tile(i, j)
        look: dict[str, Any] = {"fill": False, "hatch": DOTS, "edgecolor": inks[i, j]}
        tile.set(**look, linewidth=0, alpha=0.55, gid="undecided")
        axes.add_patch(tile)


_FRAME: dict[str, Any] = {"fill": False, "linewidth": 0.8, "linestyle": (0, (2, 1.5))}


def frame(axes: Axes, grid: Grid, which: tiles.Bools, inks: tiles.Inks) -> None:
    """Draw a dashed frame into the tiles that are inferred from others, and not measured."""
    for i, j in np.argwhere(which):
        tile = grid.tile(i, j)
        wide, high = tile.get_width(), tile.get_height()
        place = (tile.get_x() + 0.07 * wide, tile.get_y() + 0.07 * high)
        inside = Rectangle(place, 0.86 * wide, 0.86 * high, gid="inferred", zorder=3)
        inside.set(**_FRAME, edgecolor=inks[i, j])
        axes.add_patch(inside)


def framed() -> Patch:
    """Return the sample of such a tile."""
    return Patch(**_FRAME, edgecolor=style.INK)


def corner(axes: Axes, grid: Grid, i: int, j: int, phase: str) -> None:
    """Draw a small square in the colour of the runner-up in the lower right corner of a tile."""
    tile = grid.tile(i, j)
    width, height = 0.34 * tile.get_width(), 0.34 * tile.get_height()
    x = tile.get_x() + tile.get_width() - width
    y = tile.get_y() + (tile.get_height() - height if axes.yaxis_inverted() else 0.0)
    look: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.4, "gid": "runner-up"}
    axes.add_patch(Rectangle((x, y), width, height, facecolor=style.PHASE_COLOURS[phase], **look))


def bands(axes: Axes, grid: Grid, numbers: pd.DataFrame) -> bool:
    """Draw a strip between neighbours, as wide as it is probable that a transition parts them.

    Cells are independent draws, as in `tables.phases`. Of both transitions the likelier one counts.

    Args:
        axes: Where.
        grid: The tiles.
        numbers: A row per cell with the grid's axes and the probabilities.

    Returns:
        Whether there is any.
    """
    sides = [grid.matrix(numbers.assign(side=side), "side") for side in _sides(numbers)]
    right = np.fmax.reduce([_differ(side[:, 1:], side[:, :-1]) for side in sides])
    below = np.fmax.reduce([_differ(side[1:], side[:-1]) for side in sides])
    chosen = right >= _LEAST, below >= _LEAST  # NaN is not
    segments = tiles.borders(grid, *chosen)
    shares = np.concatenate([right[chosen[0]], below[chosen[1]]])
    widths = shares * _WIDEST[0 if grid.roomy else 1]
    look: dict[str, Any] = {"colors": style.BAND, "alpha": 0.75, "capstyle": "butt", "gid": "band"}
    axes.add_collection(LineCollection(segments, linewidths=widths, **look), autolim=False)
    return len(segments) > 0


def _sides(numbers: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return how probable it is that cells are flat, and poorly connected."""
    p = {phase: numbers[f"p_{phase}"].to_numpy(float) for phase in ("I", "II", "III")}
    learned = 1 - np.nan_to_num(numbers["p_unlearned"].to_numpy(float))
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - (p["I"] + p["II"]) / learned, (p["I"] + p["III"]) / learned


def _differ(one: Floats, other: Floats) -> Floats:
    return np.asarray(one * (1 - other) + other * (1 - one))


def regions(index: Floats) -> list[list[tuple[int, int]]]:
    """Return the tiles of each connected region of equal phases."""
    found, seen = [], np.isnan(index)
    for start in map(tuple, np.argwhere(~seen)):
        if seen[start]:
            continue
        region, todo = [], [start]
        seen[start] = True
        while todo:
            i, j = todo.pop()
            region.append((int(i), int(j)))
            for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                inside = 0 <= a < index.shape[0] and 0 <= b < index.shape[1]
                if inside and not seen[a, b] and index[a, b] == index[start]:
                    seen[a, b] = True
                    todo.append((a, b))
        found.append(region)
    return found


def middle(grid: Grid, region: list[tuple[int, int]]) -> tuple[float, float]:
    """Return where a region's name stands: its middle, or that of its tile nearest to it."""
    spots = np.array([(grid.load.middles[j], grid.temperature.middles[i]) for i, j in region])
    centre = spots.mean(axis=0)
    axes = (grid.temperature, centre[1]), (grid.load, centre[0])
    under = tuple(int(np.searchsorted(axis.edges, at)) - 1 for axis, at in axes)
    if under in region:
        return float(centre[0]), float(centre[1])
    size = np.ptp(grid.load.edges), np.ptp(grid.temperature.edges)
    nearest = spots[(np.abs(spots - centre) / size).sum(axis=1).argmin()]
    return float(nearest[0]), float(nearest[1])
