"""The edge of stability: sharpness along training and 2 / learning rate (Cohen et al., 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

import lossatlas as la
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.walks import Walks, cells, finish, head, titled, walks
from lossatlas.spec.figures import Figure as Chosen

RATE, EPOCH, LIMIT = "learning_rate", "epoch", "black"
_MOST = 5  # rates in a panel, evenly chosen


@la.figure("edge_of_stability", series=["hessian_path"])
def edge_of_stability(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Largest Hessian eigenvalue along training, beside the limit of gradient descent.

    Args:
        tables: Series of `hessian_path`, of an experiment with the axis `learning_rate`.
        chosen: Not needed; all figures are called alike.
        load: Name of the load axis: the cells of its largest value are drawn.
        temperature: Name of the temperature axis.

    Returns:
        The picture, and panel, line, replica, learning rate, x and y of each line.

    Raises:
        UserError: If there is no axis `learning_rate`, or no eigenvalue.
    """
    del chosen
    shown = _by_rate(tables, load if load != RATE else temperature)
    with style.sheet():
        figure = style.page(74)
        panels = figure.subplots(1, 2)
        for colour, (rate, walk) in zip(_colours(len(shown)), shown.items(), strict=True):
            _draw(panels, walk, rate, colour)
        _scales(panels)
        _key(figure, list(shown))
        titled(panels, ["largest eigenvalue", "in units of the limit"])
        head(figure, *shown.values(), words=_words(shown, tables))
        figure.subplots_adjust(0.09, 0.15, 0.985, 0.84, wspace=0.25)
    return finish(figure, *shown.values())


def _by_rate(tables: Tables, other: str) -> dict[float, Walks]:
    """Return learning rate -> its cell, of the largest value of the other axis."""
    found = cells(tables)
    if found and RATE not in found[0][0]:
        fix = "add learning_rate to the load or the temperature of the experiment"
        raise UserError(f"edge_of_stability: no axis '{RATE}'", where="figures", fix=fix)
    largest = max((place[other] for place, _ in found if other in place), default=None)
    kept = {
        float(place[RATE]): walks(tables, cell)
        for place, cell in found
        if other not in place or place[other] == largest
    }
    known = {rate: walk for rate, walk in sorted(kept.items()) if walk.curves("eigenvalue", rank=1)}
    if not known:
        fix = "measure 'hessian_path' on the experiment"
        raise UserError("the figure's tables have no eigenvalues", where="figures", fix=fix)
    rates = list(known)
    picked = np.unique(np.linspace(0, len(rates) - 1, min(_MOST, len(rates))).round().astype(int))
    return {rates[place]: known[rates[place]] for place in picked}


def _colours(count: int) -> list[Any]:
    return list(colormaps["plasma"](np.linspace(0.15, 0.85, max(count, 2))))[:count]


def _draw(panels: Any, walk: Walks, rate: float, colour: Any) -> None:
    """Draw the replicas of a cell: eigenvalues, and their share of 2 / learning rate."""
    limit, last = 2 / rate, 0.0
    for part in walk.parts("eigenvalue", rank=1):
        x, y = (part[name].to_numpy(float) for name in ("x", "y"))
        rough = (part["status"] != "ok").any()
        for letter, axes, values in zip("ab", panels, (y, y / limit), strict=True):
            axes.plot(x, values, "." if len(x) == 1 else "-", color=colour, linewidth=0.9)
            if rough:
                axes.plot(x, values, "o", color=colour, mfc="white", ms=2.5, mew=0.6)
            more = {"replica": int(part["replica"].iloc[0]), RATE: rate}
            walk.note(letter, "eigenvalue" if letter == "a" else "share", x, values, **more)
        last = max(last, np.max(x, initial=0.0))
    panels[0].plot([0, last], [limit, limit], color=colour, linewidth=0.9, linestyle="--")
    walk.note("a", "2 / learning rate", np.array([0, last]), np.array([limit] * 2), **{RATE: rate})


def _scales(panels: Any) -> None:
    first, second = panels
    second.axhline(1, color=LIMIT, linewidth=0.9, linestyle="--")
    second.set_ylim(bottom=0)
    for axes, words in zip(panels, ("eigenvalue", "eigenvalue × rate / 2"), strict=True):
        axes.set_xlabel(EPOCH)
        axes.set_ylabel(words)
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in first.lines])
    if np.nanmin(values) > 0:
        first.set_yscale("log")
        for which in (first.yaxis.set_major_formatter, first.yaxis.set_minor_formatter):
            which(LogFormatter(minor_thresholds=(1.5, 0.4)))


def _key(figure: Figure, rates: list[float]) -> None:
    """Name the colours, above the panels."""
    looks = zip(_colours(len(rates)), rates, strict=True)
    keys = [Line2D([], [], color=colour, label=style.spell_axis(rate)) for colour, rate in looks]
    keys.append(Line2D([], [], color=LIMIT, linestyle="--", label="2 / rate"))
    keys.insert(0, Line2D([], [], color=LIMIT, linestyle="", label="learning rate"))
    figure.legend(
        handles=keys,
        ncols=len(keys),
        loc="upper left",
        bbox_to_anchor=(0.05, 0.995),
        borderaxespad=0.0,
        handlelength=1.4,
        columnspacing=0.9,
    )


def _words(shown: dict[float, Walks], tables: Tables) -> str:
    """Return what the cells have in common besides the rate, and how many replicas there are."""
    walk = next(iter(shown.values()))
    place = next(place for place, cell in cells(tables) if (walk.rows["cell"] == cell).all())
    same = [
        f"{style.axis_label(a)} {style.spell_axis(float(v))}" for a, v in place.items() if a != RATE
    ]
    count = len(walk.parts("eigenvalue", rank=1))
    return ", ".join([*same, f"a line for each of {count} replica{'s' * (count > 1)}"])
