"""What becomes of a metric over the grid when it is measured in another way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import spearmanr

import lossatlas as la
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style, tiles
from lossatlas.figures.bars import colour_bar
from lossatlas.figures.grid import Grid, grid_of
from lossatlas.spec.figures import Figure as Style
from lossatlas.tables.collect import PANELS, cell_summary

_COLUMNS = 4  # panels beside each other
# Millimetres: left, right and lower margin, panel, distances, room above the first row.
_LEFT, _BOTTOM, _SIDE, _PITCH, _TOP = 15.0, 12.0, 34.0, (37.5, 49.0), 20.0
_DOT, _LEAST = 0.25, 0.01  # standard errors, of the bar's range: a full tile, and the least dot
_FEWEST = 3  # cells that a rank correlation is told of


@dataclass(frozen=True)
class _Variant:
    """A quantity as one metric measured it: rows of `cell_summary`, and how it orders cells.

    `rho` is Spearman's correlation with the first variant over `cells` cells that both have.
    """

    panel: style.Panel
    name: str
    rows: pd.DataFrame
    rho: float
    cells: int


@la.figure("taxonomy_ablations", axes=["load", "temperature"], variants=True)
def ablations(tables: Tables, chosen: Style, load: str, temperature: str) -> Drawn:
    """Metrics measured in other ways, and how alike these order the cells.

    Args:
        tables: The experiment's whole table: the scalars of the first metric of a kind under their
            own names, those of others as "cka_raw.cka".
        chosen: Not needed; all figures are called alike.
        load: Name of the axis to the right.
        temperature: Name of the axis upwards.

    Returns:
        The picture, and quantity, variant, load, temperature, value, stderr, df, stderr_status,
        status of each tile, with rho and rho_cells of its variant.

    Raises:
        UserError: If the tables do not span the two axes, or nothing was measured in two ways.
    """
    del chosen
    grid = grid_of(tables.scalars, load, temperature)
    groups = _groups(tables.scalars)
    if not groups:
        fix = "add a variant, such as cka_raw: {kind: cka, mixup_alpha: 0}"
        raise UserError("nothing is measured in two ways", where="figures", fix=fix)
    lines = [
        (group, group[first : first + _COLUMNS])
        for group in groups
        for first in range(0, len(group), _COLUMNS)
    ]
    height = _BOTTOM + _PITCH[1] * (len(lines) - 1) + _SIDE + _TOP
    with style.sheet():
        figure = style.page(height)
        slot = 0
        for number, (group, line) in enumerate(lines):
            base = height - _TOP - _SIDE - number * _PITCH[1]
            below = max((len(other) for _, other in lines[number + 1 :]), default=0)
            _draw_line(figure, (base, height), grid, (group, line), slot, below)
            slot += len(line)
        _key(figure, grid, groups)
    return Drawn(figure, _numbers(groups, load, temperature))


def _groups(scalars: pd.DataFrame) -> list[list[_Variant]]:
    """Return, for each quantity that was measured in several ways, its variants in order."""
    found = []
    for panel in style.PANELS:
        scalar = PANELS[panel.metric][0]
        names = [n for n in scalars["metric"].unique() if n.rpartition(".")[2] == scalar]
        if len(names) < 2 or scalar not in names:
            continue
        first = _summary(scalars, scalar, panel.metric)
        rest = sorted(set(names) - {scalar}, key=names.index)
        group = [_Variant(panel, "", first, 1.0, int(first["value"].notna().sum()))]
        for name in rest:
            rows = _summary(scalars, name, panel.metric)
            rho, cells = _rank_correlation(first, rows)
            group.append(_Variant(panel, name.rpartition(".")[0], rows, rho, cells))
        found.append(group)
    return found


def _summary(scalars: pd.DataFrame, name: str, quantity: str) -> pd.DataFrame:
    """Return the summary of a scalar, under the name that it has of the first metric."""
    rows = scalars[scalars["metric"] == name].assign(metric=PANELS[quantity][0])
    found = cell_summary(rows)
    return found[found["metric"] == quantity].reset_index(drop=True)


def _rank_correlation(one: pd.DataFrame, other: pd.DataFrame) -> tuple[float, int]:
    """Return Spearman's rho over the cells that have both numbers, and how many these are."""
    both = one[["cell", "value"]].merge(other[["cell", "value"]], on="cell").dropna()
    x, y = both["value_x"].to_numpy(), both["value_y"].to_numpy()
    if len(both) < _FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, len(both)
    return float(spearmanr(x, y).statistic), len(both)


def _draw_line(
    figure: Figure,
    place: tuple[float, float],
    grid: Grid,
    what: tuple[list[_Variant], list[_Variant]],
    slot: int,
    below: int,
) -> None:
    """Draw a line of panels with one colour scale, that of all variants, and its bar.

    Args:
        figure: The page.
        place: Lower end of the panels, and height of the page (mm).
        grid: The tiles.
        what: All variants, and those of this line.
        slot: How many panels came before.
        below: How many panels are below, from the left: the others have labels below them.
    """
    (base, height), (group, line) = place, what
    panel = group[0].panel
    everything = np.concatenate([v.rows["value"].to_numpy(float) for v in group])
    norm, colours = style.norm(panel, everything, "data"), style.colour_map(panel)

    def box(x: float, width: float) -> Axes:
        room = (x / style.PAGE, base / height, width / style.PAGE, _SIDE / height)
        return figure.add_axes(room)

    for column, variant in enumerate(line):
        axes = box(_LEFT + column * _PITCH[0], _SIDE)
        values, errors = (grid.matrix(variant.rows, name) for name in ("value", "stderr"))
        tiles.frame(axes, grid, (_SIDE, _SIDE))
        axes.set_title(_title(variant, "abcdefghijklmnopqrstuvwxyz"[slot + column]))
        axes.tick_params(labelleft=column == 0, labelbottom=column >= below)
        axes.set_ylabel(axes.get_ylabel() if column == 0 else "")
        axes.set_xlabel(axes.get_xlabel() if column >= below else "")
        mesh = tiles.fill(axes, grid, values, colours, norm)
        inks = style.inks(values, colours, norm)
        tiles.mark(axes, grid, variant.rows, values, inks)
        if tiles.fits(grid, _SIDE):
            tiles.write(axes, grid, mesh, values, errors, inks)
        else:
            shares = np.ma.filled(norm(values + errors) - norm(values), np.nan)
            tiles.dots(axes, grid, np.where(shares >= _LEAST, shares, np.nan) / _DOT, inks)
    beside = box(_LEFT + len(line) * _PITCH[0] - _PITCH[0] + _SIDE + 2, 2.2)
    colour_bar(figure, mesh, beside, everything, panel.unit)


def _title(variant: _Variant, letter: str) -> str:
    """Return the name of a variant, and below it how it orders the cells."""
    head = rf"$\mathbf{{{letter}}}$  "
    if not variant.name:
        return f"{head}{variant.panel.title}"
    rho = "?" if np.isnan(variant.rho) else f"{variant.rho:.2f}".replace("-", "−")
    return f"{head}{variant.name.replace('_', ' ')}\nρ = {rho} ({variant.cells} cells)"


def _numbers(groups: list[list[_Variant]], load: str, temperature: str) -> pd.DataFrame:
    columns = ["load", "temperature", "value", "stderr", "df", "stderr_status", "status"]
    names = {load: "load", temperature: "temperature"}
    parts = []
    for variant in (one for group in groups for one in group):
        rows = variant.rows.rename(columns=names)[columns]
        rows.insert(0, "quantity", variant.panel.metric)
        rows.insert(1, "variant", variant.name or "first")
        parts.append(rows.assign(rho=variant.rho, rho_cells=variant.cells))
    return pd.concat(parts, ignore_index=True)


def _key(figure: Figure, grid: Grid, groups: list[list[_Variant]]) -> None:
    """Name the marks that there are, above the panels."""
    rows = pd.concat([variant.rows for group in groups for variant in group])
    rho = Line2D([], [], linestyle="")
    entries: list[tuple[Any, str]] = [(rho, "ρ: rank correlation with the first panel of the row")]
    if (rows["diverged"] > 0).any():
        entries.append((style.hatched(), "replicas diverged"))
    if rows["value"].isna().any():
        entries.append((style.cross(), "no number"))
    if (rows["status"] == "unconverged").any():
        entries.append((style.unsure(), "some numbers did not converge"))
    if not tiles.fits(grid, _SIDE) and rows["stderr"].notna().any():
        dot = Line2D([], [], marker="o", linestyle="", color=style.INK, markersize=4)
        entries.append((dot, f"standard error: a full tile is {_DOT:.0%} of the bar"))
    handles, words = zip(*entries, strict=True)
    figure.legend(handles, words, loc="upper center", ncols=2, borderaxespad=0.3)
