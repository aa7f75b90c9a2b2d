"""Draws one figure from tables and writes it: PNG, PDF and the numbers drawn, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from lossatlas import plugins
from lossatlas.errors import UserError, told
from lossatlas.figures import Drawn, Tables, style
from lossatlas.files import atomic
from lossatlas.spec.figures import FIGURES
from lossatlas.spec.figures import Figure as Style
from lossatlas.tables import collect

Path = str | os.PathLike[str]
DrawingFunction = Callable[[Tables, Style, str, str], Drawn]

# No time and no version in the files: equal numbers make equal bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": "Loss Atlas"},
    "pdf": {"Creator": "Loss Atlas", "Producer": "Loss Atlas", "CreationDate": None},
}

_MARGIN = 0.03  # inches around what would have been cut off
_STRIP, _WARNING = 0.22, "#b3261e"  # inches that a mark takes above a picture, and its ground


def draw(
    chosen: Style,
    *,
    scalars: Sequence[Path],
    series: Sequence[Path],
    load: str,
    temperature: str,
    outputs: Mapping[str, Path],
    mark: str = "",
    inferred: Sequence[Path] = (),
) -> None:
    """Draw a figure and write it.

    Args:
        chosen: The figure's style; `draws` names the built-in figure, or is "package.module:object"
            of the user's own.
        scalars: Tables of scalars.
        series: Tables of series.
        load: Name of the load axis; '' when the experiment has none.
        temperature: Name of the temperature axis, likewise.
        outputs: Extension ("png", "pdf" or "csv") -> file.
        mark: A line above the picture, on a strip that is added to its page; "" for none.
        inferred: The table of the cells that a refinement left out; none for all other figures.

    Raises:
        UserError: If a table is missing or damaged, or does not hold what the figure shows.
        ValueError: If an extension is unknown.
    """
    left_out = collect.read_phases(inferred[0]) if inferred else None
    tables = Tables(_joined(scalars, collect.SCALAR), _joined(series, collect.SERIES), left_out)
    drawn = _drawn(chosen, tables, load, temperature)
    page = whole_page(drawn.figure)
    if mark:
        page = marked(drawn.figure, mark, page)
    for extension, path in outputs.items():
        if extension == "csv":
            collect.write(path, drawn.numbers)
        else:
            save(drawn, path, extension, chosen.dpi, page)


def resolve(name: str, where: str = "figures") -> DrawingFunction:
    """Return the function of a built-in figure, of an entry point, or of "package.module:object".

    Raises:
        UserError: If there is none.
    """
    target = plugins.target_of(name, "lossatlas.figures", FIGURES, where)
    return cast("DrawingFunction", plugins.load(target or FIGURES[name].target, where))


def _drawn(chosen: Style, tables: Tables, load: str, temperature: str) -> Drawn:
    """Call a figure's function.

    Raises:
        UserError: If one of the user's own fails, or returns no `Drawn`.
    """
    function = resolve(chosen.draws)
    if chosen.draws in FIGURES:
        return function(tables, chosen, load, temperature)
    try:
        drawn = function(tables, chosen, load, temperature)
    except UserError:
        raise
    except Exception as error:  # the user's function may fail in any way
        raise UserError(f"fails: {told(error)}", where=chosen.draws, fix="mend it") from error
    right = isinstance(drawn, Drawn) and isinstance(drawn.figure, Figure)
    if not (right and isinstance(drawn.numbers, pd.DataFrame)):
        fix = "return la.Drawn(figure, numbers): a matplotlib figure and a table of pandas"
        raise UserError(f"gives a {type(drawn).__name__}", where=chosen.draws, fix=fix)
    return drawn


def save(drawn: Drawn, path: Path, extension: str, dpi: int, page: Bbox | None = None) -> None:
    """Write a picture, atomically; the same numbers make the same bytes.

    Args:
        drawn: The picture.
        path: Where to.
        extension: "png" or "pdf".
        dpi: Dots per inch of a PNG.
        page: What to write, in inches; None is the figure's own page.

    Raises:
        ValueError: If the extension is unknown.
        UserError: If the file cannot be written.
    """
    if extension not in _METADATA:
        raise ValueError(f"unknown extension {extension!r}; known: {', '.join(_METADATA)}")
    with style.sheet(), atomic(path) as temporary:
        FigureCanvasAgg(drawn.figure)
        metadata = _METADATA[extension]
        drawn.figure.savefig(
            temporary, format=extension, dpi=dpi, metadata=metadata, bbox_inches=page
        )


def whole_page(figure: Figure) -> Bbox | None:
    """Return a page on which nothing is cut off, if that is larger than the figure's own.

    Margins are fixed, and the numbers beside an axis can be as long as they like. What stands more
    than half a page away is lost, and makes no picture that fills the memory.
    """
    page = Bbox.from_bounds(0, 0, *figure.get_size_inches())
    with style.sheet():
        FigureCanvasAgg(figure)
        needed = Bbox.intersection(figure.get_tightbbox(), page.expanded(2, 2)) or page
    if np.allclose(Bbox.union([page, needed]).extents, page.extents, rtol=0, atol=_MARGIN):
        return None
    return Bbox.union([page, needed.padded(_MARGIN)])


def marked(figure: Figure, text: str, page: Bbox | None) -> Bbox:
    """Write a line above a picture; return the page with the strip that it stands on, in inches.

    Legends stand where the page ends: they are held where they are before it grows.
    """
    inside = figure.transFigure.inverted()
    for legend in figure.legends:
        place = legend.get_bbox_to_anchor().transformed(inside)
        legend.set_bbox_to_anchor(place, transform=figure.transFigure)
    width, height = figure.get_size_inches()
    whole = Bbox.from_bounds(0, 0, width, height) if page is None else page
    top = whole.y1 + _STRIP / 2
    bar = Rectangle(
        (whole.x0 / width, whole.y1 / height), whole.width / width, _STRIP / height,
        transform=figure.transFigure, facecolor=_WARNING, edgecolor="none",
    )  # fmt: skip
    figure.add_artist(bar)
    with style.sheet():
        figure.text(
            (whole.x0 + whole.x1) / 2 / width, top / height, text,
            ha="center", va="center", color="white", weight="bold", fontsize=8,
        )  # fmt: skip
    return Bbox.from_extents(whole.x0, whole.y0, whole.x1, whole.y1 + _STRIP)


def _joined(paths: Sequence[Path], columns: Sequence[str]) -> pd.DataFrame:
    """Return tables as one; without any, an empty one with the columns that all have."""
    if paths:
        return collect.concatenate(paths)
    return pd.DataFrame(columns=[*collect.FIRST, *columns])
