"""Pictures of a complex: planes through its vertices, its projection, its volume."""

from __future__ import annotations

import math
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
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.frames import experiment, frame, frames
from lossatlas.spec.figures import Figure as Chosen

LOSS = "training loss (nats)"
LOSSES = "viridis"
_TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
BOX = (4, 4, 3)  # sides of what is drawn in three directions
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
        rows = math.ceil(len(names) / 2)
        figure = style.page(14 + 48 * rows)
        panels = figure.subplots(rows, min(len(names), 2), squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            image = draw_plane(axes, rasters[name], corners[name], scale)
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        figure.subplots_adjust(0.07, 0.09, 0.88, 0.95, wspace=0.2, hspace=0.3)
        loss_bar(figure, image, scale, (0.91, 0.25, 0.018, 0.5))
        style.head(figure, experiment(tables))
    columns = ["u", "v", "inside", "loss", "error"]
    parts = [rasters[name][["plane", *columns]] for name in names]
    return Drawn(figure, pd.concat(parts, ignore_index=True))


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


def draw_plane(axes: Axes, raster: pd.DataFrame, corners: pd.DataFrame, scale: LogNorm) -> Any:
    """Draw one plane; distances on paper are proportional to those in parameter space."""
    wide = raster.pivot(index="v", columns="u", values="loss")
    image = fill(axes, wide, scale)
    error = raster.pivot(index="v", columns="u", values="error").to_numpy()
    low, high = error.min(), error.max()
    if np.isnan(error).any() and not np.isnan(error).all():
        low, high = np.nanmin(error), np.nanmax(error)
    lines = [level for level in (2, 10, 50) if low < level < high]
    if lines:
        marks = axes.contour(wide.columns, wide.index, error, lines, colors="white", linewidths=0.6)
        axes.clabel(marks, fmt="%g%%", fontsize=6)
    around = corners.iloc[[0, 1, 2, 0]]
    axes.plot(around["u"], around["v"], color="white", linewidth=1.2)
    labels = [_vertex(*row) for row in zip(corners["mode"], corners["number"], strict=True)]
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
            fontsize=6.5,
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
        )
    axes.set_aspect("equal")
    axes.set_title(" – ".join(labels))
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
        axes.set_position((-0.04, 0.02, 0.84, 0.98))
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
            axes.text(vertex["x"], vertex["y"], vertex["z"], f"  {label}  ", ha=side, fontsize=7)
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


WAYS = {2: "paper", 1: "fixed, V² + 10⁻⁴", 0: "fixed"}


@la.figure("simplex_volume", series=["simplex_volume"])
def volume(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Volume, height and loss against the number of connectors, in three ways.

    Means over pairs of replicas, and the range between them.
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
                over = run.groupby("connectors")[list(rows)]
                mean, low, high = over.mean(), over.min(), over.max()
                for row, name in enumerate(rows):
                    axes = panels[row, column]
                    width = 1.0 if strength else 2.5  # what lies on top of it stays visible
                    axes.plot(mean.index, mean[name], ".-", color=colour, lw=width, ms=4)
                    axes.fill_between(
                        mean.index, low[name], high[name], color=colour, alpha=0.2, lw=0
                    )
        for row, words in enumerate(rows.values()):
            panels[row, 0].set_ylabel(words)
        panels[0, 0].xaxis.set_major_locator(MaxNLocator(7, integer=True))
        panels[1, 0].set_yscale("log")
        panels[0, 0].annotate("10⁻⁴", (1, -4), (0, 2), textcoords="offset points", fontsize=6)
        lines = [Line2D([], [], color=colour) for colour in colours]
        words_ = [f"strength {style.spell_axis(s)}" for s in strengths]
        figure.legend(lines, words_, loc="upper center", ncols=len(lines))
        style.head(figure, experiment(tables))
        figure.subplots_adjust(0.08, 0.07, 0.98, 0.91, wspace=0.06, hspace=0.1)
    named = table.assign(way=[WAYS[int(way)] for way in table["way"]])
    columns = ["pair", "way", "regularisation", "strength", "connectors", *rows]
    columns += ["least_singular_value", "edge"]
    return Drawn(figure, named[columns].reset_index(drop=True))
