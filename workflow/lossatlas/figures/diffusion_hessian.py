"""Fig. S2 of Chen et al. (2022): the spectrum of the Hessian along training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

import lossatlas as la
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, spectrum, style
from lossatlas.figures.walks import (
    BLUE,
    RED,
    Walks,
    absent,
    colours,
    finish,
    head,
    titled,
    typical,
)
from lossatlas.spec.figures import Figure as Chosen

EPOCH = "epoch"


@la.figure("diffusion_s2_hessian", series=["hessian_path"])
def hessian(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Top eigenvalues and the spectrum of the Hessian along training."""
    del chosen, temperature
    shown = typical(tables, load)
    ranks = shown.firsts("eigenvalue", "rank")
    if not ranks:
        fix = "measure 'hessian_path' on the experiment"
        raise UserError("the figure's tables have no eigenvalues", where="figures", fix=fix)
    with style.sheet():
        figure = style.page(118)
        panels = figure.subplots(2, 2).ravel()
        _by_rank(panels[0], shown, ranks)
        _largest(panels[1], shown)
        _spectra(panels[2:], shown)
        titles = [
            f"{len(ranks)} eigenvalues, replica {_first(shown, ranks[0])}",
            "largest eigenvalue",
        ]
        titled(panels, [*titles, "share above x", "share below −x"])
        head(figure, shown)
        figure.subplots_adjust(0.09, 0.09, 0.985, 0.9, wspace=0.25, hspace=0.45)
    return finish(figure, shown)


def _by_rank(axes: Axes, shown: Walks, ranks: list[int]) -> None:
    """Draw the moduli of one replica's eigenvalues, a line per rank; open marks are negative."""
    shades = colormaps["viridis"]
    for rank in ranks:
        found = shown.curves("eigenvalue", rank=rank)
        if not found:
            continue
        x, y = found[0]
        colour = shades(0.9 * (rank - 1) / max(len(ranks) - 1, 1))
        axes.plot(x, np.abs(y), color=colour, linewidth=0.8)
        for sign, fill in ((y >= 0, colour), (y < 0, "white")):
            axes.plot(x[sign], np.abs(y[sign]), "o", color=colour, mfc=fill, ms=2.5, mew=0.7)
        shown.note("a", "eigenvalue", x, y, rank=rank)
    axes.set_yscale("log")
    axes.set_xlabel(EPOCH)
    axes.set_ylabel("|eigenvalue| (nats)")
    figure = axes.figure
    last = max(*ranks, 2)
    scale = ScalarMappable(Normalize(1, 1 + (last - 1) / 0.9), shades)
    bar = figure.colorbar(scale, ax=axes, boundaries=np.linspace(1, last, 256))
    bar.set_ticks([1, last])
    bar.set_label("rank", labelpad=-4)


def _largest(axes: Axes, shown: Walks) -> None:
    """Draw the largest eigenvalue of each replica, and where plain descent becomes unstable."""
    for number, (x, y) in enumerate(shown.curves("eigenvalue", rank=1)):
        axes.plot(x, y, ".-", color=BLUE, linewidth=0.8, label=None if number else "replicas")
        shown.note("b", "eigenvalue", x, y, rank=1)
    if "learning_rate" in shown.rows:
        level = 2 / float(shown.rows["learning_rate"].iloc[0])
        axes.axhline(level, color=RED, linewidth=0.8, linestyle="--", label="2 / learning rate")
        shown.note("b", "2 / learning rate", np.zeros(1), np.array([level]))
    axes.set_ylim(bottom=0, top=1.25 * axes.get_ylim()[1])
    axes.set_xlabel(EPOCH)
    axes.set_ylabel("largest eigenvalue (nats)")
    axes.legend(loc="upper right")


def _first(shown: Walks, rank: int) -> int:
    return int(shown.parts("eigenvalue", rank=rank)[0]["replica"].iloc[0])


def _spectra(panels: Sequence[Axes], shown: Walks) -> None:
    """Draw which share of the eigenvalues lies beyond x at the start, half-way and at the end."""
    found = shown.firsts(spectrum.RITZ, "epoch")
    picked = list(dict.fromkeys([found[0], found[len(found) // 2], found[-1]])) if found else []
    rows = shown.rows[shown.rows["series"] == spectrum.RITZ]
    floor, widest = spectrum.least(rows), spectrum.largest(rows)
    for colour, epoch in zip(colours(len(picked)), picked, strict=True):
        here = rows[rows["epoch"] == epoch]
        for panel, axes, side in zip("cd", panels, spectrum.SIDES, strict=True):
            drawn = spectrum.draw(axes, here, floor, {side: colour}, [side])
            axes.add_line(Line2D([], [], color=colour, label=f"epoch {epoch}"))
            for quantity, part in drawn.groupby("quantity", sort=False):
                x, y, low, high = (part[name].to_numpy(float) for name in ("x", "y", "low", "high"))
                shown.note(panel, str(quantity), x, y, epoch=epoch, low=low, high=high)
    for axes, words in zip(panels, ("x", "−x"), strict=True):
        spectrum.scales(axes, widest, floor)
        axes.set_xlabel(f"modulus of the eigenvalue {words} (nats)")
        axes.set_ylabel("share of the eigenvalues")
        if picked:
            axes.legend(loc="upper right" if axes is panels[1] else "lower left")
        else:
            absent(axes, "no quadrature: density_probes is 0")
