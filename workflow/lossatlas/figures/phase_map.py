"""The phase of every cell, and the transitions between phases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import lossatlas as la
from lossatlas.figures import Drawn, Tables, phase_marks, style, tiles
from lossatlas.figures.grid import Floats, Grid, grid_of
from lossatlas.reference import taxonomy_tables
from lossatlas.spec.figures import Figure as Style
from lossatlas.spec.figures import Thresholds
from lossatlas.tables.collect import cell_summary
from lossatlas.tables.phases import PHASES, PROBABILITIES, flat_limit
from lossatlas.tables.phases import phases as label

_ROOM, _HEIGHT = (104.0, 76.0), 90.0  # mm: width and height of the map, height of the page
_PALEST = 0.25  # opacity of a tile whose phase has the probability 0, or an unknown one
_CIRCLE: dict[str, Any] = {
    "marker": "o",
    "color": style.GREY,
    "markersize": 3.5,
    "fillstyle": "none",
}
_NAME: dict[str, Any] = {"family": "DejaVu Serif", "fontsize": 9.5}  # of a phase
_STEP = 11.0  # points from line to line in a tile
_WORDS = {
    "I": "I  sharp, poorly connected",
    "II": "II  sharp, connected",
    "III": "III  flat, poorly connected",
    "IV-A": "IV-A  flat, connected,\nless similar",
    "IV-B": "IV-B  flat, connected,\nsimilar",
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
    """The phase of every cell with its probability, the runners-up and the boundaries.

    Args:
        tables: Scalars of performance, Hessian, connectivity and CKA.
        chosen: Where the thresholds come from.
        load: Name of the axis to the right.
        temperature: Name of the axis upwards.

    Returns:
        The picture, and for each cell its phase, the probabilities of all phases and of not having
        learned, the runner-up, and the four numbers that tell of it.

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
        inks = np.array([[style.contrast(tuple(rgb)) for rgb in row] for row in colours], "<U7")
        map_ = ListedColormap([style.PHASE_COLOURS[phase] for phase in PHASES])
        mesh = tiles.fill(axes, grid, index, map_, Normalize(-0.5, len(PHASES) - 0.5))
        mesh.set_alpha(_opacity(sure))  # type: ignore[arg-type]
        unlearned = grid.matrix(named.assign(no=named["learned"] == "no"), "no") == 1
        tiles.mark(axes, grid, named, np.where(unlearned, -1.0, index), inks)
        _mark_unlearned(axes, grid, unlearned)
        open_ = grid.matrix(named.assign(no=phase_marks.undecided(named)), "no") == 1
        phase_marks.hatch(axes, grid, open_, inks)
        if left_out is not None:
            phase_marks.frame(axes, grid, _inferred(grid, named), inks)
        _write(axes, grid, named, index, colours, inks)
        banded = phase_marks.bands(axes, grid, named)
        lines = _transitions(axes, grid, index)
        _phase_key(key, limits, summary, numbers, lines, banded=banded)
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
    second = ["runner_up", "p_runner_up"]
    cells[second] = phase_marks.runners_up(cells).to_numpy()
    cells["p_runner_up"] = cells["p_runner_up"].astype(float)
    columns = ["load", "temperature", "phase", "probability", *PROBABILITIES, "probability_status"]
    columns += [*second, "learned", *_BESIDE, "status", "diverged"]
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
    second = phase_marks.runners_up(rows)
    rows["runner_up"] = second["runner_up"].to_numpy()
    rows["p_runner_up"] = second["p_runner_up"].to_numpy(float)
    every = pd.concat([numbers.assign(measured="yes"), rows], ignore_index=True)
    return every[[*numbers.columns, "measured"]]


def _inferred(grid: Grid, named: pd.DataFrame) -> tiles.Bools:
    found: tiles.Bools = grid.matrix(named.assign(no=named["measured"] == "no"), "no") == 1
    return found


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


def _write(
    axes: Axes, grid: Grid, named: pd.DataFrame, index: Floats, colours: Floats, inks: tiles.Inks
) -> None:
    """Write each tile's phase with its numbers; in narrow tiles each region's, once."""
    if grid.roomy:
        for _, row in named[named["phase"] != ""].iterrows():
            at = grid.place(row)
            _stack(axes, grid, at, [str(row["phase"]), *_lines(row)], colours[at], inks[at])
        return
    for region in phase_marks.regions(index):
        words, ink = PHASES[int(index[region[0]])], inks[region[0]]
        name = axes.text(*phase_marks.middle(grid, region), words, color=ink, **_NAME)
        name.set(ha="center", va="center", zorder=4)
    some = named[phase_marks.undecided(named)]
    for _, row in some.iterrows():
        phase_marks.corner(axes, grid, *grid.place(row), str(row["runner_up"]))


def _lines(row: pd.Series[Any]) -> list[str]:
    """Return what stands under a phase: its probability, the runner-up, the test accuracy."""
    sure, second, accuracy = (row[n] for n in ("probability", "p_runner_up", "test_accuracy"))
    return [
        "p = ?" if np.isnan(sure) else f"p = {min(sure, 0.99):.2f}",
        *([f"or {row['runner_up']} {second:.2f}"] if row["runner_up"] else []),
        *([f"{style.spell(accuracy)} %"] if np.isfinite(accuracy) else []),
    ]


def _stack(
    axes: Axes,
    grid: Grid,
    at: tuple[int, int],
    lines: list[str],
    colour: Floats,
    ink: str,
) -> None:
    """Write lines under each other into a tile, the first one larger, on plates of its colour."""
    place = grid.load.middles[at[1]], grid.temperature.middles[at[0]]
    for number, words in enumerate(lines):
        look: dict[str, Any] = {"color": ink, "ha": "center", "va": "center", "zorder": 4}
        if not number:
            look |= _NAME
        shift = (0, _STEP * ((len(lines) - 1) / 2 - number))
        axes.annotate(words, place, shift, textcoords="offset points", bbox=_plate(colour), **look)


def _plate(colour: Floats) -> dict[str, Any]:
    """Return a box in the tile's colour: what keeps text legible on hatching."""
    return {"facecolor": tuple(colour), "edgecolor": "none", "pad": 0.8}


def _transitions(axes: Axes, grid: Grid, index: Floats) -> list[str]:
    """Draw both transitions and the crossover between the tiles that they part; return which."""
    drawn = []
    for name, (groups, looks) in _TRANSITIONS.items():
        group = np.full(index.shape, None, dtype=object)
        for i, j in np.argwhere(np.isfinite(index)):
            group[i, j] = groups[int(index[i, j])]
        some = [tiles.parted(axes, grid, group, name, **look) for look in looks]
        drawn += [name] if some[0] else []
    return drawn


def _phase_key(
    axes: Axes,
    limits: Thresholds,
    summary: pd.DataFrame,
    numbers: pd.DataFrame,
    drawn: list[str],
    *,
    banded: bool,
) -> None:
    """Name the phases, the lines and the marks that there are, and the thresholds."""
    axes.set_axis_off()
    shown = [p for p in PHASES if (numbers[["phase", "runner_up"]] == p).any(axis=None)]
    swatches: list[tuple[Any, str]] = [
        (Patch(facecolor=style.PHASE_COLOURS[p], edgecolor=style.INK, linewidth=0.4), _WORDS[p])
        for p in shown
    ]
    first = _legend(axes, [*swatches, *_marks(numbers)], "upper left", "Phases")
    named = _threshold_words(limits, summary)
    lines: list[tuple[Any, str]] = [
        (tuple(Line2D([], [], **_line(look)) for look in _TRANSITIONS[name][1]), words)
        for name, words in named.items()
        if name in drawn
    ]
    if banded:
        strip = Line2D([], [], color=style.BAND, linewidth=5, alpha=0.75, solid_capstyle="butt")
        lines.append((strip, "band: as wide as it is\nprobable that cells differ"))
    if lines:
        axes.add_artist(first)  # a second legend would replace it
        _legend(axes, lines, "lower left", "Transitions", handlelength=3.2)


def _legend(
    axes: Axes,
    entries: list[tuple[Any, str]],
    where: Literal["upper left", "lower left"],
    title: str,
    handlelength: float = 1.6,
) -> Legend:
    handles, words = [handle for handle, _ in entries], [text for _, text in entries]
    look: dict[str, Any] = {"alignment": "left", "borderaxespad": 0, "handlelength": handlelength}
    return axes.legend(handles, words, loc=where, title=title, **look)


def _marks(numbers: pd.DataFrame) -> list[tuple[Any, str]]:
    """Return the samples and the words of the marks on tiles."""
    marks: list[tuple[Any, str]] = []
    if phase_marks.undecided(numbers).any():
        dots = Patch(facecolor="white", edgecolor=style.INK, hatch=phase_marks.DOTS, linewidth=0.5)
        words = f"undecided: less than {phase_marks.ODDS:g} to 1\nagainst the runner-up"
        marks.append((dots, words))
    if (numbers["diverged"] > 0).any():
        marks.append((style.hatched(), "replicas diverged"))
    if ((numbers["phase"] == "") & (numbers["learned"] != "no")).any():
        marks.append((style.cross(), "no phase: a number is absent"))
    if (numbers["learned"] == "no").any():
        none = Line2D([], [], linestyle="", **{k: v for k, v in _CIRCLE.items() if k != "gid"})
        marks.append((none, "no phase: at chance"))
    if "measured" in numbers and (numbers["measured"] == "no").any():
        marks.append((phase_marks.framed(), "inferred, not measured"))
    if numbers["probability"].notna().any():
        marks.append((Line2D([], [], linestyle=""), "paler: less probable, or unknown"))
    elif (numbers["phase"] != "").any():
        marks.append((Line2D([], [], linestyle=""), "no errors, hence no probabilities"))
    return marks


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
        else f"connectivity: {poor:g} points".replace("-", "−"),
        "crossover": f"crossover: CKA = {limits.number('cka'):g}",
    }


def _line(look: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "color": look["colors"],
        "linewidth": look["linewidths"],
        "linestyle": look["linestyles"],
    }
