"""Bands of predictions of the regression study."""

from __future__ import annotations

from typing import Any

import numpy as np

import lossatlas as la
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.frames import frame
from lossatlas.simplex.regression import CLUSTERS, METHODS
from lossatlas.spec.figures import Figure as Chosen

COLOURS = (style.INK, "#d1731c", "#9a68a8")
WHERE = {
    "sd_inside": "among\nthe data",
    "sd_between": "between\nclusters",
    "sd_outside": "beyond\nthe data",
}


@la.figure("simplex_regression", series=["regression"], study=True)
def regression(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Bands of predictions in one dimension: ensembles, simplexes, the plane of a curve."""
    del chosen, load, temperature
    bands, data, summary = (frame(tables, name) for name in ("bands", "data", "summary"))
    numbers = summary.dropna(axis="columns", how="all")
    with style.sheet():
        figure = style.page(70)
        panels: Any = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.45))
        for method, (axes, colour) in enumerate(zip(panels, COLOURS, strict=False)):
            rows = bands[bands["method"] == method].sort_values("x")
            for low, high in CLUSTERS:
                axes.axvspan(low, high, color="#eeeeee", lw=0)
            mean, sd = rows["mean"], rows["sd"]
            for width, alpha in ((1, 0.3), (2, 0.2)):
                below, above = mean - width * sd, mean + width * sd
                axes.fill_between(rows["x"], below, above, color=colour, alpha=alpha, lw=0)
            axes.plot(rows["x"], mean, color=colour)
            axes.plot(rows["x"], rows["truth"], color=style.GREY, ls="--", lw=0.7)
            axes.plot(data["x"], data["y"], ".", color=style.INK, ms=2)
            axes.set_ylim(-2.6, 2.6)
            axes.set_title(METHODS[method])
            axes.set_xlabel("x")
        panels[0].set_ylabel("prediction, ±1 and ±2 s.d.")
        last, places = panels[3], np.arange(len(WHERE))
        for method, colour in enumerate(COLOURS):
            rows = summary[summary["method"] == method]
            for _, row in rows.iterrows():
                last.plot(places, row[list(WHERE)], color=colour, lw=0.4)
            last.plot(places, rows[list(WHERE)].mean(), "o-", color=colour, ms=3)
        last.set_yscale("log")
        last.yaxis.set_minor_formatter(style.Between())
        last.set_xticks(places, list(WHERE.values()))
        last.set_xlim(-0.3, len(WHERE) - 0.7)
        last.set_title("s.d. of predictions")
        figure.subplots_adjust(0.075, 0.19, 0.99, 0.9, wspace=0.42)
    named = numbers.assign(method=[METHODS[int(method)] for method in numbers["method"]])
    return Drawn(figure, named)
