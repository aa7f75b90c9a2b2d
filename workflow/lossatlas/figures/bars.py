"""Colour bars beside tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from lossatlas.figures import style
from lossatlas.figures.grid import Floats

_ARROW = 0.05  # length of an arrow, of the bar's
_GAP = 5.5  # points from the bar to its unit: the lowest tick's label reaches below the bar


def colour_bar(
    figure: Figure, mesh: ScalarMappable, beside: Axes, values: Floats, unit: str
) -> None:
    """Draw the colour bar of some tiles, with arrows where values lie beyond its colours.

    Args:
        figure: The page.
        mesh: The tiles.
        beside: Where the bar stands; its arrows stay inside.
        values: What is drawn; NaN is left out.
        unit: Under the bar.
    """
    norm = mesh.norm
    finite = values[np.isfinite(values)]
    shares = np.asarray(norm(finite), dtype=float)
    beyond = bool((shares < 0).any()), bool((shares > 1).any())
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    _keep_inside(beside, *beyond)
    bar = figure.colorbar(mesh, cax=beside, extend=extend.get(beyond, "both"), extendfrac=_ARROW)
    if isinstance(norm, CenteredNorm) and finite.any():
        reach = norm.halfrange
        beside.set_ylim(max(finite.min(initial=0), -reach), min(finite.max(initial=0), reach))
    bar.locator = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3)
    if isinstance(norm, LogNorm):
        steps = (1.0,) if finite.max() > 30 * finite.min() else (1.0, 2.0, 5.0)
        bar.locator = LogLocator(subs=steps)
        bar.formatter = FuncFormatter(lambda value, _: style.spell_axis(value))
    bar.update_ticks()
    bar.minorticks_off()
    look: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    lowest = -_ARROW if beyond[0] else 0.0  # below an arrow, if there is one
    beside.annotate(unit, (0, lowest), (0, -_GAP), va="top", ha="left", **look).set_gid("unit")
    bar.outline.set_linewidth(0.5)


def _keep_inside(beside: Axes, below: bool, above: bool) -> None:
    """Shorten the bar by its arrows, which are drawn outside of it, where labels stand."""
    box = beside.get_position()
    length = box.height / (1 + _ARROW * (below + above))
    beside.set_position((box.x0, box.y0 + below * _ARROW * length, box.width, length))
