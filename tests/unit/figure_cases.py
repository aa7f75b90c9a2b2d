"""Every built-in figure with the smallest tables that it is drawn from."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import figure_tables as ft
import numpy as np
import pandas as pd
from test_figures_ablations import whole
from test_figures_diffusion import tables as walks
from test_figures_gain import two
from test_figures_simplex import plane
from test_figures_simplex import tables as of_parts
from test_figures_simplex_more import kinds, sweep
from test_figures_spectrum import rows as spectrum

from lossatlas.figures import Drawn, Tables, draw, style
from lossatlas.spec.figures import FIGURES, Figure
from lossatlas.store import Scalar, Series, Table
from lossatlas.tables import collect

CELLS = ft.product([1, 2, 4, 8], [16, 64, 256])
NAMED = ft.product([1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128], [16, 64, 256, 1024])
TAXONOMY = ("width", "batch_size")
DIFFUSION = ("depth", "learning_rate")
SEEDS = 2
RNG = np.random.default_rng(0)


@dataclass
class Case:
    """What a figure is called with."""

    tables: Tables
    load: str = ""
    temperature: str = ""
    more: dict[str, Any] | None = None

    def draw(self, name: str) -> Drawn:
        function = draw.resolve(name)
        with style.sheet():
            chosen = Figure(draws=name, **(self.more or {}))
            return function(self.tables, chosen, self.load, self.temperature)


def grid(cells: list = CELLS) -> Case:
    return Case(Tables(ft.scalars(cells, replicas=3), ft.no_series()), *TAXONOMY)


def curves() -> Case:
    pairs = ((0, 1), (1, 2))
    rows = ft.series(CELLS, paths=("bezier", "linear"), pairs=pairs)
    return Case(Tables(ft.scalars(CELLS, replicas=3), rows), *TAXONOMY)


def spectra() -> Case:
    one = spectrum(steps=8, probes=1, signs=False)
    parts = [
        one.assign(width=load, batch_size=batch, cell=f"c{(load, batch)}", x=one["x"] / load)
        for load, batch in CELLS
    ]
    return Case(Tables(ft.scalars(CELLS, replicas=3), pd.concat(parts)), *TAXONOMY)


def gain() -> Case:
    cells = {"experiment": "a", "against": "b"}
    return Case(Tables(two(), ft.no_series()), *TAXONOMY, more=cells)


def ensembles() -> Case:
    rows = [(m, j, g) for m in (0, 1, 2, 3, -1, -2, -3) for j in (1, 2, 3) for g in range(4)]
    rows = [(m, j, g) for m, j, g in rows if j < 4 or not g]
    method, size, group = (np.array(column) for column in zip(*rows, strict=True))
    value = 1 / size + group / 10 + method / 50
    names = ("error", "nll", "ece", "nll_scaled", "ece_scaled")
    table = {"method": method, "components": size, "group": group}
    table |= {**dict.fromkeys(names, value), "passes": 10 * size}
    bins = [(m, s, b) for m in (0, 1, 2, 3, -1, -2, -3) for s in (0, 1) for b in range(10)]
    of, scaled, place = (np.array(column) for column in zip(*bins, strict=True))
    by_mass = {"method": of, "scaled": scaled, "bin": place, "images": 36 + 0 * place}
    by_mass |= {"right": 20 + place, "confidence": 0.5 + place / 20}
    noise = kinds(["noise", "fog", "zoom_blur"])
    return Case(
        of_parts([Table("ensembles", table), Table("reliability_by_mass", by_mass), *noise])
    )


def planes() -> list[Table]:
    names = ("w0 w1 w2", "w0 w1 w3", "w0 w2 w3", "w1 w2 w3")
    return [
        Table(part.name, part.columns, index={"plane": name}) for name in names for part in plane()
    ]


def complex_() -> Case:
    vertices = {"mode": [1, 1, 0], "number": [0, 1, 0], "x": [-6.0, 6.0, 0.0]}
    vertices |= {"y": [0.0, 0.0, 1.2], "z": [0.0, 0.2, 0.4]}
    sizes = {"x": 6, "y": 0.6, "z": 0.2}
    cloud = {name: np.linspace(-1, 1, 5) * size for name, size in sizes.items()}
    parts = [Table("vertices", vertices), Table("points", cloud | {"train_loss": RNG.random(5)})]
    return Case(of_parts([*parts, Table("vertex_pairs", {"from": [0, 1], "to": [2, 2]})]))


def volume() -> Case:
    rows = [(w, c, p, s) for w in (0, 1, 2) for c in range(1, 8) for p in (0, 1, 2) for s in (0, 1)]
    way, connectors, pair, strength = (np.array(column) for column in zip(*rows, strict=True))
    value = 1.0 / connectors + pair / 50 + strength / 10
    table = {"way": way, "connectors": connectors, "pair": pair, "simplex": 0 * way}
    table |= {"regularisation": strength * 0.06, "strength": strength * 0.06, "height": value}
    table |= {"log_volume": -3.0 * connectors, "train_loss": value}
    table |= {"least_singular_value": value, "edge": value}
    return Case(of_parts([Table("volume", table)]))


def spirals() -> Case:
    x, y = (one.ravel() for one in np.meshgrid(np.linspace(-15, 15, 9), np.linspace(-15, 15, 9)))
    fields = {"x": x, "y": y} | {f"sample{k}": (x > k).astype(float) for k in range(3)}
    fields |= {"ensemble": (x + 15) / 30}
    data = {"x": [-3.0, 4.0], "y": [1.0, 2.0], "label": [0, 1]}
    summary = {"regularisation": [0.0, 0.0, 3.0, 3.0], "seed": [0, 1, 0, 1]}
    names = ("nll_base", "nll_sample", "nll_logits", "nll_ensemble")
    summary |= {name: [1.0, 0.5, 0.8, 0.3] for name in names}
    made = [Table("fields", fields), Table("data", data), Table("summary", summary)]
    return Case(of_parts([*planes(), *made]))


def sampling() -> Case:
    rows = [(w, e) for w in (0, 1) for e in (0, 1)]
    wrong, long = (np.array(column) for column in zip(*rows, strict=True))
    tests = {"wrong": wrong, "elongated": long, "p_chi_square": [0.4, 0.6, 1e-9, 1e-9]}
    tests |= {f"quarter{k}": [0.25] * 4 for k in range(4)}
    points = {name: np.repeat(one, 5) for name, one in (("wrong", wrong), ("elongated", long))}
    points |= {name: RNG.random(20) for name in "xyz"}
    return Case(of_parts([Table("points", points), Table("tests", tests)]))


def regression() -> Case:
    x, method = np.tile(np.linspace(-1.8, 1.8, 21), 3), np.repeat([0.0, 1.0, 2.0], 21)
    bands = {"method": method, "x": x, "mean": x, "sd": 0.1 * (1 + method), "truth": x}
    summary = {"repeat": [0, 0, 0, 1, 1, 1], "method": [0.0, 1, 2] * 2}
    summary |= {"sd_inside": [0.1] * 6, "sd_between": [0.2] * 6, "sd_outside": [0.4] * 6}
    parts = [Table("bands", bands), Table("summary", summary)]
    return Case(of_parts([*parts, Table("data", {"x": [-0.6, 0.5], "y": [-0.6, 0.5]})]))


def diversity() -> Case:
    inside = [Scalar("simplex_disagreement", 1.0 + seed, seed) for seed in range(3)]
    pairs = ((0, 1), (0, 2), (1, 2))
    between = [Scalar("mode_disagreement", 5.0 + sum(pair), *pair) for pair in pairs]
    scalars = collect.scalar_frame("e", {"c": {}}, {"c": [*inside, *between]})
    return Case(Tables(scalars, collect.series_frame("e", {"c": {}}, {"c": []})))


def toy() -> Case:
    side = np.linspace(-1, 1, 33)
    x, y = (one.ravel() for one in np.meshgrid(side, side))
    steps = np.arange(1001)
    parts = []
    for kind in ("fractal", "shuffled"):
        table = {"x": x, "y": y, "height": np.sin(3 * x) * y}
        path = {"step": steps, "x": np.sin(steps / 400) / 2, "y": np.cos(steps / 300) / 2}
        parts.append(Table("surface", table, index={"surface": kind}))
        parts.append(Table("path", path, index={"surface": kind}))
    lags = np.geomspace(1, 100, 9)
    names = ("fractal", "fractal small", "shuffled", "cone", "quadratic", "flat")
    for number, name in enumerate(names):
        parts += [
            _curve("msd", lags, 0.001 * lags * (1 + number), walkers=name, when=when)
            for when in ("early", "late")
        ]
        where = np.linspace(-2, 2, 9)
        parts.append(_curve("gradient_density", where, np.exp(-(where**2)), surface=name))
    shares = [Scalar(f"{name} wall_share", 0.1) for name in names]
    scalars = collect.scalar_frame("studies", {"c": {}}, {"c": shares})
    return Case(Tables(scalars, collect.series_frame("studies", {"c": {}}, {"c": parts})))


def _curve(name: str, x: np.ndarray, y: np.ndarray, **index: str) -> Any:
    return Series(name, x, y, "x", index=index)


def landscape() -> Case:
    u, v = (one.ravel() for one in np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)))
    parts: list[Any] = []
    for kind in ("loss", "pca"):
        table = {"u": u, "v": v, "loss": 0.01 + u**2 + v**2}
        parts.append(Table("plane", table, 0, index={"surface": kind}))
    path = {"epoch": [0, 1, 2], "u": [-0.9, -0.3, 0.0], "v": [0.0, 0.1, 0.0]}
    parts.append(Table("plane_path", path, 0, index={"surface": "pca"}))
    at = np.geomspace(0.02, 0.4, 5)
    for kind in ("loss", "pca", "fractal", "shuffled", "quadratic"):
        names = ("structure", "boxes", "spectrum")
        parts += [_curve(name, at, at**2, surface=kind) for name in names]
    series = collect.series_frame("e", {"c": {}}, {"c": parts})
    return Case(Tables(collect.scalar_frame("e", {"c": {}}, {"c": []}), series))


def walk() -> Case:
    made = walks()
    events = []
    for window in (0, 700, 1400):
        for replica in (0, 1):
            who = {"experiment": "e", "window": window, "replica": replica, "status": "ok"}
            first = made.series.iloc[0]
            who |= {a: first[a] for a in ("depth", "learning_rate", "batch_size", "cell")}
            lengths = {1.0: 60.0, 2.0: 20.0, 3.0: 8.0, 5.0: 2.0}
            events += [
                who | {"series": "avalanche_length", "x": x, "y": y} for x, y in lengths.items()
            ]
            events += [
                who
                | {"series": "after_avalanche", "step": k, "change": 0.1 / (1 + k), "contour": k}
                for k in range(1, 9)
            ]
    more = pd.DataFrame(events)
    cells = made.series["cell"].unique()
    parts = [more.assign(cell=cell, **_axes(made.series, cell)) for cell in cells]
    series = pd.concat([made.series, *parts], ignore_index=True)
    return Case(Tables(made.scalars, series), *DIFFUSION)


def _axes(series: pd.DataFrame, cell: str) -> dict[str, float]:
    first = series[series["cell"] == cell].iloc[0]
    return {axis: first[axis] for axis in ("depth", "learning_rate", "batch_size")}


def refinement() -> Case:
    """Shares of right labels on five grids, of three ways of choosing cells, from three starts."""
    rows = [
        {"grid": grid, "strategy": way, "size": 180, "start": start, "cells": cells}
        | {"share": min(0.6 + 0.004 * cells + 0.01 * start + 0.02 * k, 1.0)}
        for grid in ("straight", "island", "wavy", "tongue", "published")
        for k, way in enumerate(("random", "regular", "adaptive"))
        for start in range(3)
        for cells in (16, 30, 45)
    ]
    series = pd.DataFrame(rows).astype({"size": "Int64", "cells": "Int64"})
    names = {"experiment": "studies", "cell": "refinement", "series": "labels_right"}
    rest = dict.fromkeys(("replica", "partner", "x", "y", "stderr", "df"), np.nan)
    order = ["experiment", "cell", "series", "replica", "partner", *series.columns]
    series = series.assign(**names, **rest, status="ok")
    return Case(Tables(whole(), series[[*order, "x", "y", "stderr", "df", "status"]]))


def of_rates(rates: list[float], widths: tuple[int, ...] = (4, 8)) -> Tables:
    """Eigenvalues that rise from 0 to 2 / rate + replica."""
    rows = []
    for width, rate, seed, epoch in product(widths, rates, range(SEEDS), range(0, 60, 10)):
        place = ("e", f"net-w{width}-lr{rate}", width, rate, "eigenvalue", seed, None, 1, epoch)
        value = (2 / rate + seed) * math.tanh((epoch + 1) / 20)
        rows.append((*place, value, math.nan, math.nan, "ok"))
    names = ["experiment", "cell", "width", "learning_rate", "series", "replica", "partner"]
    series = pd.DataFrame(rows, columns=[*names, "rank", "x", "y", "stderr", "df", "status"])
    none = pd.DataFrame(columns=[*names[:4], *collect.SCALAR])
    return Tables(none, series.astype({"replica": "Int64", "rank": "Int64"}))


CASES: dict[str, Callable[[], Case]] = {
    "taxonomy_phase_diagram": grid,
    "taxonomy_phases": grid,
    "taxonomy_reference_phase_diagram": lambda: grid(NAMED),
    "taxonomy_reference_phases": lambda: grid(NAMED),
    "taxonomy_double_descent": grid,
    "taxonomy_curves": curves,
    "taxonomy_spectra": spectra,
    "taxonomy_decay_gain": gain,
    "taxonomy_refinement": refinement,
    "taxonomy_ablations": lambda: Case(Tables(whole(), ft.no_series()), *TAXONOMY),
    "edge_of_stability": lambda: Case(of_rates([0.1, 0.2, 0.4]), "width", "learning_rate"),
    "simplex_planes": lambda: Case(of_parts(planes())),
    "simplex_complex_3d": complex_,
    "simplex_volume": volume,
    "simplex_ensembles": ensembles,
    "simplex_calibration": ensembles,
    "simplex_corruption": ensembles,
    "simplex_corruption_kinds": ensembles,
    "simplex_diversity": diversity,
    "simplex_strength": lambda: Case(of_parts(sweep())),
    "simplex_two_spirals": spirals,
    "simplex_sampling_bias": sampling,
    "simplex_regression": regression,
    "diffusion_fig4_toy": toy,
    "diffusion_landscape_fractal": landscape,
}
CASES |= {name: walk for name in FIGURES if name not in CASES}
