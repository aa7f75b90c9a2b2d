"""Figures of Chen et al. (2022) from recorded paths."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

import lossatlas as la
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.walks import (
    BLUE,
    LAG,
    MARGINS,
    MSD,
    ORANGE,
    RED,
    SHEET,
    Walks,
    colours,
    finish,
    guide,
    head,
    line,
    loglog,
    steps,
    titled,
    typical,
    windows,
)
from lossatlas.reference import diffusion_hand
from lossatlas.spec.figures import Figure as Chosen

KINDS = {"": ("as it is", BLUE), "still_": ("without drift", ORANGE), "surrogate_": ("steps reordered", style.GREY)}  # fmt: skip  # noqa: E501
START = "first step of the window"


@la.figure("diffusion_fig2_msd", scalars=["diffusion"], series=["diffusion"])
def displacement(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Mean squared displacement of the weights against lag, its exponents, window by window."""
    del chosen, temperature
    shown = typical(tables, load)
    with style.sheet():
        figure = style.page(SHEET)
        panels = figure.subplots(2, 3).ravel()
        windows(panels[0], shown, "msd", shown.some("msd"), "a")
        for marker, (name, points) in zip("ox^", diffusion_hand.COMMITTED.items(), strict=True):
            lags, values = np.array(list(points)), np.array(list(points.values()))
            panels[0].plot(lags, values, marker, color=style.INK, ms=3, ls="", label=name)
            shown.note("a", f"authors: {name}", lags, values)
        panels[0].legend(handlelength=1.0, loc="upper left")
        windows(panels[1], shown, "msd", shown.firsts("msd"), "b")
        windows(
            panels[2], shown, "local_exponent", shown.firsts("msd"), "c",
            legend=False, logarithm=False,
        )  # fmt: skip
        for level in (1.0, 2.0):
            panels[2].axhline(level, color=style.GREY, linewidth=0.5, linestyle=":")
        for axes in panels[:2]:
            loglog(axes, LAG, MSD)
        panels[0].set_ylim(top=3000 * panels[0].get_ylim()[1])  # room for the legend
        panels[2].set_xscale("log")
        panels[2].set_xlabel(LAG)
        panels[2].set_ylabel("local exponent")
        for prefix in ("", "still_"):
            words, colour = KINDS[prefix]
            line(panels[3], shown, "d", f"{prefix}msd_run", {"color": colour, "label": words})
        panels[3].legend()
        loglog(panels[3], LAG, MSD)
        _exponents(panels[4], shown, "e")
        for level, words, look in zip(
            diffusion_hand.means()[:2], ("first", "last"), ("--", ":"), strict=True
        ):
            label = f"authors, {words} window"
            panels[4].axhline(level, color=RED, linewidth=0.7, linestyle=look, label=label)
        panels[4].set_ylim(top=1.9 * panels[4].get_ylim()[1])
        panels[4].legend(loc="upper right")
        windows(panels[5], shown, "msd_from_start", shown.some("msd"), "f", legend=False)
        loglog(panels[5], "steps from the first point", "squared displacement")
        titles = ["three windows", "all windows", "local exponent", "whole run (projected)"]
        titled(panels, [*titles, "exponent by window", "from the first point"])
        head(figure, shown)
        figure.subplots_adjust(**MARGINS, hspace=0.42)
    return finish(figure, shown)


def _exponents(axes: Axes, shown: Walks, panel: str, name: str = "exponent") -> None:
    """Draw exponents by window: as it is, without drift, with reordered steps."""
    for prefix, (words, colour) in KINDS.items():
        look = {"color": colour, "label": words, "marker": ".", "markersize": 3}
        line(axes, shown, panel, f"{prefix}{name}", look, logarithm=False)
    axes.axhline(1, color=style.GREY, linewidth=0.5, linestyle=":")
    steps(axes, START)
    axes.set_ylabel("exponent")


@la.figure("diffusion_fig3_trapping", scalars=["diffusion"], series=["diffusion"])
def trapping(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Loss against distance, transverse excursions, displacement against contour length."""
    del chosen, temperature
    shown = typical(tables, load)
    firsts = shown.some("msl")
    with style.sheet():
        figure = style.page(SHEET)
        panels = figure.subplots(2, 2).ravel()
        windows(panels[0], shown, "msl", firsts, "a")
        whole = False  # recipes need not record it
        for colour, first in zip(colours(len(firsts)), firsts, strict=True):
            look = {"color": colour, "linestyle": "--", "linewidth": 0.9}
            label = None if whole else "all images"
            whole |= line(panels[0], shown, "a", "msl_whole", look | {"label": label}, window=first)
        panels[0].legend(handlelength=1.6)
        loglog(panels[0], "distance", "mean squared loss difference (nats²)")
        panels[0].set_ylim(top=300 * panels[0].get_ylim()[1])  # room for the legend
        _schematic(panels[1], shown, firsts[0])
        windows(panels[2], shown, "msd_contour", firsts, "c")
        loglog(panels[2], "contour length", MSD)
        x, y = shown.mean("msd_contour", window=firsts[0])
        if len(x):
            guide(panels[2], 2, (float(x[0]), float(x[-1])), 2 * float(y[0]))
            guide(panels[2], 1, (float(x[0]), float(x[-1])), float(y[0]) / 4)
        for colour, first in zip(colours(len(firsts)), firsts, strict=True):
            for number, (x, y) in enumerate(shown.curves("excursion", window=first)):
                label = None if number else f"from step {first}"
                panels[3].plot(x, y, "o", color=colour, ms=2.5, mec="none", label=label)
                shown.note("d", "excursion", x, y, window=first)
        panels[3].legend(handlelength=1.0)
        loglog(panels[3], "squared end-to-end distance", "squared excursion")
        titles = ["loss against distance", "displacement and contour length"]
        titled(panels, [*titles, "displacement on the path", "transverse excursions"])
        head(figure, shown)
        figure.subplots_adjust(**MARGINS | {"wspace": 0.25}, hspace=0.35)
    return finish(figure, shown)


def _schematic(axes: Axes, shown: Walks, first: int) -> None:
    """Draw the path of one replica on its principal axes, and what is measured on a piece of it."""
    found = shown.parts("principal_path", window=first)
    axes.set_xlabel("principal axis 1")
    axes.set_ylabel("principal axis 2")
    if not found:
        return
    time, x, y = (found[0][name].to_numpy(np.float64) for name in ("step", "u", "v"))
    piece = slice(len(x) // 12, len(x) // 3)
    axes.plot(x, y, color=style.GREY, linewidth=0.6)
    axes.plot(x[piece], y[piece], color=BLUE, linewidth=1.1, label="contour length")
    ends = [piece.start, piece.stop - 1]
    axes.plot(x[ends], y[ends], "o--", color=RED, ms=3, linewidth=1, label="displacement")
    axes.legend()
    shown.note("b", "principal axis 1", time, x)
    shown.note("b", "principal axis 2", time, y)


@la.figure("diffusion_fig5_gradients", scalars=["diffusion"], series=["diffusion"])
def gradients(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Densities of gradient entries, their stable index, changes of the loss."""
    del chosen, temperature
    shown = typical(tables, load)
    firsts = shown.some("gradient_density")
    with style.sheet():
        figure = style.page(SHEET)
        panels = figure.subplots(2, 3).ravel()
        for axes, first, panel in zip(panels, firsts, "abc", strict=False):
            _density(axes, shown, first, panel)
        looks = {
            "stable_alpha": ("pooled", BLUE),
            "mixture_alpha": ("normal, same scales", ORANGE),
            "standardised_alpha": ("by own scale", style.GREY),
            "layer_alpha": ("by its layer's scale", RED),
        }
        for name, (words, colour) in looks.items():
            look = {"color": colour, "label": words, "marker": ".", "markersize": 3}
            line(panels[3], shown, "d", name, look, logarithm=False)
        panels[3].set_ylim(-0.4, 2.05)  # room for the legend
        panels[3].set_yticks([0, 0.5, 1, 1.5, 2])
        steps(panels[3], START)
        panels[3].set_ylabel("stable index α")
        panels[3].legend(loc="lower right", labelspacing=0.3)
        windows(panels[4], shown, "loss_change", firsts, "e", band=False)
        panels[4].set_yscale("log")
        panels[4].set_ylim(bottom=panels[4].get_ylim()[0] / 100)
        panels[4].legend(loc="lower left")
        for curve in panels[4].lines:
            curve.set_linewidth(0.6)
        panels[4].set_xlabel("steps")
        panels[4].set_ylabel("|change of the loss| (nats)")
        for x, y in shown.curves("moving_variance"):
            panels[5].plot(x, y, color=BLUE, linewidth=0.6)
            shown.note("f", "moving_variance", x, y)
        panels[5].axhline(0.005, color=RED, linewidth=0.6, linestyle="--")
        panels[5].set_yscale("log")
        steps(panels[5])
        panels[5].set_ylabel("variance of the loss, 101 steps")
        titles = [f"from step {first}" for first in firsts]
        titles += [""] * (3 - len(titles))
        titled(panels, [*titles, "stable index", "changes of the loss", "moving variance"])
        head(figure, shown)
        figure.subplots_adjust(**MARGINS, hspace=0.42)
    return finish(figure, shown)


def _density(axes: Axes, shown: Walks, first: int, panel: str) -> None:
    """Draw the density of pooled gradient entries of one replica with both fitted laws."""
    looks = {
        "gradient_density": ("entries", style.GREY, "."),
        "gradient_normal": ("normal law", ORANGE, "-"),
        "gradient_stable": ("stable law", BLUE, "-"),
    }
    lowest = np.inf
    for name, (words, colour, look) in looks.items():
        for x, y in shown.curves(name, window=first)[:1]:
            axes.plot(x, y, look, color=colour, ms=2, label=words)
            shown.note(panel, name, x, y, window=first)
            if name == "gradient_density":
                lowest = float(y[y > 0].min(initial=np.inf))
    axes.set_yscale("log")
    if np.isfinite(lowest):
        axes.set_ylim(lowest / 2)
    axes.locator_params("x", nbins=4)
    axes.set_xlabel("gradient entry")
    axes.set_ylabel("density")
    axes.legend(handlelength=1)


@la.figure("diffusion_controls", scalars=["diffusion"], series=["diffusion"])
def controls(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """What displacement means: drift, reordered steps, a convex loss, moments."""
    del chosen, temperature
    deep, least = typical(tables, load), typical(tables, load, smallest=True)
    depth = least.rows["depth"].iloc[0] if "depth" in least.rows else None
    other = "convex" if depth == 0 else "smallest load"
    with style.sheet():
        figure = style.page(SHEET)
        panels = figure.subplots(2, 3).ravel()
        for axes, shown, panel in ((panels[0], deep, "a"), (panels[1], least, "b")):
            first = shown.firsts("msd")[0]
            for prefix, (words, colour) in KINDS.items():
                look = {"color": colour, "label": words}
                line(axes, shown, panel, f"{prefix}msd", look, window=first)
            loglog(axes, LAG, MSD)
            axes.legend()
        _exponents(panels[2], deep, "c")
        panels[2].legend()
        _exponents(panels[3], least, "d")
        both = [axes.get_ylim() for axes in (panels[2], panels[3])]
        for axes in (panels[2], panels[3]):
            axes.set_ylim(min(low for low, _ in both), max(high for _, high in both))
        for shown, colour, words in ((deep, BLUE, "network"), (least, ORANGE, other)):
            firsts = shown.firsts("msd")
            for first, dash in ((firsts[0], "-"), (firsts[-1], ":")):
                look = {"color": colour, "linestyle": dash}
                for axes, panel, name in (
                    (panels[4], "e", "velocity_correlation"),
                    (panels[5], "f", "moment_exponent"),
                ):
                    drawn = line(axes, shown, panel, name, look, logarithm=False, window=first)
                    if drawn and panel == "e":
                        axes.lines[-1].set_label(f"{words}, from {first}")
        panels[4].axhline(0, color=style.GREY, linewidth=0.5, linestyle=":")
        panels[4].set_xscale("log")
        panels[4].set_xlabel(LAG)
        panels[4].set_ylabel("correlation of steps")
        low, high = panels[4].get_ylim()
        panels[4].set_ylim(low - 0.6 * (high - low), high)  # room for the legend
        panels[4].legend(loc="lower right")
        q = np.linspace(0.5, 4, 20)
        panels[5].plot(q, q / 2, "--", color=style.GREY, linewidth=0.6, label="q/2: random walk")
        panels[5].set_xlabel("moment q")
        panels[5].set_ylabel("exponent of the q-th moment")
        panels[5].legend()
        titles = ["network, first window", f"{other}, first window", "network, exponents"]
        titled(panels, [*titles, f"{other}, exponents", "correlation of steps", "moments"])
        head(figure, deep, words=f"network: {deep.label}; {other}: {least.label}")
        figure.subplots_adjust(**MARGINS, hspace=0.42)
    return finish(figure, deep, least)
