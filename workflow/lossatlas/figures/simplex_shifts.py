"""Ensembles on each kind of corrupted images by itself."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

import lossatlas as la
from lossatlas import uncertainty
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.frames import frames
from lossatlas.figures.simplex_ensembles import (
    COLOURS,
    MARKERS,
    averages,
    in_order,
    key,
    key_height,
    method_name,
)
from lossatlas.spec.figures import Figure as Chosen

MEASURES = {
    "error": "test error (%)",
    "nll_scaled": "test NLL (nats), scaled",
    "ece_scaled": "calibration error, scaled",
}
ACROSS = 5


@la.figure("simplex_corruption_kinds", series=["espro"])
def kinds(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Likelihood of ensembles on each kind of corrupted images, against its severity."""
    del chosen, load, temperature
    found = frames(tables, "corruption", "kind")
    if not found:
        fix = "give 'severities' or 'corruptions' to espro"
        raise UserError("no shifted images were measured", where="figures", fix=fix)
    means = {kind: averages(table, "severity", list(MEASURES)) for kind, table in found.items()}
    first = next(iter(means.values()))
    methods = in_order(first["method"])
    rows = math.ceil(len(means) / ACROSS)
    with style.sheet():
        more = key_height(len(methods))
        height = 24 + more + 42 * rows
        figure = style.page(height)
        panels: Any = figure.subplots(rows, ACROSS, squeeze=False).ravel()
        for axes, (kind, table) in zip(panels, means.items(), strict=False):
            for code in methods:
                line = table[table["method"] == code]
                half = uncertainty.half_width(line["nll_scaled_stderr"], line["nll_scaled_df"])
                look = {"color": COLOURS.get(code, style.GREY), "marker": MARKERS.get(code, ".")}
                axes.errorbar(
                    line["severity"],
                    line["nll_scaled"],
                    half,
                    ms=2.5,
                    lw=0.8,
                    elinewidth=0.5,
                    **look,
                )
            axes.set_title(kind.replace("_", " "))
            whole = bool((table["severity"] % 1 == 0).all())
            axes.xaxis.set_major_locator(MaxNLocator(6 if whole else 4, integer=whole))
        for axes in panels[len(means) :]:
            axes.set_axis_off()
        for place in range(0, len(panels), ACROSS):
            panels[place].set_ylabel(MEASURES["nll_scaled"])
        for place in range(max(0, len(means) - ACROSS), len(means)):
            panels[place].set_xlabel("severity")
        key(figure, methods)
        bottom, top = 11 / height, 1 - (14 + more) / height
        figure.subplots_adjust(0.085, bottom, 0.99, top, wspace=0.45, hspace=0.5)
    parts = [table.assign(corruption=kind) for kind, table in means.items()]
    numbers = pd.concat(parts, ignore_index=True)
    numbers["method"] = [method_name(int(code)) for code in numbers["method"]]
    numbers["components"] = int(next(iter(found.values()))["components"].max())
    return Drawn(figure, numbers[["corruption", *numbers.columns.drop("corruption")]])
