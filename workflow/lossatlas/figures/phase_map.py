"""The phase of every cell, and the transitions between phases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import lossatlas as la
from lossatlas.figures import Drawn, Tables, style, tiles
from lossatlas.figures.grid import Floats, Grid, grid_of
from lossatlas.reference import taxonomy_tables
from lossatlas.spec.figures import Figure as Style
from lossatlas.spec.figures import Thresholds
from lossatlas.tables.collect import cell_summary
from lossatlas.tables.phases import PHASES, PROBABILITIES, flat_limit
from lossatlas.tables.phases import phases as label

_ROOM, _HEIGHT = (104.0, 76.0), 90.0  # mm: width and height of the map, height of the page
_PALEST = 0.25  # opacity of a tile whose phase has the probability 0, or an unknown one
_DOTS = "...."  # hatching of cells that are not measured
_CIRCLE: dict[str, Any] = {
    "marker": "o",
    "color": style.GREY,
    "markersize": 3.5,
    "fillstyle": "none",
}
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


@la.figure(
    "taxonomy_phases",
    scalars=["performance", "hessian", "connectivity", "cka"],
    axes=["load", "temperature"],
    inferred=True,
)
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
        The picture, and for each cell its phase, the probabilities of all phases and of not having
        learned, and the four numbers that tell of it.

    Raises:
        UserError: If the tables do not span the two axes.
    """
    left_out = tables.inferred
    all_cells = tables.scalars if left_out is None else pd.concat([tables.scalars, left_out])
    grid = grid_of(all_cells, load, temperature)
    limits = _limits(tables.scalars, chosen.thresholds, left_out)
    summary = cell_summary(tables.scalars)
    numbers = _phase_numbers(summary, limits, load, temperature)
    if left_out is not None:
        numbers = _with_inferred(numbers, left_out, load, temperature)
    named = numbers.rename(columns={"load": load, "temperature": temperature})
    named["index"] = [PHASES.index(p) if p else np.nan for p in named["phase"]]
    index = grid.matrix(named, "index")
    sure = grid.matrix(named, "probability")
    with style.sheet():
        figure = style.page(_HEIGHT)
        axes, key = _place(figure, 16.0, _ROOM[0]), _place(figure, 22.0 + _ROOM[0], 50.0)
        tiles.frame(axes, grid, _ROOM)
        colours = _blended(index, sure)
        inks = np.apply_along_axis(lambda rgb: style.contrast(tuple(rgb)), -1, colours)
        map_ = ListedColormap([style.PHASE_COLOURS[phase] for phase in PHASES])
        mesh = tiles.fill(axes, grid, index, map_, Normalize(-0.5, len(PHASES) - 0.5))
        mesh.set_alpha(_opacity(sure))  # type: ignore[arg-type]
        unlearned = grid.matrix(named.assign(no=named["learned"] == "no"), "no") == 1
        tiles.mark(axes, grid, named, np.where(unlearned, -1.0, index), inks)
        _mark_unlearned(axes, grid, unlearned)
        _name_tiles(axes, grid, index, colours, inks)
        if left_out is not None:
            _mark_inferred(axes, grid, named, inks)
        if grid.roomy:
            accuracy = grid.matrix(named, "test_accuracy")
            _add_numbers(axes, grid, accuracy, sure, colours, inks, np.isfinite(index))
        _transitions(axes, grid, index)
        _phase_key(key, limits, summary, numbers)
    return Drawn(figure, numbers.drop(columns="diverged"))


def _limits(
    scalars: pd.DataFrame, given: Thresholds, left_out: pd.DataFrame | None = None
) -> Thresholds:
    """Return thresholds whose rule is chosen: the published one for the published results.

    Of a refined experiment, a median is that of all cells, inferred ones too: those that are
    measured lie where phases meet.
    """
    published = set(scalars["experiment"]) == {taxonomy_tables.EXPERIMENT}
    rule = given.rule or ("published" if published else "nulls")
    limits = given.model_copy(update={"rule": rule})
    if left_out is None or left_out.empty or limits.number("log_hessian_trace") is not None:
        return limits
    median = float(left_out["flat_limit"].iloc[0])
    return (
        limits.model_copy(update={"log_hessian_trace": median}) if np.isfinite(median) else limits
    )


def _phase_numbers(
    summary: pd.DataFrame, thresholds: Thresholds, load: str, temperature: str
) -> pd.DataFrame:
    """Return load, temperature, phase, its numbers and probabilities, status, count of diverged."""
    wide = summary.pivot(index="cell", columns="metric", values="value").reindex(columns=_BESIDE)
    cells = label(summary, thresholds).set_index("cell").join(wide)
    shares = [cells.at[cell, f"p_{p}"] if p else np.nan for cell, p in cells["phase"].items()]
    cells["probability"] = np.array(shares, dtype=np.float64)
    cells["diverged"] = summary.groupby("cell")["diverged"].max()
    cells = cells.rename(columns={load: "load", temperature: "temperature"})
    columns = ["load", "temperature", "phase", "probability", *PROBABILITIES, "probability_status"]
    columns += ["learned", *_BESIDE, "status", "diverged"]
    return cells[columns].reset_index(drop=True)


def _with_inferred(
    numbers: pd.DataFrame, left_out: pd.DataFrame, load: str, temperature: str
) -> pd.DataFrame:
    """Add the cells that are not measured, and say which these are."""
    rows = left_out.rename(columns={load: "load", temperature: "temperature"})
    unlearned = rows["p_unlearned"] > rows[[f"p_{phase}" for phase in PHASES]].max(axis=1)
    told = np.where(rows["probability"].isna(), "undefined", "ok")
    rows = rows.assign(
        probability_status=told, status=told, diverged=0, measured="no",
        learned=np.where(unlearned, "no", "yes"),
    )  # fmt: skip
    every = pd.concat([numbers.assign(measured="yes"), rows], ignore_index=True)
    return every[[*numbers.columns, "measured"]]


def _mark_inferred(axes: Axes, grid: Grid, named: pd.DataFrame, inks: tiles.Inks) -> None:
    """Draw dots on the tiles of cells that are not measured."""
    for i, j in np.argwhere(grid.matrix(named.assign(no=named["measured"] == "no"), "no") == 1):
        tile = grid.tile(i, j)
        look: dict[str, Any] = {"edgecolor": inks[i, j], "hatch": _DOTS, "linewidth": 0}
        tile.set(fill=False, gid="inferred", alpha=0.45, **look)
        axes.add_patch(tile)


def _opacity(sure: Floats) -> Floats:
    """Return the opacity of tiles from the probability of their phase; unknown ones are palest.

    All are opaque where no probability is known at all.
    """
    if np.isnan(sure).all():
        return np.ones_like(sure)
    return _PALEST + (1 - _PALEST) * np.nan_to_num(sure)


def _blended(index: Floats, sure: Floats) -> Floats:
    """Return the colours (temperatures, loads, 3) that tiles have on white."""
    known = np.array([to_rgb(style.PHASE_COLOURS[phase]) for phase in PHASES])
    colours = known[np.nan_to_num(index).astype(int)]
    opacity = _opacity(sure)[..., None]
    mixed = opacity * colours + (1 - opacity)
    return np.where(np.isfinite(index)[..., None], mixed, to_rgb(style.MISSING))


def _mark_unlearned(axes: Axes, grid: Grid, unlearned: tiles.Bools) -> None:
    """Draw grey tiles with a circle where a cell has not learned, and say so if that is all."""
    for i, j in np.argwhere(unlearned):
        tile = grid.tile(i, j)
        tile.set(facecolor=style.MISSING, edgecolor="white", linewidth=0.6, gid="unlearned")
        axes.add_patch(tile)
        axes.plot(grid.load.middles[j], grid.temperature.middles[i], **_CIRCLE)
    if unlearned.all():
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 12}
        look["bbox"] = {"facecolor": "white", "edgecolor": style.INK, "linewidth": 0.5}
        axes.text(0.5, 0.5, "no cell has learned", transform=axes.transAxes, **look)


def _place(figure: Figure, left: float, width: float) -> Axes:
    """Return axes that begin and are as wide as so many millimetres."""
    bottom, height = 10 / _HEIGHT, _ROOM[1] / _HEIGHT
    return figure.add_axes((left / style.PAGE, bottom, width / style.PAGE, height))


def _name_tiles(axes: Axes, grid: Grid, index: Floats, colours: Floats, inks: tiles.Inks) -> None:
    """Write each tile's phase."""
    size = 10 if grid.roomy else 5.5
    for i, j in np.argwhere(np.isfinite(index)):
        words = PHASES[int(index[i, j])]
        look: dict[str, Any] = {"color": inks[i, j], "ha": "center", "va": "center"}
        if grid.roomy:
            look["bbox"] = _plate(colours[i, j])
        place = grid.load.middles[j], grid.temperature.middles[i]
        axes.text(*place, words, fontsize=size, family="DejaVu Serif", **look)


def _add_numbers(
    axes: Axes,
    grid: Grid,
    accuracy: Floats,
    sure: Floats,
    colours: Floats,
    inks: tiles.Inks,
    named: tiles.Bools,
) -> None:
    """Write the probability above each tile's phase, and the test accuracy below it."""
    for i, j in np.argwhere(named):
        above = "p = ?" if np.isnan(sure[i, j]) else f"p = {min(sure[i, j], 0.99):.2f}"
        below = f"{style.spell(accuracy[i, j])} %" if np.isfinite(accuracy[i, j]) else ""
        look: dict[str, Any] = {"color": inks[i, j], "ha": "center", "va": "center"}
        place = grid.load.middles[j], grid.temperature.middles[i]
        for words, shift in ((above, 11), (below, -11)):
            if words:
                box = _plate(colours[i, j])
                axes.annotate(
                    words, place, (0, shift), textcoords="offset points", bbox=box, **look
                )


def _plate(colour: Floats) -> dict[str, Any]:
    """Return a box in the tile's colour: what keeps text legible on hatching."""
    return {"facecolor": tuple(colour), "edgecolor": "none", "pad": 0.8}


def _transitions(axes: Axes, grid: Grid, index: Floats) -> None:
    """Draw both transitions and the crossover between the tiles that they part."""
    for name, (groups, looks) in _TRANSITIONS.items():
        group = np.full(index.shape, None, dtype=object)
        for i, j in np.argwhere(np.isfinite(index)):
            group[i, j] = groups[int(index[i, j])]
        for look in looks:
            tiles.parted(axes, grid, group, name, **look)


def _phase_key(
    axes: Axes, limits: Thresholds, summary: pd.DataFrame, numbers: pd.DataFrame
) -> None:
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
    if ((numbers["phase"] == "") & (numbers["learned"] != "no")).any():
        marks.append((style.cross(), "no phase: a number is absent"))
    if (numbers["learned"] == "no").any():
        none = Line2D([], [], linestyle="", **{k: v for k, v in _CIRCLE.items() if k != "gid"})
        marks.append((none, "no phase: at chance"))
    if "measured" in numbers and (numbers["measured"] == "no").any():
        dots = Patch(facecolor="none", edgecolor=style.INK, hatch=_DOTS, linewidth=0.4, alpha=0.45)
        marks.append((dots, "inferred, not measured"))
    pale = Patch(facecolor=style.PHASE_COLOURS["III"], alpha=_PALEST, linewidth=0)
    if numbers["probability"].notna().any():
        marks.append((pale, "pale: p is small or unknown"))
    else:
        marks.append((Line2D([], [], linestyle=""), "no errors, hence no probabilities"))
    first = axes.legend(
        [*swatches, *(handle for handle, _ in marks)],
        [*words, *(text for _, text in marks)],
        loc="upper left",
        title="Phases",
        alignment="left",
        borderaxespad=0,
    )
    axes.add_artist(first)
    named = _threshold_words(limits, summary)
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


def _threshold_words(limits: Thresholds, summary: pd.DataFrame) -> dict[str, str]:
    """Return line -> what its threshold is, and where it comes from."""
    flat, poor = flat_limit(summary, limits), limits.number("mode_connectivity")
    of = "" if limits.number("log_hessian_trace") is not None else "\n(median of this grid)"
    return {
        "hessian": f"Hessian: ln tr H = {flat:.3g}{of}"
        if np.isfinite(flat)
        else "Hessian: too few cells",
        "connectivity": "connectivity: below 0\nby its standard error"
        if poor is None
        else f"connectivity: {poor:g} points",
        "crossover": f"crossover: CKA = {limits.number('cka'):g}",
    }


def _line(look: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "color": look["colors"],
        "linewidth": look["linewidths"],
        "linestyle": look["linestyles"],
    }
