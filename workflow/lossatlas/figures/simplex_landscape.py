"""Pictures of a complex: planes through its vertices, its projection, its volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

import lossatlas as la
from lossatlas import uncertainty
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.frames import experiment, frame, frames
from lossatlas.spec.figures import Figure as Chosen

LOSS = "training loss (nats)"
LOSSES = "viridis"
_TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
BOX = (4, 4, 3)  # sides of what is drawn in three directions
_LONGEST = 30  # characters of a name of a file
_FIELD, _TALLEST = 142.0, 130.0  # mm: width of all planes, height of one at most
FLOOR = 1e-3  # the smallest loss that has a colour of its own
NARROW = 1.01  # ratio of losses up to which they count as equal


@la.figure("simplex_planes", series=["simplex"])
def planes(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """The loss on planes through modes and connectors, true to length."""
    del chosen, load, temperature
    rasters, corners = frames(tables, "plane", "plane"), frames(tables, "corners", "plane")
    names = list(rasters)
    if not names:
        fix = "let 'simplex' have a complex with a triangle"
        raise UserError("the figure's tables have no plane", where="figures", fix=fix)
    losses = np.concatenate([rasters[name]["loss"].to_numpy() for name in names])
    scale = log_scale(losses)
    with style.sheet():
        across = min(len(names), 2)
        rows = math.ceil(len(names) / across)
        width = (_FIELD - 18 * (across - 1)) / across
        tall = min(max(_tall(rasters[name]) for name in names) * width, _TALLEST)
        height = 26 + rows * tall + 20 * (rows - 1)
        figure = style.page(height)
        panels = figure.subplots(rows, across, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            image = draw_plane(axes, rasters[name], corners[name], scale)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        figure.subplots_adjust(
            14 / style.PAGE, 14 / height, (14 + _FIELD) / style.PAGE, 1 - 12 / height,
            wspace=18 / width, hspace=20 / tall,
        )  # fmt: skip
        loss_bar(figure, image, scale, (0.9, 16 / height, 0.018, 1 - 30 / height))
        style.head(figure, f"{experiment(tables)}; white lines: training error")
    columns = ["u", "v", "inside", "loss", "error"]
    parts = [rasters[name][["plane", *columns]] for name in names]
    return Drawn(figure, pd.concat(parts, ignore_index=True))


def _tall(raster: pd.DataFrame) -> float:
    """Return height over width of a plane."""
    return float(np.ptp(raster["v"]) / (np.ptp(raster["u"]) or 1.0))


def log_scale(losses: np.ndarray) -> LogNorm:
    """Return the scale from the least to the largest loss; of equal losses, 1% around them."""
    finite = losses[np.isfinite(losses)]
    low, high = (finite.min(), finite.max()) if finite.size else (1.0, 1.0)
    low, high = max(float(low), FLOOR), max(float(high), FLOOR)
    return LogNorm(low, high) if high > NARROW * low else LogNorm(low / NARROW, high * NARROW)


def loss_bar(
    figure: Figure, image: Any, scale: LogNorm, place: tuple[float, float, float, float]
) -> None:
    """Draw the colour bar of losses at a place (left, bottom, width, height) of the page."""
    label_bar(figure.colorbar(image, cax=figure.add_axes(place)), scale)


def label_bar(bar: Any, scale: LogNorm, label: str = LOSS) -> None:
    """Put ticks and a label on a colour bar of losses."""
    low, high = cast(float, scale.vmin), cast(float, scale.vmax)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    if len(ticks) < 2:  # one number is no scale
        equal = high <= 1.001 * NARROW**3 * low
        ticks = [math.sqrt(low * high)] if equal else np.geomspace(low, high, 3).tolist()
    bar.set_ticks(ticks)
    bar.ax.set_yticklabels([f"{tick:.3g}" for tick in ticks])
    bar.minorticks_off()
    bar.set_label(label)


def draw_plane(
    axes: Axes,
    raster: pd.DataFrame,
    corners: pd.DataFrame,
    scale: LogNorm,
    names: Sequence[str] = (),
) -> Any:
    """Draw one plane; distances on paper are proportional to those in parameter space.

    Args:
        axes: Where.
        raster: Loss and error at the points.
        corners: The three corners.
        scale: Of the losses.
        names: Of the corners; default: those of modes and connectors.
    """
    wide = raster.pivot(index="v", columns="u", values="loss")
    image = fill(axes, wide, scale)
    error = raster.pivot(index="v", columns="u", values="error").to_numpy()
    low, high = error.min(), error.max()
    if np.isnan(error).any() and not np.isnan(error).all():
        low, high = np.nanmin(error), np.nanmax(error)
    lines = [level for level in (2, 10, 50) if low < level < high]
    if lines:
        marks = axes.contour(wide.columns, wide.index, error, lines, colors="white", linewidths=0.6)
        axes.clabel(marks, fmt="%g%%")
    around = corners.iloc[[0, 1, 2, 0]]
    axes.plot(around["u"], around["v"], color="white", linewidth=1.2)
    own = [_vertex(*row) for row in zip(corners["mode"], corners["number"], strict=True)]
    labels = list(names) or own
    middle = corners[["u", "v"]].mean()
    for label, (_, corner) in zip(labels, corners[["u", "v"]].iterrows(), strict=True):
        axes.plot(corner["u"], corner["v"], "o", color="white", mec=style.INK, ms=5)
        away = corner - middle
        away = away / (np.hypot(*away) or 1.0)
        axes.annotate(
            label,
            (corner["u"], corner["v"]),
            (9 * away["u"], 9 * away["v"]),
            textcoords="offset points",
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
        )
    axes.set_aspect("equal")
    axes.set_title("" if names else " – ".join(labels))
    axes.set_xlabel("distance")
    axes.set_ylabel("distance")
    return image


def fill(axes: Axes, loss: pd.DataFrame, scale: LogNorm) -> Any:
    """Fill the contours of a loss, rows along v and columns along u."""
    levels = np.geomspace(cast(float, scale.vmin), cast(float, scale.vmax), 24)
    clipped = np.clip(loss.to_numpy(), levels[0], levels[-1])
    return axes.contourf(
        loss.columns, loss.index, clipped, levels, cmap=LOSSES, norm=scale, extend="max"
    )


def _end(name: str) -> str:
    """Return the end of a name that is too long for a heading."""
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def own_plane(tables: Tables, names: Sequence[str]) -> Drawn:
    """Draw the plane through three files of the user's own, on a page that it fills.

    Args:
        tables: As of a complex, with one plane.
        names: Of the files.
    """
    raster, corners = frame(tables, "plane"), frame(tables, "corners")
    scale = log_scale(raster["loss"].to_numpy())
    with style.sheet():
        tall = min(_tall(raster) * _FIELD, _TALLEST)
        height = tall + 32
        figure = style.page(height)
        wide = tall / _tall(raster)
        place = (14 / style.PAGE, 12 / height, wide / style.PAGE, tall / height)
        axes = figure.add_axes(place)
        image = draw_plane(axes, raster, corners, scale, ["1", "2", "3"])
        left = (14 + wide + 5) / style.PAGE
        loss_bar(figure, image, scale, (left, 12 / height, 3 / style.PAGE, tall / height))
        files = (f"{place}: {style.plain(_end(name))}" for place, name in enumerate(names, 1))
        words = (
            "Training loss (colour) and training error (white lines) on the plane of three files"
        )
        figure.text(14 / style.PAGE, 1 - 3 / height, words, va="top")
        figure.text(14 / style.PAGE, 1 - 8 / height, "   ".join(files), va="top")
    return Drawn(figure, raster[["u", "v", "inside", "loss", "error"]])


def _vertex(mode: float, number: float) -> str:
    """Return what names a mode or a connector."""
    return f"{'w' if mode else 'θ'}{int(number)}"


@la.figure("simplex_complex_3d", series=["simplex"])
def complex_3d(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Vertices and random points of a complex in three principal directions."""
    del chosen, load, temperature
    vertices, points = frame(tables, "vertices"), frame(tables, "points")
    edges = frame(tables, "vertex_pairs")
    with style.sheet():
        figure = style.page(105, 130)
        axes: Any = figure.add_subplot(projection="3d")
        axes.set_position((0.0, 0.02, 0.82, 0.96))
        axes.set_box_aspect(BOX)
        scale = log_scale(points["train_loss"].to_numpy())
        for _, edge in edges.iterrows():
            pair = vertices.iloc[[int(edge["from"]), int(edge["to"])]]
            axes.plot(pair["x"], pair["y"], pair["z"], color=style.GREY, linewidth=0.7)
        cloud = axes.scatter(
            points["x"],
            points["y"],
            points["z"],
            c=points["train_loss"],
            cmap=LOSSES,
            norm=scale,
            s=7,
            linewidths=0,
        )
        for kind, marker, colour in ((1, "o", "#b5382a"), (0, "^", style.INK)):
            some = vertices[vertices["mode"] == kind]
            axes.plot(some["x"], some["y"], some["z"], marker, color=colour, ms=6)
        for _, vertex in vertices.iterrows():
            label = _vertex(vertex["mode"], vertex["number"])
            side = "right" if vertex["mode"] else "left"  # neighbours of two kinds stay apart
            axes.text(vertex["x"], vertex["y"], vertex["z"], f"  {label}  ", ha=side)
        for number, (name, scale_) in enumerate(zip("xyz", _stretches(axes), strict=True), 1):
            words = f" (stretched {scale_:.2g}×)" if abs(scale_ - 1) > 0.05 else ""
            getattr(axes, f"set_{name}label")(f"direction {number}{words}")
            axes.locator_params(name, nbins=5)
        axes.view_init(22, -60)
        marks = [
            (Line2D([], [], marker="o", linestyle="", color="#b5382a"), "mode"),
            (Line2D([], [], marker="^", linestyle="", color=style.INK), "connector"),
        ]
        figure.legend(*zip(*marks, strict=True), loc="upper right")
        loss_bar(figure, cloud, scale, (0.87, 0.25, 0.022, 0.45))
        figure.text(0.02, 0.975, experiment(tables), va="top")
    kinds = np.where(vertices["mode"] == 1, "mode", "connector")
    shown = vertices.assign(kind=kinds)[["kind", "number", "x", "y", "z"]]
    dots = points.assign(kind="point", number=np.arange(len(points)))
    columns = ["kind", "number", "x", "y", "z", "train_loss"]
    return Drawn(figure, pd.concat([shown, dots], ignore_index=True).reindex(columns=columns))


def _stretches(axes: Any) -> list[float]:
    """Return how many times longer than along the first axis a length is drawn along each."""
    limits = (axes.get_xlim(), axes.get_ylim(), axes.get_zlim())
    scales = [side / (high - low) for side, (low, high) in zip(BOX, limits, strict=True)]
    return [one / scales[0] for one in scales]


def _over_pairs(
    run: pd.DataFrame, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return connectors, mean over pairs, and the ends of its interval; of heights geometric."""
    wide = run.pivot_table(index="connectors", columns="pair", values=name)
    values = wide.to_numpy(float)
    logarithm = name == "height" and bool((values[np.isfinite(values)] > 0).all())
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = [row[np.isfinite(row)] for row in (np.log(values) if logarithm else values)]
    over = [uncertainty.mean(row) for row in rows]
    y = np.array([one.value for one in over])
    half = uncertainty.half_width([one.stderr for one in over], [one.df for one in over])
    ends = (y, y - half, y + half)
    low_mid_high = tuple(np.exp(one) for one in ends) if logarithm else ends
    return wide.index.to_numpy(), *low_mid_high


WAYS = {2: "paper", 1: "fixed, V² + 10⁻⁴", 0: "fixed"}


@la.figure("simplex_volume", series=["simplex_volume"])
def volume(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Volume, height and loss against the number of connectors, in three ways.

    Means over pairs of replicas that share none, with 95% intervals.
    """
    del chosen, load, temperature
    table = frame(tables, "volume")
    table = table[table["simplex"] == 0].assign(
        log10_squared_volume=lambda t: 2 * t["log_volume"] / math.log(10)
    )
    rows = {
        "log10_squared_volume": "log₁₀ V²",
        "height": "height of the newest vertex",
        "train_loss": "training loss inside (nats)",
    }
    strengths = sorted(table["regularisation"].unique())
    colours = colormaps["viridis"](np.linspace(0, 0.85, len(strengths)))
    with style.sheet():
        figure = style.page(150)
        panels = figure.subplots(len(rows), len(WAYS), sharex=True, sharey="row")
        for column, (way, title) in enumerate(WAYS.items()):
            panels[0, column].set_title(title)
            panels[0, column].axhline(-4, color=style.GREY, linewidth=0.6, linestyle=":")
            panels[-1, column].set_xlabel("connectors")
            for colour, strength in zip(colours, strengths, strict=True):
                run = table[(table["way"] == way) & (table["regularisation"] == strength)]
                for row, name in enumerate(rows):
                    axes = panels[row, column]
                    width = 1.0 if strength else 2.5  # what lies on top of it stays visible
                    x, y, low, high = _over_pairs(run, name)
                    axes.plot(x, y, ".-", color=colour, lw=width, ms=4)
                    axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
        for row, words in enumerate(rows.values()):
            panels[row, 0].set_ylabel(words)
        panels[0, 0].xaxis.set_major_locator(MaxNLocator(7, integer=True))
        panels[1, 0].set_yscale("log")
        panels[0, 0].annotate("10⁻⁴", (1, -4), (0, 2), textcoords="offset points")
        lines = [Line2D([], [], color=colour) for colour in colours]
        words_ = [f"strength {style.spell_axis(s)}" for s in strengths]
        figure.legend(lines, words_, loc="upper center", ncols=len(lines))
        figure.text(0.085, 0.955, experiment(tables), va="bottom")
        figure.subplots_adjust(0.105, 0.07, 0.98, 0.9, wspace=0.08, hspace=0.12)
    named = table.assign(way=[WAYS[int(way)] for way in table["way"]])
    columns = ["pair", "way", "regularisation", "strength", "connectors", *rows]
    columns += ["least_singular_value", "edge"]
    return Drawn(figure, named[columns].reset_index(drop=True))
