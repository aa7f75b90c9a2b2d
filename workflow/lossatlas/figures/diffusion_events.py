"""Loss events of Chen et al. (2022): durations of avalanches, and what follows them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

import lossatlas as la
from lossatlas import uncertainty
from lossatlas.diffusion.durations import fit_durations, survival
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.walks import Walks, absent, colours, finish, head, loglog, titled, typical
from lossatlas.spec.figures import Figure as Chosen

NONE = "no change of the loss\nexceeds the threshold"
FEW = "no avalanche, or a window of\nfewer than 54 points"


@la.figure("diffusion_avalanches", series=["diffusion"])
def avalanches(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """How long runs of large changes of the loss last, and what follows them."""
    del chosen, temperature
    shown = typical(tables, load)
    firsts = shown.some("avalanche_length")
    with style.sheet():
        figure = style.page(74)
        panels = figure.subplots(1, 3)
        for colour, first in zip(colours(len(firsts)), firsts, strict=True):
            _durations(panels[0], shown, first, colour)
            label = f"from step {first}"
            for axes, column, panel in ((panels[1], "change", "b"), (panels[2], "contour", "c")):
                for number, part in enumerate(shown.parts("after_avalanche", window=first)):
                    x, y = (part[name].to_numpy(np.float64) for name in ("step", column))
                    axes.plot(x, y, color=colour, linewidth=0.8, label=None if number else label)
                    shown.note(panel, column, x, y, window=first)
        loglog(panels[0], "duration (steps)", "share that lasts as long")
        panels[0].set_xlim(left=0.9)
        panels[1].set_yscale("log")
        panels[1].set_ylabel("|change of the loss| (nats)")
        panels[2].set_ylabel("length of the path")
        for axes in panels[1:]:
            axes.set_xlabel("steps from the peak")
        if panels[2].lines:
            panels[2].legend()
        for axes, words in zip(panels, (NONE, FEW, FEW), strict=True):
            if not axes.lines:
                absent(axes, words)
        if panels[0].lines:
            panels[0].legend(loc="upper right", title="from step: exponent", handletextpad=0.2)
        panels[0].set_ylim(_rarest(shown) / 3, 300)  # room for the legend, and not for tiny shares
        panels[0].yaxis.set_major_locator(FixedLocator([10.0**k for k in range(-8, 1)]))
        panels[0].yaxis.set_minor_locator(NullLocator())
        titled(panels, ["durations", "loss after the peak", "path after the peak"])
        head(figure, shown)
        figure.subplots_adjust(0.085, 0.15, 0.985, 0.85, wspace=0.46)
    return finish(figure, shown)


def _rarest(shown: Walks) -> float:
    """Return the smallest share of avalanches that was drawn."""
    drawn = [part["y"].min() for part in shown.drawn if (part["line"] == "avalanches").any()]
    return float(min(drawn, default=0.1))


def _durations(axes: Axes, shown: Walks, first: int, colour: object) -> None:
    """Draw which share of avalanches lasts as long, of all replicas, and the fitted power law."""
    each = [
        np.repeat(x, y.astype(np.int64)) for x, y in shown.curves("avalanche_length", window=first)
    ]
    every = np.concatenate(each) if each else np.empty(0)
    if not len(every):
        return
    values = np.arange(1, int(every.max()) + 1)
    share = 1 - np.searchsorted(np.sort(every), values) / len(every)
    fit = fit_durations(every)
    label = f"{first}"
    if fit.status == "ok":
        tail = values[values >= fit.smallest]
        law = share[tail[0] - 1] * survival(tail, fit)
        axes.plot(tail, law, color=colour, linewidth=0.9)
        shown.note("a", f"power law of exponent {fit.exponent:.3g}", tail, law, window=first)
        label += f": {_exponent(each, fit.exponent, int(fit.smallest))}"
        stay = 1 - 1 / (every[every >= tail[0]].mean() - tail[0] + 1)
        runs = share[tail[0] - 1] * stay ** (tail - tail[0])
        axes.plot(tail, runs, ":", color=colour, linewidth=0.7)
        shown.note("a", "independent changes", tail, runs, window=first)
    axes.plot(values, share, "o", color=colour, ms=2.5, mec="none", label=label)
    shown.note("a", "avalanches", values, share, window=first)


def _exponent(each: list[np.ndarray], pooled: float, smallest: int) -> str:
    """Return the exponent of all replicas together, and half of the 95% interval between them."""
    fits = [fit_durations(one, smallest=smallest) for one in each]
    over = uncertainty.mean([fit.exponent for fit in fits if fit.status == "ok"])
    half = float(uncertainty.half_width(over.stderr, over.df))
    return f"{pooled:.2f}" + (f" ± {half:.2f}" if np.isfinite(half) else "")
