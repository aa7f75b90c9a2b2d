"""Figures of Chen et al. (2022): the toy model, rough landscapes, and the supplement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.ticker import NullFormatter

from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.walks import (
    BLUE,
    LAG,
    MSD,
    ORANGE,
    RED,
    Walks,
    cells,
    colours,
    finish,
    loglog,
    titled,
    typical,
    walks,
    windows,
)
from lossatlas.reference import diffusion_hand
from lossatlas.spec.figures import Figure as Chosen
from lossatlas.tables.collect import axes_of

KINDS = {
    "fractal": BLUE,
    "fractal small": "#7fb2e5",
    "shuffled": ORANGE,
    "cone": RED,
    "quadratic": "#6a9a3b",
    "flat": style.GREY,
}


SURFACES = {
    "loss": ("loss, random plane", BLUE),
    "pca": ("loss, principal plane", "#7fb2e5"),
    "fractal": ("fractal", ORANGE),
    "shuffled": ("shuffled", RED),
    "quadratic": ("quadratic", style.GREY),
}


def toy(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Draw Fig. 4: walkers on fractal, shuffled and convex surfaces."""
    del chosen, load, temperature
    shown = Walks(tables.series, "toy walkers")
    values = dict(zip(tables.scalars["metric"], tables.scalars["value"], strict=True))
    with style.sheet():
        figure = style.page(118)
        panels = figure.subplots(2, 3).ravel()
        _map(panels[0], shown, "fractal", "a")
        _map(panels[1], shown, "shuffled", "b")
        _zoom(panels[2], shown, "fractal", "c")
        for name, colour in KINDS.items():
            for axes, when, panel in ((panels[3], "early", "d"), (panels[4], "late", "e")):
                for x, y in shown.curves(f"msd_{when}:{name}"):
                    share = values.get(f"{name} wall_share", float("nan"))
                    words = f"{name} ({share:.0%} at walls)" if when == "early" else None
                    axes.plot(x, y, color=colour, label=words)
                    shown.note(panel, f"{when}:{name}", x, y)
            for x, y in shown.curves(f"gradients:{name}"):
                panels[5].plot(x, y, color=colour)
                shown.note("f", f"gradients:{name}", x, y)
        for axes in panels[3:5]:
            loglog(axes, LAG, MSD)
        panels[3].set_ylim(bottom=panels[3].get_ylim()[0] / 100)  # room for the legend
        panels[3].legend(fontsize=5, handlelength=1, loc="lower right")
        panels[5].set_yscale("log")
        panels[5].set_ylim(1e-4, 10)
        panels[5].set_xlabel("gradient met")
        panels[5].set_ylabel("density")
        titles = ["fractal", "shuffled", "settled, by step length", "steps 0 to 200"]
        titled(panels, [*titles, "steps 501 to 1000", "gradients"])
        figure.subplots_adjust(0.07, 0.085, 0.985, 0.95, wspace=0.3, hspace=0.35)
    return finish(figure, shown)


def _grid(shown: Walks, kind: str) -> np.ndarray:
    found = shown.curves(f"surface:{kind}")
    if not found:
        fix = "run the study 'toy_walkers'"
        raise UserError(f"the tables have no surface '{kind}'", where="figures", fix=fix)
    side = round(len(found[0][1]) ** 0.5)
    return found[0][1].reshape(side, side)


def _path(shown: Walks, kind: str, panel: str) -> tuple[np.ndarray, np.ndarray]:
    (time, x), (_, y) = (shown.curves(f"path_{axis}:{kind}")[0] for axis in "xy")
    shown.note(panel, "x", time, x)
    shown.note(panel, "y", time, y)
    return x, y


def _map(axes: Axes, shown: Walks, kind: str, panel: str) -> None:
    """Draw a surface and one path across it."""
    x, y = _path(shown, kind, panel)
    axes.imshow(_grid(shown, kind), origin="lower", extent=(-1, 1, -1, 1), cmap="viridis")
    axes.plot(x, y, color="white", linewidth=0.5)
    axes.plot(x[0], y[0], "x", color=RED, ms=5)
    axes.plot(x[-1], y[-1], "o", color=RED, ms=4, mfc="none")
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])
    axes.set_xlabel("x")
    axes.set_ylabel("y")


def _zoom(axes: Axes, shown: Walks, kind: str, panel: str) -> None:
    """Draw the second half of the path, coloured by the length of its steps."""
    x, y = (one[500:] for one in _path(shown, kind, panel))
    points = np.stack([x, y], 1)
    pairs = np.stack([points[:-1], points[1:]], 1)
    lines = LineCollection(list(pairs), cmap="copper_r", linewidths=0.6)
    lines.set_array(np.log10(np.hypot(*np.diff(points, axis=0).T) + 1e-12))
    side = np.linspace(-1, 1, len(_grid(shown, kind)))
    axes.contour(side, side, _grid(shown, kind), 40, cmap="viridis", linewidths=0.4)
    axes.add_collection(lines)
    middle, reach = points.mean(axis=0), max(float(np.ptp(points, axis=0).max()) * 0.65, 0.05)
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
    axes.set_aspect("equal")
    axes.set_xlabel("x")
    axes.set_ylabel("y")


def fractal(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Draw the loss around a trained network and how rough it is beside generated surfaces."""
    del chosen, temperature
    shown = typical(tables, load)
    with style.sheet():
        figure = style.page(112)
        panels = figure.subplots(2, 3).ravel()
        _plane(panels[0], shown, "loss", "a")
        panels[0].set_xlabel("random direction 1")
        panels[0].set_ylabel("random direction 2")
        _plane(panels[1], shown, "pca", "b")
        panels[1].set_xlabel("principal direction 1")
        panels[1].set_ylabel("principal direction 2")
        for name, (words, colour) in SURFACES.items():
            for axes, quantity, panel in zip(
                panels[2:5], ("structure", "boxes", "spectrum"), "cde", strict=True
            ):
                for x, y in shown.curves(f"{quantity}:{name}"):
                    axes.plot(x, y, ".-", ms=3, lw=0.8, color=colour)
                    shown.note(panel, f"{quantity}:{name}", x, y)
            for number, (x, y) in enumerate(shown.curves(f"structure:{name}")):
                middle = np.sqrt(x[1:] * x[:-1])
                local = np.diff(np.log(y)) / np.diff(np.log(x))
                label = None if number else words
                panels[5].plot(middle, local, ".-", ms=3, lw=0.8, color=colour, label=label)
                shown.note("f", f"local:{name}", middle, local)
        loglog(panels[2], "distance (share of the side)", "structure function / variance")
        loglog(panels[3], "size of a box (share of the side)", "boxes")
        loglog(panels[4], "cycles per side", "power / variance")
        panels[5].axhline(2, color=style.GREY, linewidth=0.5, linestyle=":")
        panels[5].set_xscale("log")
        panels[5].xaxis.set_minor_formatter(NullFormatter())
        panels[5].set_ylim(0, 2.2)
        panels[5].set_xlabel("distance (share of the side)")
        panels[5].set_ylabel("slope of the structure function")
        panels[5].legend(fontsize=5.5, loc="center", bbox_to_anchor=(0.4, 0.4))
        titles = ["random directions", "principal directions", "structure function", "box count"]
        titled(panels, [*titles, "spectrum", "local slope; 2 is smooth"])
        figure.suptitle(shown.label, fontsize=7, x=0.99, ha="right")
        figure.subplots_adjust(0.07, 0.09, 0.985, 0.9, wspace=0.42, hspace=0.45)
    return finish(figure, shown)


def _plane(axes: Axes, shown: Walks, kind: str, panel: str) -> None:
    """Draw the loss on a plane and, on principal directions, the path of the weights in it."""
    found = shown.curves(f"plane:{kind}")
    if not found:
        axes.text(0.5, 0.5, "no weights kept along training", ha="center", va="center", fontsize=6)
        return
    nodes, loss = found[0]
    shown.note(panel, kind, nodes, loss)
    side = round(len(loss) ** 0.5)
    grid = np.maximum(loss.reshape(side, side), 1e-4)
    image = axes.imshow(grid, norm=LogNorm(), origin="lower", extent=(-1, 1, -1, 1))
    bar = cast("Any", axes.figure).colorbar(image, ax=axes)
    bar.ax.set_title("loss (nats)", fontsize=6)
    for (epoch, x), (_, y) in zip(
        shown.curves(f"{kind}_x")[:1], shown.curves(f"{kind}_y")[:1], strict=True
    ):
        axes.plot(x, y, ".-", color="white", lw=0.8, ms=3)
        axes.plot(x[0], y[0], "x", color=RED, ms=5)
        shown.note(panel, "path x", epoch, x)
        shown.note(panel, "path y", epoch, y)


def all_windows(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Draw Fig. S1: displacement in all windows, and over the whole run by projection."""
    del chosen, temperature
    shown = typical(tables, load)
    with style.sheet():
        figure = style.page(70, 140)
        panels = figure.subplots(1, 2)
        windows(panels[0], shown, "msd", shown.firsts("msd"), "a", thin=False)
        for name, colour in (("msd_run", BLUE), ("still_msd_run", ORANGE)):
            for number, (x, y) in enumerate(shown.curves(name)):
                label = {"msd_run": "as it is", "still_msd_run": "without drift"}[name]
                panels[1].plot(x, y, color=colour, lw=0.8, label=None if number else label)
                shown.note("b", name, x, y)
        for axes in panels:
            loglog(axes, LAG, MSD)
        panels[1].legend()
        titled(panels, ["all windows", "whole run (projected)"])
        figure.suptitle(shown.label, fontsize=7, x=0.99, ha="right")
        figure.subplots_adjust(0.1, 0.15, 0.98, 0.87, wspace=0.3)
    return finish(figure, shown)


def _means(tables: Tables, names: Mapping[str, str]) -> pd.DataFrame:
    """Return cell means and standard errors over replicas of some scalars.

    A crossover that is not found lies at an end of the lags searched: it is left out.
    """
    table = tables.scalars
    axes = axes_of(table)
    rough = (table["status"] == "unconverged") & ~table["metric"].str.startswith("crossover")
    rows = table[table["metric"].isin(names) & ((table["status"] == "ok") | rough)]
    grouped = rows.groupby([*axes, "metric"], sort=True)["value"]
    found = grouped.agg(["mean", "sem", "count"]).reset_index()
    if found.empty:
        fix = "measure 'diffusion' on the experiment"
        raise UserError("the figure's tables have no exponents", where="figures", fix=fix)
    return found


def _need_axis(table: pd.DataFrame, axis: str, kind: str) -> None:
    """Refuse an experiment in which nothing varies along an axis that the figure draws."""
    if axis not in axes_of(table):
        fix = f"name an experiment with a '{kind}'"
        raise UserError(f"the figure's experiment has no '{kind}' axis", where="figures", fix=fix)


QUANTITIES = {
    "exponent_first": "exponent, first window",
    "exponent_last": "exponent, last window",
    "crossover_first": "crossover, first window (steps)",
}


def depth_and_batch(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Draw Fig. S3: exponents and crossover against depth and batch size."""
    del chosen
    found = _means(tables, QUANTITIES)
    _need_axis(tables.scalars, load, "load")
    if temperature in found:
        values = sorted(found[temperature].unique())
        found = found[found[temperature] == values[(len(values) - 1) // 2]]
    batch = next((a for a in ("batch_size", temperature) if a in found and a != load), load)
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
                    axes.errorbar(
                        part[x], part["mean"], part["sem"], fmt=".-", color=colour, label=label
                    )
                _authors(axes, column, x, by, found)
                axes.set_xlabel(style.axis_label(x))
                axes.set_ylabel(words)
                axes.set_xticks(sorted(found[x].unique()))
            panels[row, 0].legend(fontsize=6)
        figure.subplots_adjust(0.07, 0.09, 0.985, 0.97, wspace=0.32, hspace=0.3)
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


def learning_rates(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Draw Fig. S4: exponents against learning rate; loss and displacement for each."""
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
            axes.errorbar(part[temperature], part["mean"], part["sem"], fmt=".-", color=BLUE)
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
            windows(axes, one, "msd", one.firsts("msd"), "msd", legend=False, thin=False)
            loglog(axes, LAG, MSD)
            axes.set_title(f"{style.axis_label(temperature)} {style.spell_axis(float(rate))}")
        for axes in top[1, len(kept) :]:
            axes.set_axis_off()
        figure.subplots_adjust(0.07, 0.085, 0.985, 0.97, wspace=0.3, hspace=0.35)
    return finish(figure, chosen_cell, *(one for _, one in kept))


def _cell_of(one: Walks) -> str:
    return str(one.rows["cell"].iloc[0])
