"""Right labels of known phase diagrams against cells bought: chosen cells, a grid, random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import lossatlas as la
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.frames import frame
from lossatlas.spec.figures import Figure as Chosen

GRIDS = {
    "straight": "straight",
    "island": "island",
    "wavy": "wavy (held out)",
    "tongue": "tongue (held out)",
    "published": "published",
}
LOOKS = {"adaptive": (style.INK, "-"), "regular": ("#d1731c", "--"), "random": ("#9a68a8", ":")}
WORDS = {
    "adaptive": "chosen cells",
    "regular": "regular grid, thin-plate splines",
    "random": "random cells, thin-plate splines",
}
_BAND = (0.1, 0.9)  # quantiles over starts


@la.figure("taxonomy_refinement", series=["refinement"], study=True)
def refinement(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Share of phases that are right against cells bought: chosen ones, a regular grid, random."""
    del chosen, load, temperature
    rows = frame(tables, "labels_right")
    numbers: pd.DataFrame = pd.concat(
        [
            _over_starts(some, grid, strategy)
            for grid in GRIDS
            for strategy in LOOKS
            if len(some := rows[(rows["grid"] == grid) & (rows["strategy"] == strategy)])
        ]
    )
    with style.sheet():
        figure = style.page(72)
        shown = {name: title for name, title in GRIDS.items() if (rows["grid"] == name).any()}
        panels: Any = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, (name, title) in zip(panels, shown.items(), strict=True):
            mine = numbers[numbers["grid"] == name]
            for strategy, (colour, dashes) in LOOKS.items():
                some = mine[mine["strategy"] == strategy]
                axes.fill_between(
                    some["cells"], 100 * some["low"], 100 * some["high"],
                    color=colour, alpha=0.15, lw=0,
                )  # fmt: skip
                axes.plot(some["cells"], 100 * some["mean"], color=colour, ls=dashes)
            size = int(rows.loc[rows["grid"] == name, "size"].iloc[0])
            axes.axvline(size / 4, color=style.GREY, lw=0.6)
            axes.axhline(95, color=style.GREY, lw=0.6)
            axes.set_title(f"{title}\n{size} cells")
            axes.set_xlabel("cells bought")
            axes.set_xlim(0, 66)
        panels[0].set_ylim(70, 100)
        panels[0].set_ylabel("labels right (%)")
        handles = [panels[0].lines[place] for place in range(len(LOOKS))]
        figure.legend(handles, [WORDS[one] for one in LOOKS], loc="lower center", ncols=3)
        figure.subplots_adjust(0.07, 0.27, 0.99, 0.86, wspace=0.1)
    return Drawn(figure, numbers.reset_index(drop=True))


def _over_starts(rows: pd.DataFrame, grid: str, strategy: str) -> pd.DataFrame:
    """Return, by number of cells, mean and quantiles of the share over all starts.

    A start has the share of its last round that was not larger.
    """
    counts = np.arange(
        int(rows.groupby("start")["cells"].min().max()), int(rows["cells"].max()) + 1
    )
    shares = []
    for _, path in rows.groupby("start"):
        place = np.searchsorted(path["cells"].to_numpy(), counts, side="right") - 1
        shares.append(path["share"].to_numpy()[place])
    low, high = np.quantile(shares, _BAND, axis=0)
    return pd.DataFrame(
        {
            "grid": grid, "strategy": strategy, "cells": counts, "mean": np.mean(shares, axis=0),
            "low": low, "high": high,
        }
    )  # fmt: skip
