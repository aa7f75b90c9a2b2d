"""Figures of Chen et al. (2022): the toy model, rough landscapes, and the supplement."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm

import lossatlas as la
from lossatlas.errors import UserError
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
    finish,
    head,
    line,
    loglog,
    titled,
    typical,
    windows,
)
from lossatlas.spec.figures import Figure as Chosen

KINDS = {
    "fractal": BLUE,
    "fractal small": "#7fb2e5",
    "shuffled": ORANGE,
    "cone": "#8a2a1e",
    "quadratic": "#ded667",
    "flat": style.GREY,
}


SURFACES = {
    "loss": ("loss, random plane", BLUE),
    "pca": ("loss, principal plane", "#7fb2e5"),
    "fractal": ("fractal", ORANGE),
    "shuffled": ("shuffled", RED),
    "quadratic": ("quadratic", style.GREY),
}


@la.figure("diffusion_fig4_toy", scalars=["toy_walkers"], series=["toy_walkers"], study=True)
def toy(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Noisy walkers on fractal, shuffled, convex and flat surfaces."""
    del chosen, load, temperature
    shown = Walks(tables.series, "toy walkers")
    values = dict(zip(tables.scalars["metric"], tables.scalars["value"], strict=True))
    with style.sheet():
        figure = style.page(SHEET)
        panels = figure.subplots(2, 3).ravel()
        _map(panels[0], shown, "fractal", "a")
        _map(panels[1], shown, "shuffled", "b")
        _zoom(panels[2], shown, "fractal", "c")
        for name, colour in KINDS.items():
            for axes, when, panel in ((panels[3], "early", "d"), (panels[4], "late", "e")):
                share = values.get(f"{name} wall_share", float("nan"))
                look = {"color": colour, "label": f"{name} ({share:.0%} at walls)"}
                line(axes, shown, panel, "msd", look, walkers=name, when=when)
            for x, y in shown.curves("gradient_density", surface=name):
                panels[5].plot(x, y, color=colour)
                shown.note("f", "gradient_density", x, y, surface=name)
        for axes in panels[3:5]:
            loglog(axes, LAG, MSD)
        panels[5].set_yscale("log")
        panels[5].set_ylim(1e-4, 10)
        panels[5].set_xlabel("gradient met")
        panels[5].set_ylabel("density")
        titles = ["fractal", "shuffled", "settled, by step length", "steps 0 to 200"]
        titled(panels, [*titles, "steps 501 to 1000", "gradients"])
        figure.legend(*panels[3].get_legend_handles_labels(), loc="lower center", ncols=3)
        figure.subplots_adjust(**MARGINS | {"bottom": 0.165, "top": 0.96}, hspace=0.32)
    return finish(figure, shown)


def _grid(shown: Walks, kind: str) -> np.ndarray:
    found = shown.parts("surface", surface=kind)
    if not found:
        fix = "run the study 'toy_walkers'"
        raise UserError(f"the tables have no surface '{kind}'", where="figures", fix=fix)
    return found[0].pivot(index="y", columns="x", values="height").to_numpy()


def _path(shown: Walks, kind: str, panel: str) -> tuple[np.ndarray, np.ndarray]:
    found = shown.parts("path", surface=kind)
    if not found:
        fix = "run the study 'toy_walkers'"
        raise UserError(f"the tables have no path on '{kind}'", where="figures", fix=fix)
    time, x, y = (found[0][name].to_numpy(np.float64) for name in ("step", "x", "y"))
    shown.note(panel, "x", time, x)
    shown.note(panel, "y", time, y)
    return x, y


def _map(axes: Axes, shown: Walks, kind: str, panel: str) -> None:
    """Draw a surface and one path across it."""
    x, y = _path(shown, kind, panel)
    axes.imshow(_grid(shown, kind), origin="lower", extent=(-1, 1, -1, 1), cmap="viridis")
    axes.plot(x, y, color="white", linewidth=0.5)
    axes.plot(x[0], y[0], "x", color=RED, ms=5)
    axes.plot(x[-1], y[-1], "o", color=RED, ms=4, mfc="none")
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])
    axes.set_xlabel("x")
    axes.set_ylabel("y")


def _zoom(axes: Axes, shown: Walks, kind: str, panel: str) -> None:
    """Draw the second half of the path, coloured by the length of its steps."""
    x, y = (one[500:] for one in _path(shown, kind, panel))
    points = np.stack([x, y], 1)
    pairs = np.stack([points[:-1], points[1:]], 1)
    lines = LineCollection(list(pairs), cmap="copper_r", linewidths=0.6)
    lines.set_array(np.log10(np.hypot(*np.diff(points, axis=0).T) + 1e-12))
    side = np.linspace(-1, 1, len(_grid(shown, kind)))
    axes.contour(side, side, _grid(shown, kind), 40, cmap="viridis", linewidths=0.4)
    axes.add_collection(lines)
    middle, reach = points.mean(axis=0), max(float(np.ptp(points, axis=0).max()) * 0.65, 0.05)
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
    axes.set_aspect("equal")
    axes.set_xlabel("x")
    axes.set_ylabel("y")


@la.figure("diffusion_landscape_fractal", scalars=["landscape"], series=["landscape"])
def fractal(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Roughness of the loss around trained networks, beside generated surfaces."""
    del chosen, temperature
    shown = typical(tables, load)
    with style.sheet():
        figure = style.page(SHEET)
        panels = figure.subplots(2, 3).ravel()
        _plane(panels[0], shown, "loss", "a")
        panels[0].set_xlabel("random direction 1")
        panels[0].set_ylabel("random direction 2")
        _plane(panels[1], shown, "pca", "b")
        panels[1].set_xlabel("principal direction 1")
        panels[1].set_ylabel("principal direction 2")
        for name, (words, colour) in SURFACES.items():
            for axes, quantity, panel in zip(
                panels[2:5], ("structure", "boxes", "spectrum"), "cde", strict=True
            ):
                for x, y in shown.curves(quantity, surface=name):
                    axes.plot(x, y, ".-", ms=3, lw=0.8, color=colour)
                    shown.note(panel, quantity, x, y, surface=name)
            for number, (x, y) in enumerate(shown.curves("structure", surface=name)):
                middle = np.sqrt(x[1:] * x[:-1])
                local = np.diff(np.log(y)) / np.diff(np.log(x))
                label = None if number else words
                panels[5].plot(middle, local, ".-", ms=3, lw=0.8, color=colour, label=label)
                shown.note("f", "local slope", middle, local, surface=name)
        loglog(panels[2], "distance (share of the side)", "structure function / variance")
        loglog(panels[3], "size of a box (share of the side)", "boxes")
        loglog(panels[4], "cycles per side", "power / variance")
        panels[5].axhline(2, color=style.GREY, linewidth=0.5, linestyle=":")
        panels[5].set_xscale("log")
        panels[5].xaxis.set_minor_formatter(style.Between())
        panels[5].set_ylim(0, 2.2)
        panels[5].set_xlabel("distance (share of the side)")
        panels[5].set_ylabel("slope of the structure function")
        figure.legend(*panels[5].get_legend_handles_labels(), loc="lower center", ncols=5)
        titles = ["random plane", "principal plane", "structure function", "box count"]
        titled(panels, [*titles, "spectrum", "local slope; 2 is smooth"])
        head(figure, shown)
        figure.subplots_adjust(**MARGINS | {"bottom": 0.125, "wspace": 0.72}, hspace=0.4)
    return finish(figure, shown)


def _plane(axes: Axes, shown: Walks, kind: str, panel: str) -> None:
    """Draw the loss on a plane and, on principal directions, the path of the weights in it."""
    found, paths = shown.parts("plane", surface=kind), shown.parts("plane_path", surface=kind)
    if not found:
        axes.text(0.5, 0.5, "no weights kept along training", ha="center", va="center")
        return
    loss = found[0].pivot(index="v", columns="u", values="loss")
    u, y = (found[0][name].to_numpy() for name in ("u", "loss"))
    shown.note(panel, "loss", u, y, surface=kind, v=found[0]["v"].to_numpy())
    grid = np.maximum(loss.to_numpy(), 1e-4)
    image = axes.imshow(grid, norm=LogNorm(), origin="lower", extent=(-1, 1, -1, 1))
    bar = cast("Any", axes.figure).colorbar(image, ax=axes, fraction=0.046, pad=0.04)
    bar.ax.set_title("nats", loc="left")
    for path in paths[:1]:
        epoch, x, y = (path[name].to_numpy(np.float64) for name in ("epoch", "u", "v"))
        axes.plot(x, y, ".-", color="white", lw=0.8, ms=3)
        axes.plot(x[0], y[0], "x", color=RED, ms=5)
        shown.note(panel, "path x", epoch, x)
        shown.note(panel, "path y", epoch, y)


@la.figure("diffusion_s1_msd", scalars=["diffusion"], series=["diffusion"])
def all_windows(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Displacement in all windows, and over the whole run."""
    del chosen, temperature
    shown = typical(tables, load)
    with style.sheet():
        figure = style.page(75, 150)
        panels = figure.subplots(1, 2)
        windows(panels[0], shown, "msd", shown.firsts("msd"), "a")
        for name, colour in (("msd_run", BLUE), ("still_msd_run", ORANGE)):
            label = {"msd_run": "as it is", "still_msd_run": "without drift"}[name]
            line(panels[1], shown, "b", name, {"color": colour, "label": label})
        for axes in panels:
            loglog(axes, LAG, MSD)
        panels[1].legend()
        titled(panels, ["all windows", "whole run (projected)"])
        head(figure, shown)
        figure.subplots_adjust(0.1, 0.15, 0.98, 0.86, wspace=0.3)
    return finish(figure, shown)
