"""Pictures of results, in the style of the figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lossatlas.errors import UserTypeError
from lossatlas.figures import Tables, multiples, simplex_landscape, style
from lossatlas.figures import spectrum as spectra
from lossatlas.figures.spectra import LOOK, entries
from lossatlas.spec.figures import Figure as Style
from lossatlas.tables import collect

if TYPE_CHECKING:
    from lossatlas.notebook.results import Result

_SIZE = (85.0, 60.0)  # mm: width and height of a picture of one panel
_SQUARE = (85.0, 70.0)  # mm: one with a colour bar
_LINES = {"before": "as they are", "after": "units matched"}  # of straight lines
_COLOURS = (multiples.BLUE, multiples.ORANGE, style.GREY)


@contextmanager
def _panel(axes: Any, *, bar: bool = False) -> Iterator[Axes]:
    """Give the axes to draw on, new ones where there are none, in the style of the figures.

    Args:
        axes: The user's own, or None.
        bar: Whether a colour bar will stand beside them.

    Raises:
        UserError: If they are no axes.
    """
    if axes is not None and not isinstance(axes, Axes):
        what = f"is a {type(axes).__name__}"
        raise UserTypeError(what, where="axes", fix="give an Axes, as of plt.subplots()")
    with style.sheet():
        if axes is None:
            size = [side * style.MM for side in (_SQUARE if bar else _SIZE)]
            figure, axes = plt.subplots(figsize=size, layout=None if bar else "constrained")
            if bar:
                figure.subplots_adjust(0.15, 0.14, 0.8, 0.92)
            axes.set_prop_cycle(color=_COLOURS)
        yield axes


def spectrum(result: Result, axes: Axes | None) -> Axes:
    """Draw which share of the Hessian's eigenvalues lies beyond x, and mark the largest ones."""
    rows = result.curves
    rows = rows[rows["series"] == spectra.RITZ]
    unit = next((row.unit for row in result.record.scalars), "")
    floor = spectra.least(rows)
    with _panel(axes) as panel:
        spectra.draw(panel, rows, floor, LOOK, list(LOOK))
        spectra.scales(panel, spectra.largest(rows), floor)
        _ticks(result, panel)
        panel.set_xlabel(f"x: modulus of the eigenvalue{f' ({unit})' if unit else ''}")
        panel.set_ylabel("share of the eigenvalues")
        mark = Line2D([], [], marker="|", linestyle="", color=style.INK, ms=7, mew=1.5)
        keys = [*entries(), (mark, "largest eigenvalues")]
        panel.legend(*zip(*keys, strict=True), loc="lower left")
    return panel


def _ticks(result: Result, panel: Axes) -> None:
    """Mark the moduli of the eigenvalues that converged at the upper edge."""
    found = [
        abs(row.value)
        for row in result.record.scalars
        if row.name.startswith("hessian_eigenvalue") and row.status == "ok"
    ]
    place, height = panel.get_xaxis_transform(), [0.96] * len(found)
    panel.plot(found, height, "|", color=style.INK, transform=place, ms=9, mew=1.5)


def paths(result: Result, axes: Axes | None) -> Axes:
    """Draw error, or loss where errors are not counted, along the curve and the straight line."""
    rows = result.curves
    known = set(rows["series"])
    measured = "train_error" if "train_error" in known else "train_loss"
    with _panel(axes) as panel:
        for path, some in rows[rows["series"] == measured].groupby("path", sort=False):
            words = _LINES.get(str(path)) or multiples.path_words(str(path))
            look = multiples.path_look(multiples.STRAIGHT if path == "before" else str(path))
            panel.plot(some["x"], some["y"], label=words, **look)
        panel.set_xlabel("place t on the path")
        unit = next((one.y_unit for one in result.record.series if one.name == measured), "")
        words = measured.replace("train_", "training ")
        panel.set_ylabel(f"{words} ({'%' if unit == 'percent' else unit})" if unit else words)
        panel.legend()
    return panel


def pairs(result: Result, axes: Axes | None) -> Axes:
    """Draw CKA of every two models as tiles with their numbers."""
    frame = result.to_pandas()
    rows = frame[frame["metric"] == "cka"]
    count = int(rows["partner"].max()) + 1
    values = np.full((count, count), np.nan)
    for _, row in rows.iterrows():
        values[row["replica"], row["partner"]] = values[row["partner"], row["replica"]] = row[
            "value"
        ]
    panels = {panel.metric: panel for panel in style.PANELS}
    colours = style.colour_map(panels["cka"])
    with _panel(axes, bar=True) as panel:
        scale = style.norm(panels["cka"], values, "data")
        image = panel.imshow(values, cmap=colours, norm=scale)
        inks = style.inks(values, colours, scale)
        for i, j in np.argwhere(np.isfinite(values)):
            words = style.spell(values[i, j])
            panel.text(j, i, words, color=inks[i, j], ha="center", va="center")
        panel.set_xticks(range(count))
        panel.set_yticks(range(count))
        panel.set_xlabel("model")
        panel.set_ylabel("model")
        panel.set_title(panels["cka"].title)
        _bar(panel, image)
    return panel


def displacement(result: Result, axes: Axes | None) -> Axes:
    """Draw the mean squared displacement over the lag, with errors, and the range of the fit."""
    rows = result.curves
    names = {"msd": "weights", "still_msd": "without drift", "surrogate_msd": "reordered steps"}
    with _panel(axes) as panel:
        for name, words in names.items():
            some = rows[(rows["series"] == name) & (rows["y"] > 0)]
            (line,) = panel.plot(some["x"], some["y"], label=words)
            if "stderr" in some and some["stderr"].notna().any():
                low = (some["y"] - some["stderr"]).clip(lower=some["y"] / 10)
                high = some["y"] + some["stderr"]
                panel.fill_between(some["x"], low, high, color=line.get_color(), alpha=0.2, lw=0)
        first, last = result.record.settings["fit"]
        panel.axvspan(first, last, color=style.MISSING, alpha=0.4, zorder=0, lw=0)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("lag (steps); grey: range of the exponent")
        panel.set_ylabel("mean squared displacement")
        panel.set_title(f"exponent {result['exponent']!r}")
        panel.legend()
    return panel


def square(result: Result, axes: Axes | None) -> Axes:
    """Draw the loss over a square around one network."""
    wide = result.curves.pivot(index="v", columns="u", values="loss")
    with _panel(axes, bar=True) as panel:
        scale = simplex_landscape.log_scale(wide.to_numpy())
        image = simplex_landscape.fill(panel, wide, scale)
        panel.plot(0, 0, "o", color="white", mec=style.INK, ms=5)
        panel.set_aspect("equal")
        panel.set_xlabel("first direction, in lengths of the filters")
        panel.set_ylabel("second direction")
        simplex_landscape.label_bar(_bar(panel, image), scale, _loss(result))
    return panel


def triangle(result: Result, axes: Axes | None) -> Axes:
    """Draw the plane through three networks."""
    rows = result.curves
    raster, corners = (rows[rows["series"] == name] for name in ("plane", "corners"))
    with _panel(axes, bar=True) as panel:
        scale = simplex_landscape.log_scale(raster["loss"].to_numpy())
        image = simplex_landscape.draw_plane(panel, raster, corners, scale)
        simplex_landscape.label_bar(_bar(panel, image), scale, _loss(result))
    return panel


def _bar(panel: Axes, image: Any) -> Any:
    """Add a colour bar as high as the panel."""
    return panel.figure.colorbar(image, cax=panel.inset_axes((1.04, 0.0, 0.05, 1.0)))


def _loss(result: Result) -> str:
    unit = result.record.scalars[0].unit
    return f"training loss ({unit})" if unit else "training loss"


def planes(result: Result, axes: Axes | None) -> Figure:
    """Draw planes of a complex.

    Raises:
        UserError: If axes are given: several planes take a figure of their own.
    """
    if axes is not None:
        what = "draws a figure of its own"
        raise UserTypeError(what, where="axes", fix="leave them out")
    name, record = result.record.kind, result.record
    tables = Tables(
        collect.scalar_frame(name, {name: {}}, {name: record.scalars}),
        collect.series_frame(name, {name: {}}, {name: [*record.series, *record.tables]}),
    )
    drawn = simplex_landscape.planes(tables, Style(draws="simplex_planes"), "", "")
    drawn.figure.axes[-1].set_ylabel(_loss(result))
    return drawn.figure
