"""Figures S3 and S4 of Chen et al. (2022): exponents over depth, batch size and learning rate."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    cells,
    colours,
    finish,
    loglog,
    typical,
    walks,
    windows,
)
from lossatlas.reference import diffusion_hand
from lossatlas.spec.figures import Figure as Chosen
from lossatlas.tables.collect import axes_of

QUANTITIES = {
    "exponent_first": "exponent, first window",
    "exponent_last": "exponent, last window",
    "crossover_first": "crossover, first window (steps)",
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


@la.figure("diffusion_s3_depth_batch", scalars=["diffusion"], series=["diffusion"])
def depth_and_batch(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Exponents and crossover against depth and batch size."""
    del chosen
    found = _means(tables, QUANTITIES)
    _need_axis(tables.scalars, load, "load")
    batch = next((a for a in ("batch_size", temperature) if a in found and a != load), load)
    if temperature in found and temperature != batch:
        values = sorted(found[temperature].unique())
        found = found[found[temperature] == values[(len(values) - 1) // 2]]
    still = {a: found[a].iloc[0] for a in axes_of(tables.scalars) if found[a].nunique() == 1}
    with style.sheet():
        figure = style.page(105)
        panels = figure.subplots(2, 3)
        for row, (x, by) in enumerate(((load, batch), (batch, load))):
            groups = list(found.groupby(by))
            for column, (name, words) in enumerate(QUANTITIES.items()):
                axes = panels[row, column]
                for colour, (_, group) in zip(colours(len(groups)), groups, strict=True):
                    part = group[group["metric"] == name]
                    value = float(group[by].iloc[0])
                    label = f"{style.axis_label(by)} {style.spell_axis(value)}"
                    x_, y, reach = (part[c] for c in (x, "mean", "half_width"))
                    axes.errorbar(x_, y, reach, fmt=".-", color=colour, label=label)
                _authors(axes, column, x, by, found)
                axes.set_xlabel(style.axis_label(x))
                axes.set_ylabel(words)
                axes.set_xticks(sorted(found[x].unique()))
            panels[row, 0].legend(fontsize=6)
        _letters(panels.flat)
        _head(figure, still)
        figure.subplots_adjust(0.07, 0.09, 0.985, 0.9, wspace=0.32, hspace=0.42)
    return Drawn(figure, found.reset_index(drop=True))


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


@la.figure("diffusion_s4_learning_rate", scalars=["diffusion"], series=["diffusion"])
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
    with style.sheet():
        count = max(len(kept), 2)
        figure = style.page(110)
        top = figure.subplots(2, count, squeeze=False)
        for axes, name, column in (
            (top[0, 0], "exponent_first", 0),
            (top[0, 1], "exponent_last", 1),
        ):
            part = found[found["metric"] == name]
            axes.errorbar(part[temperature], part["mean"], part["half_width"], fmt=".-", color=BLUE)
            rates = np.array(list(diffusion_hand.S4))
            authors = np.array([row[column] for row in diffusion_hand.S4.values()])
            axes.plot(rates, authors, "x--", color=RED, lw=0.6, ms=4, label="authors, by hand")
            axes.set_xscale("log")
            axes.set_xlabel(style.axis_label(temperature))
            axes.set_ylabel(QUANTITIES[name])
            axes.legend(fontsize=6)
            chosen_cell.note(name, "authors", rates, authors)
            chosen_cell.note(name, "ours", part[temperature].to_numpy(), part["mean"].to_numpy())
        for axes in top[0, 2:]:
            for colour, (rate, one) in zip(colours(len(kept)), kept, strict=True):
                x, y = one.mean("loss", logarithm=True)
                axes.plot(x, y, color=colour, lw=0.7, label=style.spell_axis(float(rate)))
                one.note("loss", "loss", x, y)
            axes.set_yscale("log")
            axes.set_xlabel("step")
            axes.set_ylabel("mini-batch loss (nats)")
            axes.legend(fontsize=6)
            break
        for axes in top[0, 3:]:
            axes.set_axis_off()
        for axes, (rate, one) in zip(top[1], kept, strict=False):
            key = axes is top[1, 0]
            windows(axes, one, "msd", one.firsts("msd"), "msd", legend=key, thin=False)
            loglog(axes, LAG, MSD)
            axes.set_title(f"{style.axis_label(temperature)} {style.spell_axis(float(rate))}")
        for axes in top[1, len(kept) :]:
            axes.set_axis_off()
        _letters(axes for axes in top.flat if axes.axison)
        _head(figure, others)
        figure.subplots_adjust(0.07, 0.085, 0.985, 0.9, wspace=0.3, hspace=0.42)
    return finish(figure, chosen_cell, *(one for _, one in kept))


def _letters(panels: Iterable[Axes]) -> None:
    """Put a letter before the title of each panel."""
    for letter, axes in zip(string.ascii_lowercase, panels, strict=False):
        axes.set_title(f"{letter}  {axes.get_title(loc='left')}".rstrip())


def _head(figure: Figure, still: Mapping[str, Any]) -> None:
    """Say above all panels what is the same in them."""
    words = [f"{style.axis_label(axis)} {style.spell_axis(v)}" for axis, v in still.items()]
    figure.suptitle(", ".join(words), fontsize=7, x=0.99, ha="right")


def _cell_of(one: Walks) -> str:
    return str(one.rows["cell"].iloc[0])
