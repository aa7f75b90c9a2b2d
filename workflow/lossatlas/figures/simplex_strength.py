"""Ensembles in simplexes against the strength of the volume term."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import lossatlas as la
from lossatlas import uncertainty
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.frames import frame
from lossatlas.metrics.espro_strength import MODES
from lossatlas.spec.figures import Figure as Chosen

COLOURS = {"fixed": "#2a78b0", "paper": "#d1731c"}
ROWS = {
    "nll": "test NLL (nats)",
    "error": "test error (%)",
    "disagreement": "disagreement inside (%)",
    "log_volume": "log V of the simplex",
}


@la.figure("simplex_strength", series=["espro_strength"])
def strength(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Ensembles in simplexes against the strength of the volume term, in both modes."""
    del chosen, load, temperature
    single, mixed = frame(tables, "strengths"), frame(tables, "mixtures")
    numbers = _means(single)
    strengths = sorted(numbers["regularisation"].unique())
    size = int(mixed["components"].max())
    with style.sheet():
        figure = style.page(120)
        panels = figure.subplots(2, 2, sharex=True)
        for axes, (name, words) in zip(panels.flat, ROWS.items(), strict=True):
            for way, mode in enumerate(MODES):
                look: dict[str, Any] = {"color": COLOURS[mode], "markersize": 4}
                rows = numbers[numbers["mode"] == mode]
                places = [strengths.index(value) for value in rows["regularisation"]]
                half = uncertainty.half_width(rows[f"{name}_stderr"], rows[f"{name}_df"])
                moved = np.array(places) + 0.08 * (way - 0.5)
                axes.errorbar(moved, rows[name], half, fmt="o-", capsize=1.5, lw=0.8, **look)
                if name in mixed:
                    some = mixed[mixed["way"] == way].sort_values("regularisation")
                    where = [strengths.index(value) for value in some["regularisation"]]
                    axes.plot(where, some[name], "s--", **look)
            axes.set_ylabel(words)
            _names(axes, strengths)
        for axes in panels[1]:
            axes.set_xlabel("strength of the volume term (0 to the left)")
        lines = [Line2D([], [], color=COLOURS[mode], marker="o") for mode in MODES]
        lines += [
            Line2D([], [], color=style.GREY, marker=m, ls=s) for m, s in (("o", "-"), ("s", "--"))
        ]
        words_ = [*(f"mode {mode}" for mode in MODES), "one simplex, mean", f"all {size} together"]
        figure.legend(lines, words_, loc="upper center", ncols=4)
        figure.subplots_adjust(0.08, 0.11, 0.98, 0.91, wspace=0.22, hspace=0.12)
    together = mixed.assign(mode=[MODES[int(way)] for way in mixed["way"]])
    columns = ["mode", "regularisation", "components", "nll", "error"]
    return Drawn(figure, pd.concat([numbers, together[columns]], ignore_index=True))


def _names(axes: Axes, strengths: list[float]) -> None:
    axes.set_xticks(range(len(strengths)), [style.spell_axis(value) for value in strengths])


def _means(single: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard error and its degrees of freedom over simplexes of one component."""
    rows = []
    parts: Any = single.groupby(["way", "regularisation"])
    for (way, regularisation), part in parts:
        row: dict[str, Any] = {"mode": MODES[int(way)], "regularisation": regularisation}
        row |= {"components": 1, "simplexes": len(part)}
        for name in ROWS:
            found = uncertainty.mean(part[name])
            row |= {name: found.value, f"{name}_stderr": found.stderr, f"{name}_df": found.df}
        rows.append(row)
    return pd.DataFrame(rows)
