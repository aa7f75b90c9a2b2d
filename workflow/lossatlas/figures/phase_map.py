"""The phase of every cell, and the transitions between phases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import lossatlas as la
from lossatlas.figures import Drawn, Tables, style, tiles
from lossatlas.figures.grid import Floats, Grid, grid_of
from lossatlas.spec.figures import Figure as Style
from lossatlas.spec.figures import Thresholds
from lossatlas.tables.collect import cell_summary
from lossatlas.tables.phases import PHASES
from lossatlas.tables.phases import phases as label

_ROOM, _HEIGHT = (104.0, 76.0), 90.0  # mm: width and height of the map, height of the page
_BESIDE = ["log_hessian_trace", "mode_connectivity", "cka", "test_accuracy"]
# Line -> group of each phase (tiles of different groups are parted), and its strokes.
_TRANSITIONS: dict[str, tuple[tuple[str | None, ...], tuple[dict[str, Any], ...]]] = {
    "crossover": (
        (None, None, None, "A", "B"),
        ({"colors": style.INK, "linewidths": 0.8, "linestyles": (0, (1, 1.5))},),
    ),
    "hessian": (
        ("sharp", "sharp", "flat", "flat", "flat"),
        (
            {"colors": "white", "linewidths": 3.4, "linestyles": "-"},
            {"colors": "black", "linewidths": 2.4, "linestyles": "-"},
        ),
    ),
    "connectivity": (
        ("poor", "well", "poor", "well", "well"),
        (
            {"colors": "white", "linewidths": 1.3, "linestyles": "-"},
            {"colors": "black", "linewidths": 1.1, "linestyles": (0, (3, 1.5))},
        ),
    ),
}


@la.figure("taxonomy_phases", scalars=["performance", "hessian", "connectivity", "cka"])
@la.figure(
    "taxonomy_reference_phases",
    about="The phases of the results that Yang et al. (2021) published.",
    scalars=["performance", "hessian", "connectivity", "cka"],
    reference=True,
)
def phases(tables: Tables, chosen: Style, load: str, temperature: str) -> Drawn:
    """The phase of every cell: I, II, III, IV-A or IV-B, with the boundaries.

    Args:
        tables: Scalars of performance, Hessian, connectivity and CKA.
        chosen: Where the thresholds come from.
        load: Name of the axis to the right.
        temperature: Name of the axis upwards.

    Returns:
        The picture, and for each cell its phase and the four numbers that tell of it.

    Raises:
        UserError: If the tables do not span the two axes.
    """
    grid = grid_of(tables.scalars, load, temperature)
    numbers = _phase_numbers(tables.scalars, chosen.thresholds, load, temperature)
    named = numbers.rename(columns={"load": load, "temperature": temperature})
    named["index"] = [PHASES.index(p) if p else np.nan for p in named["phase"]]
    index = grid.matrix(named, "index")
    with style.sheet():
        figure = style.page(_HEIGHT)
        axes, key = _place(figure, 16.0, _ROOM[0]), _place(figure, 22.0 + _ROOM[0], 50.0)
        tiles.frame(axes, grid, _ROOM)
        colours = ListedColormap([style.PHASE_COLOURS[phase] for phase in PHASES])
        norm = Normalize(-0.5, len(PHASES) - 0.5)
        inks = style.inks(index, colours, norm)
        mesh = tiles.fill(axes, grid, index, colours, norm)
        tiles.mark(axes, grid, named, index, inks)
        _name_tiles(axes, grid, mesh, index, inks)
        if grid.roomy:
            accuracy = grid.matrix(named, "test_accuracy")
            _add_accuracy(axes, grid, mesh, index, accuracy, inks)
        _transitions(axes, grid, index)
        _phase_key(key, chosen.thresholds, numbers)
    return Drawn(figure, numbers.drop(columns="diverged"))


def _phase_numbers(
    scalars: pd.DataFrame, thresholds: Thresholds, load: str, temperature: str
) -> pd.DataFrame:
    """Return load, temperature, phase, its numbers, status and the count of diverged replicas."""
    summary = cell_summary(scalars)
    wide = summary.pivot(index="cell", columns="metric", values="value").reindex(columns=_BESIDE)
    cells = label(summary, thresholds).set_index("cell").join(wide)
    cells["diverged"] = summary.groupby("cell")["diverged"].max()
    cells = cells.rename(columns={load: "load", temperature: "temperature"})
    columns = ["load", "temperature", "phase", *_BESIDE, "status", "diverged"]
    return cells[columns].reset_index(drop=True)


def _place(figure: Figure, left: float, width: float) -> Axes:
    """Return axes that begin and are as wide as so many millimetres."""
    bottom, height = 10 / _HEIGHT, _ROOM[1] / _HEIGHT
    return figure.add_axes((left / style.PAGE, bottom, width / style.PAGE, height))


def _name_tiles(axes: Axes, grid: Grid, mesh: QuadMesh, index: Floats, inks: tiles.Inks) -> None:
    """Write each tile's phase."""
    size = 10 if grid.roomy else 5.5
    for i, j in np.argwhere(np.isfinite(index)):
        words = PHASES[int(index[i, j])]
        look: dict[str, Any] = {"color": inks[i, j], "ha": "center", "va": "center"}
        if grid.roomy:
            look["bbox"] = tiles.plate(mesh, index[i, j])
        place = grid.load.middles[j], grid.temperature.middles[i]
        axes.text(*place, words, fontsize=size, family="DejaVu Serif", **look)


def _add_accuracy(
    axes: Axes, grid: Grid, mesh: QuadMesh, index: Floats, accuracy: Floats, inks: tiles.Inks
) -> None:
    """Write the test accuracy under each tile's phase."""
    for i, j in np.argwhere(np.isfinite(accuracy) & np.isfinite(index)):
        look: dict[str, Any] = {"color": inks[i, j], "ha": "center", "va": "center"}
        place = grid.load.middles[j], grid.temperature.middles[i]
        axes.annotate(
            f"{style.spell(accuracy[i, j])} %",
            place,
            (0, -11),
            textcoords="offset points",
            bbox=tiles.plate(mesh, index[i, j]),
            **look,
        )


def _transitions(axes: Axes, grid: Grid, index: Floats) -> None:
    """Draw both transitions and the crossover between the tiles that they part."""
    for name, (groups, looks) in _TRANSITIONS.items():
        group = np.full(index.shape, None, dtype=object)
        for i, j in np.argwhere(np.isfinite(index)):
            group[i, j] = groups[int(index[i, j])]
        for look in looks:
            tiles.parted(axes, grid, group, name, **look)


def _phase_key(axes: Axes, limits: Thresholds, numbers: pd.DataFrame) -> None:
    """Name the phases, the lines and the thresholds."""
    axes.set_axis_off()
    words = (
        "I  sharp, poorly connected",
        "II  sharp, connected",
        "III  flat, poorly connected",
        "IV-A  flat, connected, less similar",
        "IV-B  flat, connected, similar",
    )
    swatches = [
        Patch(facecolor=style.PHASE_COLOURS[phase], edgecolor=style.INK, linewidth=0.4)
        for phase in PHASES
    ]
    marks: list[tuple[Any, str]] = []
    if (numbers["diverged"] > 0).any():
        marks.append((style.hatched(), "replicas diverged"))
    if (numbers["phase"] == "").any():
        marks.append((style.cross(), "no phase: a number is absent"))
    first = axes.legend(
        [*swatches, *(handle for handle, _ in marks)],
        [*words, *(text for _, text in marks)],
        loc="upper left",
        title="Phases",
        alignment="left",
        borderaxespad=0,
    )
    axes.add_artist(first)
    named = {
        "hessian": f"Hessian: ln tr H = {limits.log_hessian_trace:g}",
        "connectivity": f"connectivity: {limits.mode_connectivity:g} points",
        "crossover": f"crossover: CKA = {limits.cka:g}",
    }
    lines = [
        tuple(Line2D([], [], **_line(look)) for look in _TRANSITIONS[name][1]) for name in named
    ]
    axes.legend(
        lines,
        list(named.values()),
        loc="lower left",
        title="Transitions",
        alignment="left",
        borderaxespad=0,
        handlelength=4,
    )


def _line(look: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "color": look["colors"],
        "linewidth": look["linewidths"],
        "linestyle": look["linestyles"],
    }
