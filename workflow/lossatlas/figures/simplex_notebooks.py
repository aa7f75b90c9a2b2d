"""Pictures of the two small studies: two spirals, and whether sampling is biased."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

import lossatlas as la
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.frames import frame, frames
from lossatlas.figures.simplex_landscape import draw_plane, loss_bar
from lossatlas.spec.figures import Figure as Chosen

CLASSES = ("#2a78b0", "#d1731c")
PREDICTIONS = {
    "nll_base": "base",
    "nll_sample": "samples",
    "nll_logits": "mean logit",
    "nll_ensemble": "mean\nprobability",
}


FIELDS = {
    "sample0": "one sample",
    "ensemble": "100 samples",
    "spread": "100 samples − one",
}


def _field(fields: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a field over y and x; the spread is the mean less one sample."""
    made = fields.assign(spread=fields["ensemble"] - fields["sample0"])
    return made.pivot(index="y", columns="x", values=name)


@la.figure("simplex_two_spirals", series=["two_spirals"], study=True)
def two_spirals(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """A simplex on the two spirals: faces, decision fields, likelihood."""
    del chosen, load, temperature
    rasters, corners = frames(tables, "plane", "plane"), frames(tables, "corners", "plane")
    fields, data = frame(tables, "fields"), frame(tables, "data")
    summary = frame(tables, "summary").dropna(axis="columns", how="all")
    scale = LogNorm(1e-3, 1.0)
    with style.sheet():
        figure = style.page(165)
        grid = figure.add_gridspec(3, 4, left=0.07, right=0.86, top=0.96, bottom=0.075)
        grid.update(hspace=0.42, wspace=0.5)
        below = figure.add_gridspec(3, 3, left=0.07, right=0.945, top=0.96, bottom=0.075)
        below.update(hspace=0.42, wspace=0.35)
        for column, (name, raster) in enumerate(rasters.items()):
            axes = figure.add_subplot(grid[0, column])
            image = draw_plane(axes, raster, corners[name], scale)
            axes.set_xlabel("")
            axes.set_ylabel("distance" if not column else "")
        loss_bar(figure, image, scale, (0.905, 0.7, 0.012, 0.25))
        for column, (name, title) in enumerate(FIELDS.items()):
            axes = figure.add_subplot(below[1, column])
            wide = _field(fields, name)
            low = -1 if name == "spread" else 0
            shades = axes.pcolormesh(
                wide.columns, wide.index, wide, cmap="PuOr_r", vmin=low, vmax=1, rasterized=True
            )
            for label, colour in enumerate(CLASSES):
                some = data[data["label"] == label]
                axes.plot(some["x"], some["y"], ".", color=colour, mec="white", mew=0.3, ms=4)
            axes.set_aspect("equal")
            axes.set_title(title)
            bar = figure.colorbar(shades, ax=axes, fraction=0.046, pad=0.04)
            bar.ax.set_title("Δp(1)" if low else "p(1)")
        for column, strength in enumerate(sorted(summary["regularisation"].unique())):
            axes = figure.add_subplot(grid[2, 2 * column : 2 * column + 2])
            rows = summary[summary["regularisation"] == strength]
            places = np.arange(len(PREDICTIONS))
            for _, row in rows.iterrows():
                axes.plot(places, row[list(PREDICTIONS)], color=style.GREY, linewidth=0.5)
            axes.plot(places, rows[list(PREDICTIONS)].median(), "o-", color=style.INK, ms=4)
            axes.set_xticks(places, list(PREDICTIONS.values()))
            axes.set_yscale("log")
            low = np.nanmin(summary[list(PREDICTIONS)]) / 1.3
            axes.set_ylim(low, np.nanmax(summary[list(PREDICTIONS)]) * 1.3)
            axes.set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
            axes.minorticks_off()
            axes.set_ylabel("test NLL (nats)" if not column else "")
            words = f"volume rule from {strength:g}" if strength else "no volume term"
            axes.set_title(f"{words}: {len(rows)} seeds")
    return Drawn(figure, summary)


@la.figure("simplex_sampling_bias", series=["sampling_bias"], study=True)
def sampling_bias(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Whether barycentric draws are uniform in long triangles too."""
    del chosen, load, temperature
    points, tests = frame(tables, "points"), frame(tables, "tests")
    with style.sheet():
        figure = style.page(105)
        for row, wrong in enumerate((0, 1)):
            for column, elongated in enumerate((0, 1)):
                some = points[(points["wrong"] == wrong) & (points["elongated"] == elongated)]
                place = figure.add_subplot(2, 3, 3 * row + column + 1, projection="3d")
                _triangle(place, some, 100.0 if elongated else 1.0)
                place.set_title("100 times longer" if elongated else "unit", loc="center", y=0.95)
            axes = figure.add_subplot(2, 3, 3 * row + 3)
            rows = tests[tests["wrong"] == wrong]
            _shares(axes, rows)
            words = "normalised uniform numbers" if wrong else "exponential (Dirichlet)"
            figure.text(0.02, 0.98 - 0.49 * row, words, va="top")
        figure.subplots_adjust(0.02, 0.12, 0.98, 0.88, wspace=0.25, hspace=0.5)
    return Drawn(figure, tests.dropna(axis="columns", how="all"))


def _triangle(axes: Any, points: pd.DataFrame, length: float) -> None:
    corners = np.array([[0, 0, 1], [0, 1, 0], [length, 0, 0], [0, 0, 1]])
    axes.plot(*corners.T, color=style.INK, linewidth=0.8)
    columns = (points[name].to_numpy() for name in "xyz")
    axes.scatter(*columns, s=3, color=CLASSES[0], linewidths=0)
    axes.set(xlim=(0, length), ylim=(0, 1), zlim=(0, 1))
    for name in "xyz":
        axes.locator_params(name, nbins=3)
    axes.view_init(20, 20)


def _shares(axes: Axes, rows: pd.DataFrame) -> None:
    names = [f"quarter{i}" for i in range(4)]
    for index, (_, row) in enumerate(rows.iterrows()):
        words = "elongated" if row["elongated"] else "unit"
        p = row["p_chi_square"]
        label = f"{words}: p = {style.spell(p)}" if p >= 0.001 else f"{words}: p < 0.001"
        places = np.arange(4) + 0.38 * index - 0.19
        axes.bar(places, row[names], 0.36, color=CLASSES[index], label=label)
    axes.axhline(0.25, color=style.INK, linewidth=0.6)
    axes.set_xticks(range(4), ["1", "2", "3", "middle"])
    axes.set_ylim(0, 0.65)
    axes.set_xlabel("quarter at corner, or in the middle")
    axes.set_ylabel("share of the points")
    axes.legend(loc="upper left")
