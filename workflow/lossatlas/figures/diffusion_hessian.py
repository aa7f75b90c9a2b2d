"""Fig. S2 of Chen et al. (2022): the spectrum of the Hessian along training."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

import lossatlas as la
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.walks import BLUE, RED, Walks, colours, finish, head, titled, typical
from lossatlas.spec.figures import Figure as Chosen

EPOCH = "epoch"


@la.figure("diffusion_s2_hessian", series=["hessian_path"])
def hessian(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Top eigenvalues and spectral density of the Hessian along training."""
    del chosen, temperature
    shown = typical(tables, load)
    ranks = shown.firsts("eigenvalue", "rank")
    if not ranks:
        fix = "measure 'hessian_path' on the experiment"
        raise UserError("the figure's tables have no eigenvalues", where="figures", fix=fix)
    with style.sheet():
        figure = style.page(62)
        panels = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
        _by_rank(panels[0], shown, ranks)
        _largest(panels[1], shown)
        _densities(panels[2], shown)
        titled(panels, [f"{len(ranks)} eigenvalues", "largest eigenvalue", "spectral density"])
        head(figure, shown)
        figure.subplots_adjust(0.07, 0.16, 0.985, 0.82, wspace=0.35)
    return finish(figure, shown)


def _by_rank(axes: Axes, shown: Walks, ranks: list[int]) -> None:
    """Draw the moduli of one replica's eigenvalues, a line per rank; open marks are negative."""
    shades = colormaps["viridis"]
    for rank in ranks:
        x, y = shown.curves("eigenvalue", rank=rank)[0]
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
    axes.legend(fontsize=6, loc="upper right")


def _densities(axes: Axes, shown: Walks) -> None:
    """Draw the spectral density of one replica at the start, half-way and at the end."""
    found = shown.firsts("hessian_density", "epoch")
    highest = 0.1
    picked = list(dict.fromkeys([found[0], found[len(found) // 2], found[-1]])) if found else []
    for colour, epoch in zip(colours(len(picked)), picked, strict=True):
        x, y = shown.curves("hessian_density", epoch=epoch)[0]
        axes.plot(x, y, color=colour, linewidth=0.9, label=f"epoch {epoch}")
        shown.note("c", "hessian_density", x, y, epoch=epoch)
        highest = max(highest, float(y.max()))
    axes.set_yscale("log")
    axes.set_ylim(1e-5, 100 * highest)
    axes.set_xlabel("eigenvalue (nats)")
    axes.set_ylabel("density")
    if picked:
        axes.legend(fontsize=6)
