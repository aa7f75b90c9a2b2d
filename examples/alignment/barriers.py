"""A figure: barriers between replicas against width, before and after their units are matched."""

import pandas as pd

import lossatlas as la
from lossatlas.figures import style
from lossatlas.tables.collect import cell_summary

LINES = {  # number in the experiment's table -> what it is called, colour and mark
    "loss_barrier_before": ("as trained", "#d97a16", "o"),
    "loss_barrier_after": ("units matched", "#1f5a9e", "s"),
    "repaired.loss_barrier_after": ("units matched, and REPAIR", "#3c8d5a", "^"),
}


@la.figure(variants=True, axes=["load"], category="my figures")
def barrier_width(tables, chosen, load, temperature):
    """Barrier of the training loss on the straight line between replicas, against width.

    Bars are standard errors of the mean over pairs, which share replicas.
    """
    parts = []
    with style.sheet():
        figure = style.page(70, 95)  # height and width in mm
        axes = figure.add_axes((0.16, 0.16, 0.8, 0.79))
        for number, (words, colour, mark) in LINES.items():
            found = cell_summary(tables.scalars, {number: (number, False)}).sort_values(load)
            look = {"color": colour, "marker": mark, "ms": 3, "capsize": 2, "label": words}
            axes.errorbar(found[load], found["value"], found["stderr"], **look)
            parts.append(found)
        axes.set_xscale("log", base=2)
        axes.set_xticks(found[load], [f"{width:g}" for width in found[load]])
        axes.set_yscale("symlog", linthresh=0.001)  # a barrier may be 0
        axes.set_ylim(0, 2 * max(found["value"].max() for found in parts))
        axes.set_xlabel("width of the hidden layers")
        axes.set_ylabel("barrier of the training loss (nats)")
        axes.legend()
    return la.Drawn(figure, pd.concat(parts, ignore_index=True))
