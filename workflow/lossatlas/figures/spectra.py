"""Spectra of the Hessian over the grid."""

from __future__ import annotations

from typing import cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import lossatlas as la
from lossatlas.figures import Drawn, Tables, spectrum, style
from lossatlas.figures.grid import grid_of
from lossatlas.figures.multiples import key, mark, places, series, sheet_of
from lossatlas.spec.figures import Figure as Style

LOOK = {"above x": style.INK, "below −x": "#d75d9a"}


@la.figure(
    "taxonomy_spectra", scalars=["hessian"], series=["hessian"], axes=["load", "temperature"]
)
def spectra(tables: Tables, chosen: Style, load: str, temperature: str) -> Drawn:
    """Which share of the Hessian's eigenvalues lies beyond x, over the grid, and how surely.

    Args:
        tables: Series `hessian_ritz` of the Hessian. Its scalars, if given, tell which cells
            diverged.
        chosen: Not needed; all figures are called alike.
        load: Name of the axis to the right.
        temperature: Name of the axis upwards.

    Returns:
        The picture, and load, temperature, quantity (a weight, or the share of the eigenvalues
        above x or below -x), replica, probe, x, y, and the ends low and high of the interval of x.

    Raises:
        UserError: If the tables do not span the two axes, or hold no such series.
    """
    del chosen
    fix = "let 'hessian' have density_probes: 1 or more, and run it again"
    rows = series(tables, spectrum.RITZ, fix)
    grid = grid_of(places(tables), load, temperature)
    floor, widest = spectrum.least(rows), spectrum.largest(rows)
    numbers = []
    with style.sheet():
        figure, panels = sheet_of(grid, "x: modulus of the eigenvalue", "share of the eigenvalues")
        for name, part in rows.groupby([load, temperature], sort=False):
            place = cast("tuple[float, float]", name)
            drawn = spectrum.draw(panels[place], part, floor, LOOK, list(LOOK))
            numbers.append(drawn.assign(load=place[0], temperature=place[1]))
            _below_zero(panels[place], part)
        for axes in panels.values():
            spectrum.scales(axes, widest, floor)
        marks = mark(panels, tables, rows, load, temperature)
        key(figure, entries(), marks)
    columns = ["load", "temperature", "quantity", "replica", "probe", "x", "y", "low", "high"]
    whole = pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame()
    return Drawn(figure, whole.reindex(columns=columns))


def _below_zero(axes: Axes, rows: pd.DataFrame) -> None:
    """Write the share of negative eigenvalues where quadratures tell it."""
    if words := spectrum.below_zero(rows):
        axes.text(0.04, 0.04, words, transform=axes.transAxes, gid="below zero")


def entries() -> list[tuple[Line2D | Patch, str]]:
    """Return the key of a spectrum."""
    above, below = LOOK.values()
    dot = {"linestyle": "", "marker": "o", "markersize": 3.0}
    return [
        (Line2D([], [], color=above), "share above x"),
        (Line2D([], [], color=below, linestyle="--"), "share below −x"),
        (Patch(facecolor=style.GREY, alpha=0.3, linewidth=0), "95% interval"),
        (Line2D([], [], color=above, **dot), "weights at x"),  # type: ignore[arg-type]
        (Line2D([], [], color=below, mfc="white", **dot), "at −x"),  # type: ignore[arg-type]
    ]
