"""What the figures of recorded paths share: which cell, which windows, and how lines look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lossatlas import uncertainty
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.tables.collect import axes_of

BLUE, ORANGE, RED = "#1f5a9e", "#d97a16", "#b5382a"
WINDOWS = "plasma"
SHEET = 140.0  # mm: height of a page of two rows of three panels
MARGINS = {"left": 0.085, "bottom": 0.075, "right": 0.985, "top": 0.92, "wspace": 0.42}
MANY = 3  # windows from which on a colour bar tells them apart
LAG, MSD = "lag (steps)", "mean squared displacement"


@dataclass
class Walks:
    """Curves and tables of one cell.

    Attributes:
        rows: Its rows of the table of series.
        label: What tells the cell from the others.
        experiment: Its name; "" for a study.
    """

    rows: pd.DataFrame
    label: str
    experiment: str = ""
    drawn: list[pd.DataFrame] = field(default_factory=list)

    def firsts(self, quantity: str, key: str = "window") -> list[int]:
        """Return the first points of the windows that have a quantity, or another of its keys."""
        if key not in self.rows:
            return []
        found = self.rows.loc[self.rows["series"] == quantity, key].dropna()
        return sorted(map(int, found.unique()))

    def some(self, quantity: str) -> list[int]:
        """Return the first, the middle and the last of these windows."""
        all_ = self.firsts(quantity)
        if not all_:
            fix = "measure 'diffusion' on an experiment whose recipe records"
            raise UserError(f"the figure's tables have no '{quantity}'", where="figures", fix=fix)
        return list(dict.fromkeys([all_[0], all_[len(all_) // 2], all_[-1]]))

    def parts(self, name: str, **index: int | str) -> list[pd.DataFrame]:
        """Return the rows of that name and index of each replica."""
        chosen = self.rows["series"] == name
        for key, value in index.items():
            chosen &= self.rows[key] == value if key in self.rows else False
        rows = self.rows[chosen.fillna(False).astype(bool)]
        return [group for _, group in rows.groupby("replica", dropna=False)]

    def curves(self, name: str, **index: int | str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return x and y of each replica that has a finite number."""
        parts = self.parts(name, **index)
        found = [(part["x"].to_numpy(float), part["y"].to_numpy(float)) for part in parts]
        return [(x, y) for x, y in found if np.isfinite(y).any()]

    def mean(
        self, name: str, *, logarithm: bool = True, **index: int | str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean curve over replicas (geometric for a logarithmic axis).

        At the x of the first replica that all have reached, between their points linearly.
        """
        found = [(x, y) for x, y in self.curves(name, **index) if len(x)]
        if not found:
            return np.empty(0), np.empty(0)
        grid = found[0][0]
        low, high = max(x.min() for x, _ in found), min(x.max() for x, _ in found)
        grid = grid[(grid >= low) & (grid <= high)]
        stacked = np.array([np.interp(grid, x, y) for x, y in found])
        if logarithm:
            with np.errstate(divide="ignore", invalid="ignore"):
                return grid, np.exp(np.log(stacked).mean(axis=0))
        return grid, stacked.mean(axis=0)

    def spread(
        self, name: str, *, logarithm: bool = True, **index: int | str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return x and y of `mean`, and the ends of its 95% interval over replicas; NaN if unknown.

        Of a geometric mean the interval is that of the logarithm.
        """
        x, y = self.mean(name, logarithm=logarithm, **index)
        found = [(a, b) for a, b in self.curves(name, **index) if len(a)]
        values = np.array([np.interp(x, a, b) for a, b in found]).reshape(len(found), len(x))
        with np.errstate(divide="ignore", invalid="ignore"):
            over = [uncertainty.mean(one) for one in (np.log(values) if logarithm else values).T]
        half = uncertainty.half_width([one.stderr for one in over], [one.df for one in over])
        if logarithm:
            return x, y, y * np.exp(-half), y * np.exp(half)
        return x, y, y - half, y + half

    def note(self, panel: str, line: str, x: np.ndarray, y: np.ndarray, **index: Any) -> None:
        """Keep a drawn line for the CSV, with the index that tells it from others of its name."""
        drawn = pd.DataFrame({"panel": panel, "line": line, **index, "x": x, "y": y})
        whole = {key: "Int64" for key in index if drawn[key].dtype.kind == "i"}
        self.drawn.append(drawn.astype(whole))


def cells(tables: Tables) -> list[tuple[dict[str, Any], str]]:
    """Return (axis values, cell) of all cells with curves, in order."""
    axes = axes_of(tables.series)
    rows = tables.series.drop_duplicates("cell")
    return [({a: row[a] for a in axes}, str(row["cell"])) for _, row in rows.iterrows()]


def walks(tables: Tables, cell: str) -> Walks:
    """Return the curves and tables of a cell."""
    rows = tables.series[tables.series["cell"] == cell]
    axes = axes_of(tables.series)
    first = rows.iloc[0]
    spelled = (f"{style.axis_label(a)} {style.spell_axis(float(first[a]))}" for a in axes)
    return Walks(rows, ", ".join(spelled), str(first["experiment"]))


def typical(tables: Tables, load: str, *, smallest: bool = False) -> Walks:
    """Return the cell of largest (or smallest) load in the middle of the temperatures.

    Raises:
        UserError: If the tables are empty.
    """
    found = cells(tables)
    if not found:
        fix = "measure the metric that the figure shows"
        raise UserError("the figure's tables have no curves", where="figures", fix=fix)
    wanted = {}
    for axis in found[0][0]:
        values = sorted({place[axis] for place, _ in found})
        if axis == load:
            wanted[axis] = values[0] if smallest else values[-1]
        else:
            wanted[axis] = values[(len(values) - 1) // 2]
    for place, cell in found:
        if place == wanted:
            return walks(tables, cell)
    return walks(tables, found[-1][1])


def colours(count: int) -> list[Any]:
    """Return colours from the first window to the last."""
    return list(colormaps[WINDOWS](np.linspace(0.0, 0.85, max(count, 1))))


def line(
    axes: Axes,
    shown: Walks,
    panel: str,
    name: str,
    look: Mapping[str, Any],
    *,
    logarithm: bool = True,
    band: bool = True,
    **index: int | str,
) -> bool:
    """Draw the mean of a quantity over replicas with its 95% interval; say whether there is any.

    Args:
        axes: Where.
        shown: The cell.
        panel: Letter of the panel, for the CSV.
        name: The quantity.
        look: What `Axes.plot` takes, with a colour.
        logarithm: Whether the mean is geometric.
        band: Whether its interval is drawn; that of single noisy steps would hide them.
        index: Which of its curves.
    """
    x, y, low, high = shown.spread(name, logarithm=logarithm, **index)
    if not len(x):
        return False
    if band:
        axes.fill_between(x, low, high, color=look["color"], alpha=0.22, lw=0, gid="interval")
    axes.plot(x, y, **look)
    shown.note(panel, name, x, y, **index, low=low, high=high)
    return True


def windows(
    axes: Axes,
    shown: Walks,
    quantity: str,
    firsts: Sequence[int],
    panel: str,
    *,
    legend: bool = True,
    logarithm: bool = True,
    band: bool = True,
) -> None:
    """Draw a quantity in several windows: means over replicas with intervals."""
    for colour, first in zip(colours(len(firsts)), firsts, strict=True):
        label = f"from step {first}" if legend and len(firsts) <= MANY else None
        look = {"color": colour, "linewidth": 1.2, "label": label}
        line(axes, shown, panel, quantity, look, logarithm=logarithm, band=band, window=first)
    if legend and len(firsts) > MANY:
        window_bar(axes, firsts)
    elif legend:
        axes.legend(handlelength=1.2, loc="best")


def window_bar(axes: Axes, firsts: Sequence[int]) -> None:
    """Draw which colour is which window, in the upper left corner of a panel.

    Within it, and not beside it: margins between panels are fixed.
    """
    axes.margins(y=0.25)
    place = axes.inset_axes((0.06, 0.84, 0.45, 0.05))
    scale = ScalarMappable(Normalize(firsts[0], firsts[-1]), ListedColormap(colours(256)))
    bar = cast("Any", axes.figure).colorbar(scale, cax=place, orientation="horizontal")
    ends = [firsts[0], firsts[-1]]
    bar.set_ticks(ends, labels=[short(end) for end in ends])
    bar.ax.tick_params(pad=1)
    bar.ax.set_title("from step", pad=1, loc="center")


def guide(axes: Axes, slope: float, x: tuple[float, float], y: float) -> None:
    """Draw a dashed line of a slope on logarithmic axes, from (x[0], y)."""
    ends = np.array(x)
    line = y * (ends / ends[0]) ** slope
    axes.plot(ends, line, color=style.GREY, linewidth=0.7, linestyle="--")
    axes.annotate(f"{slope:g}", (ends[1], line[1]), color=style.GREY)


def loglog(axes: Axes, x: str, y: str) -> None:
    """Make both axes logarithmic and name them."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(style.Between())


def head(figure: Figure, *shown: Walks, words: str = "") -> None:
    """Say above all panels which experiment and which cell they show, or other words of it."""
    first = shown[0]
    about = words or first.label
    text = (
        f"{first.experiment}: {about}" if first.experiment and about else first.experiment or about
    )
    style.head(figure, text)


def steps(axes: Axes, words: str = "step") -> None:
    """Name an axis of steps of training, with a few numbers: 500, 20k."""
    axes.set_xlabel(words)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short(step)))


def short(step: float) -> str:
    """Write a number of steps: 500, 20k."""
    return f"{step:g}" if abs(step) < 10_000 else f"{step / 1000:g}k"


def absent(axes: Axes, words: str) -> None:
    """Say in a panel why nothing is drawn in it."""
    axes.text(
        0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center",
        color=style.GREY, gid="absent",
    )  # fmt: skip


def titled(panels: Iterable[Axes], titles: Sequence[str]) -> None:
    """Put letters and titles over panels."""
    for letter, axes, title in zip("abcdefgh", panels, titles, strict=False):
        axes.set_title(f"{letter}  {title}")


def finish(figure: Any, *shown: Walks) -> Drawn:
    """Return the picture with all lines that were noted.

    Raises:
        UserError: If there is none.
    """
    parts = [part.assign(cell=one.label) for one in shown for part in one.drawn]
    if not parts:
        fix = "look at the statuses of the figure's tables"
        raise UserError("no number of the figure's tables is finite", where="figures", fix=fix)
    numbers = pd.concat(parts, ignore_index=True)
    names = ["cell", "panel", "line"]
    index = [name for name in numbers if name not in (*names, "x", "y")]
    return Drawn(cast("Any", figure), numbers[[*names, *index, "x", "y"]])
