"""Figures S3 and S4 of Chen et al. (2022): exponents over depth, batch size and learning rate."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

import lossatlas as la
from lossatlas import uncertainty
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.walks import (
    BLUE,
    LAG,
    MSD,
    RED,
    Walks,
    absent,
    cells,
    colours,
    finish,
    head,
    line,
    loglog,
    steps,
    typical,
    walks,
    windows,
)
from lossatlas.reference import diffusion_hand
from lossatlas.spec.figures import Figure as Chosen
from lossatlas.tables.collect import axes_of

ACROSS = 4  # panels of displacement side by side
QUANTITIES = {
    "exponent_first": "exponent, first window",
    "exponent_last": "exponent, last window",
    "crossover_first": "crossover (steps)",
}


def _means(tables: Tables, names: Mapping[str, str]) -> pd.DataFrame:
    """Return cell means over replicas of some scalars, with stderr, df and half of the interval.

    A crossover that is not found lies at an end of the lags searched: it is left out.
    """
    table = tables.scalars
    axes = axes_of(table)
    rough = (table["status"] == "unconverged") & ~table["metric"].str.startswith("crossover")
    rows = table[table["metric"].isin(names) & ((table["status"] == "ok") | rough)]
    made = []
    for place, part in rows.groupby([*axes, "metric"], sort=True):
        over = uncertainty.mean(part["value"])
        half = float(uncertainty.half_width(over.stderr, over.df))
        made.append((*place, over.value, over.stderr, over.df, half, over.count))
    columns = [*axes, "metric", "mean", "stderr", "df", "half_width", "count"]
    found = pd.DataFrame(made, columns=columns)
    if found.empty:
        fix = "measure 'diffusion' on the experiment"
        raise UserError("the figure's tables have no exponents", where="figures", fix=fix)
    return found


def _need_axis(table: pd.DataFrame, axis: str, kind: str) -> None:
    """Refuse an experiment in which nothing varies along an axis that the figure draws."""
    if axis not in axes_of(table):
        fix = f"name an experiment with a '{kind}'"
        raise UserError(f"the figure's experiment has no '{kind}' axis", where="figures", fix=fix)


@la.figure("diffusion_s3_depth_batch", scalars=["diffusion"], series=["diffusion"], axes=["load"])
def depth_and_batch(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Exponents and crossover against depth and batch size."""
    del chosen
    found = _means(tables, QUANTITIES)
    _need_axis(tables.scalars, load, "load")
    shown = Walks(tables.series, "", str(tables.scalars["experiment"].iloc[0]))
    batch = next((a for a in ("batch_size", temperature) if a in found and a != load), load)
    if temperature in found and temperature != batch:
        values = sorted(found[temperature].unique())
        found = found[found[temperature] == values[(len(values) - 1) // 2]]
    still = {a: found[a].iloc[0] for a in axes_of(tables.scalars) if found[a].nunique() == 1}
    ways = [(load, batch), (batch, load)] if batch != load else [(load, "")]
    ways = [way for way in ways if found[way[0]].nunique() > 1] or ways[:1]
    if max(found[x].nunique() for x, _ in ways) <= 2:
        ways = ways[:1]  # the other way would show the same numbers
    with style.sheet():
        figure = style.page(14 + 58 * len(ways))
        panels = figure.subplots(len(ways), 3, squeeze=False)
        for row, (x, by) in zip(panels, ways, strict=True):
            values = sorted(map(float, found[by].unique())) if by else [0.0]
            for column, (name, words) in enumerate(QUANTITIES.items()):
                _trend(row[column], found[found["metric"] == name], x, by, values)
                _authors(row[column], column, x, by, found)
                row[column].set_ylabel(words)
                if name.startswith("crossover"):
                    _positive(row[column], found[found["metric"] == name], column)
                _places(row[column], x, sorted(found[x].unique()))
        keys = len(ways) + sum(found[by].nunique() for _, by in ways if by)
        for row in panels:
            top = row[0].get_ylim()
            row[0].set_ylim(top=top[1] + (top[1] - top[0]) * 0.8)  # room for the legend
            row[0].legend(loc="upper left", ncols=1 + (keys > 4), columnspacing=1)
        _letters(panels.flat)
        head(figure, shown, words=_spelled(still))
        edge = 14 + 58 * len(ways)
        figure.subplots_adjust(0.075, 11 / edge, 0.985, 1 - 11 / edge, wspace=0.36, hspace=0.4)
    return Drawn(figure, found.reset_index(drop=True))


def _trend(axes: Axes, part: pd.DataFrame, x: str, by: str, values: list[float]) -> None:
    """Draw the means of one quantity and their intervals, a line for each of the values of `by`."""
    for number, (colour, value) in enumerate(zip(colours(len(values)), values, strict=True)):
        group = part[part[by] == value] if by else part
        label = f"{style.axis_label(by)} {style.spell_axis(value)}" if by else "ours"
        places, y, reach = (group[c] for c in (x, "mean", "half_width"))
        fmt = ".-" if part[x].nunique() > 2 else "."  # two points make no trend
        axes.errorbar(_beside(places, number, len(values)), y, reach, fmt=fmt, color=colour,
                      label=label, capsize=1.5)  # fmt: skip
    if part.empty:
        absent(axes, "no bend was found\nat the lags of the window")


def _beside(places: pd.Series[float], number: int, count: int) -> pd.Series[float]:
    """Move marks of several groups beside each other, so that their bars stay apart."""
    if count == 1 or len(places) > 2 or places.nunique() < 2:
        return places
    return places + (number - (count - 1) / 2) * 0.06 * float(np.ptp(places))


def _places(axes: Axes, x: str, values: list[float]) -> None:
    """Name an axis and its values, on a logarithmic scale if they span much more than a factor."""
    axes.set_xlabel(style.axis_label(x))
    if values[0] > 0 and values[-1] > 4 * values[0]:
        axes.set_xscale("log")
    axes.set_xticks(values, [style.spell_axis(value) for value in values])
    axes.minorticks_off()


def _positive(axes: Axes, part: pd.DataFrame, column: int) -> None:
    """Let an axis of numbers above 0 begin there, and end near the largest mean."""
    top = max([*part["mean"], diffusion_hand.means()[column]])
    axes.set_ylim(0, 1.5 * float(top))


def _authors(axes: Axes, column: int, x: str, by: str, ours: pd.DataFrame) -> None:
    """Draw the authors' hand-read numbers: those of the same network and batch size, else a mean.

    Networks have shortcuts unless an axis says that they have none.
    """
    named = next((name for name in map(str, ours) if name.endswith("shortcut")), "")
    flag = int(not named or bool((ours[named] != 0).any()))
    known = {
        (depth, batch): row[column]
        for (depth, shortcut), rows in diffusion_hand.S3.items()
        for batch, row in rows.items()
        if shortcut == flag
    }
    mean = diffusion_hand.means()[column]
    axes.axhline(mean, color=RED, linewidth=0.6, linestyle="--", label="authors, mean")
    if {x, by} != {"depth", "batch_size"}:
        return
    for place in sorted(set(ours[x])):
        for group in sorted(set(ours[by])):
            key = (place, group) if x == "depth" else (group, place)
            if key in known:
                axes.plot(place, known[key], "x", color=RED, ms=4)


@la.figure(
    "diffusion_s4_learning_rate",
    scalars=["diffusion"],
    series=["diffusion"],
    axes=["temperature"],
)
def learning_rates(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Exponents, loss and displacement against the learning rate."""
    del chosen
    chosen_cell = typical(tables, load)
    _need_axis(tables.series, temperature, "temperature")
    place = next(place for place, cell in cells(tables) if cell == _cell_of(chosen_cell))
    others = {axis: value for axis, value in place.items() if axis != temperature}
    kept = [
        (where[temperature], walks(tables, cell))
        for where, cell in cells(tables)
        if all(where[axis] == value for axis, value in others.items())
    ]
    kept.sort(key=lambda pair: pair[0])
    found = _means(tables, QUANTITIES)
    for axis, value in others.items():
        found = found[found[axis] == value]
    across = min(max(len(kept), 2), ACROSS)
    rows = math.ceil(len(kept) / across)
    with style.sheet():
        height = 72 + 52 * rows
        figure = style.page(height)
        above = figure.add_gridspec(1, 3, top=1 - 12 / height, bottom=1 - 54 / height)
        below = figure.add_gridspec(rows, across, top=1 - 74 / height, bottom=11 / height)
        above.update(left=0.085, right=0.985, wspace=0.36)
        below.update(left=0.085, right=0.985, wspace=0.3, hspace=0.5)
        panels = [figure.add_subplot(above[0, column]) for column in range(3)]
        for axes, name, column in zip(
            panels, ("exponent_first", "exponent_last"), (0, 1), strict=False
        ):
            part = found[found["metric"] == name]
            _by_rate(axes, part, temperature, chosen_cell, column)
            axes.set_ylabel(QUANTITIES[name])
        _losses(panels[2], kept, temperature)
        for number, (rate, one) in enumerate(kept):
            axes = figure.add_subplot(
                below[number // across, number % across], sharey=panels[3] if number else None
            )
            windows(axes, one, "msd", one.firsts("msd"), "msd", legend=not number)
            loglog(axes, LAG, "" if number % across else MSD)
            axes.set_title(f"{style.axis_label(temperature)} {style.spell_axis(float(rate))}")
            panels.append(axes)
        _letters(panels)
        head(figure, chosen_cell, words=_spelled(others))
    return finish(figure, chosen_cell, *(one for _, one in kept))


def _by_rate(axes: Axes, part: pd.DataFrame, temperature: str, shown: Walks, column: int) -> None:
    """Draw an exponent against the learning rate, and what the authors read off for ResNet-14."""
    name = list(QUANTITIES)[column]
    fmt = ".-" if len(part) > 2 else "."  # two points make no trend
    look: dict[str, Any] = {"color": BLUE, "label": "ours", "capsize": 1.5}
    axes.errorbar(part[temperature], part["mean"], part["half_width"], fmt=fmt, **look)
    rates = np.array(list(diffusion_hand.S4))
    authors = np.array([row[column] for row in diffusion_hand.S4.values()])
    label = "authors (ResNet-14)"
    axes.plot(rates, authors, "x--", color=RED, lw=0.6, ms=4, label=label)
    axes.set_xscale("log")
    axes.set_xlabel(style.axis_label(temperature))
    axes.margins(y=0.35)  # room for the legend
    axes.legend(loc="upper right")
    shown.note(name, "authors", rates, authors)
    shown.note(name, "ours", part[temperature].to_numpy(), part["mean"].to_numpy())


def _losses(axes: Axes, kept: list[tuple[Any, Walks]], temperature: str) -> None:
    """Draw the loss along training at each rate."""
    for colour, (rate, one) in zip(colours(len(kept)), kept, strict=True):
        look = {"color": colour, "lw": 0.7, "label": style.spell_axis(float(rate))}
        line(axes, one, "loss", "loss", look, band=False)
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(style.Between())
    steps(axes)
    axes.set_ylabel("mini-batch loss (nats)")
    title = style.axis_label(temperature)
    axes.set_ylim(top=100 * axes.get_ylim()[1])  # room for the legend
    axes.legend(title=title, ncols=2, loc="upper right")


def _letters(panels: Iterable[Axes]) -> None:
    """Put a letter before the title of each panel."""
    for letter, axes in zip(string.ascii_lowercase, panels, strict=False):
        axes.set_title(f"{letter}  {axes.get_title(loc='left')}".rstrip())


def _spelled(still: Mapping[str, Any]) -> str:
    """Return what is the same in all panels in words."""
    words = [f"{style.axis_label(axis)} {style.spell_axis(v)}" for axis, v in still.items()]
    return ", ".join(words)


def _cell_of(one: Walks) -> str:
    return str(one.rows["cell"].iloc[0])
