"""Double descent: the test error along load and along temperature, with what moves beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import lossatlas as la
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.grid import COLD_AXES, Axis, Grid, grid_of
from lossatlas.spec.figures import Figure as Style
from lossatlas.tables.collect import cell_summary

_MOST = 5  # lines in a panel: values of the other axis, evenly chosen
# Millimetres: first corner, panel, distances, height of the page.
_CORNER, _SIZE, _PITCH, _HEIGHT = (16.0, 12.0), (60.0, 40.0), (88.0, 49.0), 160.0
_ROWS = (
    ("test_error", "test error (%)"),
    ("train_loss", "training loss (nats)"),
    ("log_hessian_trace", "ln tr H"),
)


@la.figure(
    "taxonomy_double_descent", scalars=["performance", "hessian"], axes=["load", "temperature"]
)
def double_descent(tables: Tables, chosen: Style, load: str, temperature: str) -> Drawn:
    """Test error, training loss and Hessian trace along load and along temperature.

    Args:
        tables: Scalars of performance and Hessian.
        chosen: Not needed; all figures are called alike.
        load: Name of the axis to the right in the left column; lines there are temperatures.
        temperature: Name of the axis to the right in the right column; lines there are loads.

    Returns:
        The picture, and quantity, load, temperature, value, stderr, df, stderr_status, status of
        each cell; the quantity `test_error` is 100 less the test accuracy.

    Raises:
        UserError: If the tables do not span the two axes.
    """
    del chosen
    grid = grid_of(tables.scalars, load, temperature)
    found = _quantities(cell_summary(tables.scalars))
    with style.sheet():
        figure = style.page(_HEIGHT)
        for column, (along, by) in enumerate(
            ((grid.load, grid.temperature), (grid.temperature, grid.load))
        ):
            chosen_values = _spread(by)
            looks = _looks(by, chosen_values)
            for row, (name, words) in enumerate(_ROWS):
                axes = _panel(figure, row, column)
                rows = found[found["quantity"] == name]
                for value in chosen_values:
                    _line(axes, along, rows[rows[by.name] == value], looks[value])
                _scales(axes, along, rows, name, words if column == 0 else "", last=row == 2)
            _key(figure, column, by, looks)
        _marks(figure, grid, found)
    names = {load: "load", temperature: "temperature"}
    columns = ["quantity", "load", "temperature", "value", "stderr", "df", "stderr_status"]
    return Drawn(figure, found.rename(columns=names)[[*columns, "status"]].reset_index(drop=True))


def _quantities(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are drawn, the accuracy as an error."""
    found = summary.rename(columns={"metric": "quantity"})
    accuracy = found["quantity"] == "test_accuracy"
    found.loc[accuracy, "value"] = 100 - found.loc[accuracy, "value"]
    found.loc[accuracy, "quantity"] = "test_error"
    return found[found["quantity"].isin([name for name, _ in _ROWS])]


def _spread(axis: Axis) -> list[float]:
    """Return a few values of an axis, evenly chosen, both ends among them."""
    places = np.linspace(0, len(axis.values) - 1, min(_MOST, len(axis.values)))
    return [float(axis.values[k]) for k in np.unique(np.round(places).astype(int))]


def _looks(axis: Axis, values: list[float]) -> dict[float, dict[str, Any]]:
    """Return value -> colour and marker: hot is light for temperatures, large for loads."""
    shades = colormaps["plasma"](np.linspace(0.05, 0.85, max(len(values), 2)))
    ordered = values[::-1] if axis.name in COLD_AXES else values
    markers = "osD^v"
    return {value: {"color": shades[k], "marker": markers[k]} for k, value in enumerate(ordered)}


def _panel(figure: Figure, row: int, column: int) -> Axes:
    x = _CORNER[0] + column * _PITCH[0]
    y = _CORNER[1] + (2 - row) * _PITCH[1]
    place = (x / style.PAGE, y / _HEIGHT, _SIZE[0] / style.PAGE, _SIZE[1] / _HEIGHT)
    axes = figure.add_axes(place)
    axes.set_title(rf"$\mathbf{{{'abcdef'[2 * row + column]}}}$")
    return axes


def _line(axes: Axes, along: Axis, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    """Draw a line with standard errors; numbers that are absent leave gaps, with a cross below."""
    at = dict(zip(along.values.tolist(), along.centres.tolist(), strict=True))
    rows = rows.set_index(along.name).reindex(along.values).reset_index()
    x = rows[along.name].map(at).to_numpy(float)
    y = rows["value"].to_numpy(float)
    axes.errorbar(
        x,
        y,
        rows["stderr"].fillna(0).to_numpy(float),
        linewidth=0.9,
        markersize=2.5,
        elinewidth=0.6,
        capsize=1.2,
        gid="line",
        **look,
    )
    rough = (rows["status"] == "unconverged").to_numpy() & np.isfinite(y)
    hollow: dict[str, Any] = {
        "linestyle": "",
        "markersize": 4.5,
        "fillstyle": "none",
        "gid": "unconverged",
    }
    if rough.any():
        axes.plot(
            x[rough], y[rough], marker="o", color=look["color"], markeredgewidth=0.6, **hollow
        )
    gone = x[np.isnan(y)]
    below: dict[str, Any] = {
        "transform": axes.get_xaxis_transform(),
        "clip_on": False,
        "gid": "absent",
    }
    if len(gone):
        axes.plot(gone, np.full(len(gone), 0.03), "x", color=look["color"], markersize=3, **below)


def _scales(
    axes: Axes, along: Axis, rows: pd.DataFrame, name: str, words: str, *, last: bool
) -> None:
    """Set the ticks at values of the axis, hot to the right, and a scale of values for all."""
    kept = along.labelled(_SIZE[0], upright=False)
    labels = [style.spell_axis(along.values[k]) for k in kept]
    axes.set_xticks(along.centres[kept], labels)
    axes.set_xticks(np.delete(along.centres, kept), minor=True)
    axes.set_xlim(along.edges[0], along.edges[-1])
    if along.name in COLD_AXES:
        axes.invert_xaxis()
    axes.tick_params(labelbottom=last)
    if last:
        upwards = axes.get_position().x0 > 0.5  # in phase diagrams
        axes.set_xlabel((style.hot_label if upwards else style.axis_label)(along.name))
    axes.set_ylabel(words)
    numbers = rows["value"].to_numpy(float)
    numbers = numbers[np.isfinite(numbers)]
    positive = name == "train_loss" and numbers.min(initial=1) > 0
    if positive and numbers.max(initial=0) > 10 * numbers.min(initial=np.inf):
        axes.set_yscale("log")
    if not len(numbers):
        axes.text(0.5, 0.5, "no number", transform=axes.transAxes, ha="center", color=style.GREY)


def _key(figure: Figure, column: int, by: Axis, looks: dict[float, dict[str, Any]]) -> None:
    """Name the lines of a column, beside its first panel."""
    handles = [Line2D([], [], markersize=3, **look) for look in looks.values()]
    x = (_CORNER[0] + column * _PITCH[0] + _SIZE[0] + 0.5) / style.PAGE
    y = (_CORNER[1] + 2 * _PITCH[1] + _SIZE[1] + 1) / _HEIGHT
    figure.legend(
        handles,
        [style.spell_axis(value) for value in looks],
        title=style.axis_label(by.name).replace(" of the training ", "\nof the\ntraining "),
        loc="upper left",
        bbox_to_anchor=(x, y),
        borderaxespad=0,
        handlelength=1.6,
        alignment="left",
    )


def _marks(figure: Figure, grid: Grid, found: pd.DataFrame) -> None:
    """Say what crosses and rings mean, where there are some."""
    entries: list[tuple[Any, str]] = []
    grey: dict[str, Any] = {"color": style.GREY, "linestyle": ""}
    if found["value"].isna().any() or len(found) < len(_ROWS) * np.prod(grid.shape):
        entries.append((Line2D([], [], marker="x", markersize=3, **grey), "no number"))
    if (found["status"] == "unconverged").any():
        ring = Line2D([], [], marker="o", fillstyle="none", markersize=4.5, **grey)
        entries.append((ring, "some numbers did not converge"))
    if found["stderr"].notna().any():
        bar = Line2D([], [], marker="|", markersize=6, **grey)
        entries.append((bar, "standard error over replicas"))
    if entries:
        handles, words = zip(*entries, strict=True)
        figure.legend(handles, words, loc="upper center", ncols=3, borderaxespad=0.2)
