"""Pictures of ensembles: error and likelihood, calibration, corrupted images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

import lossatlas as la
from lossatlas import uncertainty
from lossatlas.errors import UserError
from lossatlas.figures import Drawn, Tables, style
from lossatlas.figures.frames import experiment, frame, frames
from lossatlas.reference import simplex_curves
from lossatlas.simplex.ensembles import groups
from lossatlas.spec.figures import Figure as Chosen

MEASURES = {"error": "test error (%)", "nll": "test NLL (nats)"}
COLOURS = {0: style.INK, 1: "#2a78b0", 2: "#d1731c", 3: "#96c763", -1: "#d5aceb"}
COLOURS |= {-2: "#8b5525", -3: "#e089a8"}
MARKERS = {0: "o", 1: "s", 2: "^", 3: "D", -1: "x", -2: "+", -3: "v"}
NAMES = {0: "deep ensemble", -1: "fast geometric ensemble", -2: "MultiSWA", -3: "MultiSWAG"}
IN_A_ROW, ROW = 5, 4.4  # of a legend: entries, and mm
_BESIDE = 0.12  # of the distance of points: from method to method, so that bars stay apart


def method_name(code: int) -> str:
    """Return the words for a method: the replicas, a simplex, or an ensemble along SGD."""
    return NAMES.get(code, f"{code}-simplex")


def in_order(codes: pd.Series[float]) -> list[int]:
    """Return the methods of a column: simplexes by their dimension, then those along SGD."""
    return sorted((int(code) for code in codes.unique()), key=lambda code: (code < 0, abs(code)))


def _look(code: int) -> dict[str, Any]:
    colour = COLOURS.get(code, style.GREY)
    return {"color": colour, "marker": MARKERS.get(code, "."), "markersize": 3}


def averages(table: pd.DataFrame, by: str, measures: list[str]) -> pd.DataFrame:
    """Return mean, standard error and its degrees of freedom per method and `by`.

    Means are over groups of components. Groups share components, which the error knows
    (`uncertainty.mean_of_groups`); one group of all components has none.
    """
    rows = []
    parts: Any = table.groupby(["method", by])
    for (method, place), part in parts:
        row: dict[str, Any] = {"method": int(method), by: place, "groups": len(part)}
        for name in measures:
            found = _over_groups(part, part[name])
            row |= {name: found.value, f"{name}_stderr": found.stderr, f"{name}_df": found.df}
        rows.append(row)
    return pd.DataFrame(rows)


def _over_groups(rows: pd.DataFrame, values: pd.Series[float]) -> uncertainty.Estimate:
    """Return the mean of a row's values over groups, whose components follow from its size."""
    size, count = int(rows["components"].iloc[0]), len(rows)
    members = groups(count, size) if count > 1 else [(list(range(size)), True)]
    chosen = [members[int(group)][0] for group in rows["group"]]
    return uncertainty.mean_of_groups(values, chosen)


def _lines(axes: Axes, table: pd.DataFrame, x: str, y: str, **look: Any) -> None:
    methods = in_order(table["method"])
    step = float(np.min(np.diff(np.unique(table[x].to_numpy(float))), initial=np.inf))
    for number, method in enumerate(methods):
        line = table[table["method"] == method]
        errors = uncertainty.half_width(line[f"{y}_stderr"], line[f"{y}_df"])
        beside = (number - (len(methods) - 1) / 2) * _BESIDE * step if x != "passes" else 0.0
        style_of = {**_look(method), **look}
        places = line[x] + (beside if np.isfinite(beside) else 0.0)
        axes.errorbar(places, line[y], errors, capsize=1.2, elinewidth=0.6, lw=0.7, **style_of)


def key(figure: Figure, methods: list[int], extra: list[tuple[Line2D, str]] | None = None) -> None:
    """Draw the legend of methods, and of other lines, above the panels; see `key_height`."""
    lines = [(Line2D([], [], **_look(code)), method_name(code)) for code in methods]
    handles, words = zip(*lines, *(extra or []), strict=True)
    figure.legend(
        handles, words, loc="upper center", ncols=math.ceil(len(words) / _rows(len(words)))
    )


def _rows(entries: int) -> int:
    return math.ceil(entries / IN_A_ROW)


def key_height(entries: int) -> float:
    """Return the height in mm of the rows of a legend beyond the first."""
    return ROW * (_rows(entries) - 1)


@la.figure("simplex_ensembles", series=["espro"])
def ensembles(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Error and likelihood of ensembles, beside the published curves."""
    del chosen, load, temperature
    table = frame(tables, "ensembles")
    means = averages(table, "components", [*MEASURES, "passes"])
    methods = in_order(means["method"])
    with style.sheet():
        more = key_height(len(methods) + 1)
        height = 128 + more
        figure = style.page(height)
        panels = figure.subplots(2, 4)
        for row, (name, words) in enumerate(MEASURES.items()):
            for column, x in enumerate(("components", "passes")):
                _lines(panels[row, column], means, x, name)
            panels[row, 0].set_ylabel(words)
            panels[row, 1].sharey(panels[row, 0])
        theirs = _published()
        for row, data in zip(panels, simplex_curves.ERRORS, strict=True):
            for code, curve in theirs[theirs["source"] == data].groupby("method"):
                look = {**_look(int(str(code))), "linestyle": "--"}
                row[2].plot(curve["components"], curve["error"], **look)
                row[3].plot(curve["seconds"] / 3600, curve["error"], **look)
            row[2].set_title(f"published,\n{simplex_curves.NETWORK} on {data}")
            row[2].set_ylabel(MEASURES["error"])
            row[3].sharey(row[2])
        panels[0, 0].set_title(f"ours,\n{experiment(tables)}")
        below = ("components", "passes over the data", "components", "training time (hours)")
        for axes, words in zip(panels[1], below, strict=True):
            axes.set_xlabel(words)
        for axes in panels[:, ::2].flat:
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        key(figure, methods, [(Line2D([], [], color=style.INK, linestyle="--"), "published")])
        bottom, top = 11 / height, 1 - (19 + more) / height
        figure.subplots_adjust(0.075, bottom, 0.985, top, wspace=0.5, hspace=0.36)
    numbers = pd.concat([means.assign(source="ours"), theirs], ignore_index=True)
    numbers["method"] = [method_name(code) for code in numbers["method"]]
    columns = ["source", "method", "components", "passes", "seconds", *_with_error("error")]
    return Drawn(figure, numbers[[*columns, *_with_error("nll"), "groups"]])


def _with_error(name: str) -> list[str]:
    return [name, f"{name}_stderr", f"{name}_df"]


def _published() -> pd.DataFrame:
    """Return the published errors (percent) against components and seconds of training."""
    rows = [
        (data, code, components, components * simplex_curves.SECONDS[code], error)
        for data, curves in simplex_curves.ERRORS.items()
        for code, errors in curves.items()
        for components, error in enumerate(errors, 1)
    ]
    return pd.DataFrame(rows, columns=["source", "method", "components", "seconds", "error"])


@la.figure("simplex_calibration", series=["espro"])
def calibration(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Reliability and calibration error, before and after temperature scaling."""
    del chosen, load, temperature
    bins, table = _bins(tables), frame(tables, "ensembles")
    names = ["ece", "ece_scaled", "nll", "nll_scaled"]
    means = averages(table, "components", names)
    methods = in_order(means["method"])
    with style.sheet():
        more = key_height(len(methods) + 1)
        height = 130 + more
        figure = style.page(height)
        panels = figure.subplots(2, 2)
        for axes, (calm, words) in zip(
            panels[0], ((0, "as predicted"), (1, "temperature scaled")), strict=True
        ):
            axes.axhline(0, color=style.GREY, linewidth=0.6)
            for code in methods:
                line = bins[(bins["method"] == code) & (bins["scaled"] == calm)]
                gap = line["accuracy"] - line["confidence"]
                ends = [gap - (line["low"] - line["confidence"]), line["high"] - line["accuracy"]]
                beside = line["bin"] + (methods.index(code) - (len(methods) - 1) / 2) * _BESIDE
                look = {**_look(code), "elinewidth": 0.6, "lw": 0.4, "capsize": 1.2}
                axes.errorbar(beside, gap, np.abs(ends), **look)
            _name_bins(axes, bins[bins["scaled"] == calm])
            axes.set_title(f"{words}, {int(means['components'].max())} components")
            axes.set_title(experiment(tables) if calm else "", loc="right")
            axes.set_xlabel("bins of equally many test images: mean confidence")
            axes.set_ylabel("accuracy − confidence")
        panels[0, 1].sharey(panels[0, 0])
        below = (("ece", "calibration error (15 bins)"), ("nll", MEASURES["nll"]))
        for axes, (name, words) in zip(panels[1], below, strict=True):
            _lines(axes, means, "components", name)
            _lines(axes, means, "components", f"{name}_scaled", linestyle="--")
            axes.set_xlabel("components")
            axes.set_ylabel(words)
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        key(figure, methods, [(Line2D([], [], color=style.INK, linestyle="--"), "scaled")])
        bottom, top = 11 / height, 1 - (14 + more) / height
        figure.subplots_adjust(0.085, bottom, 0.98, top, wspace=0.25, hspace=0.4)
    bins = bins.dropna(axis="columns", how="all")
    reliable = bins.assign(part="reliability", method=[method_name(int(m)) for m in bins["method"]])
    curves = means.assign(part="components", method=[method_name(int(m)) for m in means["method"]])
    numbers = pd.concat([reliable, curves], ignore_index=True)
    return Drawn(figure, numbers[["part", *numbers.columns.drop("part")]])


def _bins(tables: Tables) -> pd.DataFrame:
    """Return the bins of equally many images: confidence, accuracy, ends of its 95% interval."""
    bins = frame(tables, "reliability_by_mass")
    low, high = uncertainty.proportion(bins["right"], bins["images"])
    return bins.assign(accuracy=bins["right"] / bins["images"], low=low, high=high)


def _name_bins(axes: Axes, bins: pd.DataFrame) -> None:
    """Write the confidence of every other bin, the mean over methods."""
    mean = bins.groupby("bin")["confidence"].mean()
    kept = mean.iloc[::2]
    axes.set_xticks(kept.index, [f"{value:.3g}" for value in kept])


KEY, PAIR = 8, 92  # mm of the page: of a key of one row, and of the panels of one kind of shift
SHIFTED = {
    "error": "test error (%)",
    "nll_scaled": "test NLL (nats), scaled",
    "ece_scaled": "calib. error, scaled",
}


@la.figure("simplex_corruption", series=["espro"])
def corruption(tables: Tables, chosen: Chosen, load: str, temperature: str) -> Drawn:
    """Ensembles on images unlike those of training: with noise, and corrupted ones."""
    del chosen, load, temperature
    found = frames(tables, "corruption", "kind")
    noise = found.pop("noise", None)
    rows = [] if noise is None else [("Gaussian noise", "s.d. of the noise", noise)]
    if found:
        every = pd.concat(found.values()).groupby(["method", "group", "severity"], as_index=False)
        mean = every.mean(numeric_only=True)
        rows.append((f"mean of {len(found)} corruptions", "severity", mean))
    if not rows:
        fix = "give 'severities' or 'corruptions' to espro"
        raise UserError("no shifted images were measured", where="figures", fix=fix)
    methods = in_order(rows[0][2]["method"])
    with style.sheet():
        first = KEY + key_height(len(methods))
        height = first + PAIR * len(rows)
        figure = style.page(height)
        for place, (words, label, table) in enumerate(rows):
            above = first + PAIR * place  # mm from the top of the page
            top, bottom = 1 - (above + 6) / height, 1 - (above + PAIR - 11) / height
            grid = figure.add_gridspec(2, len(SHIFTED), top=top, bottom=bottom)
            grid.update(left=0.075, right=0.985, wspace=0.38, hspace=0.42)
            pair: Any = grid.subplots()
            _shift_panels(pair, table, label)
            pair[0, 0].set_title(words)
            pair[0, -1].set_title(experiment(tables), loc="right")
        key(figure, methods)
    kinds = {} if noise is None else {"gaussian noise": noise}
    kinds |= found
    parts = [
        averages(table, "severity", list(SHIFTED)).assign(corruption=kind)
        for kind, table in kinds.items()
    ]
    numbers = pd.concat(parts, ignore_index=True)
    numbers["method"] = [method_name(int(code)) for code in numbers["method"]]
    numbers["components"] = int(rows[0][2]["components"].max())
    return Drawn(figure, numbers[["corruption", *numbers.columns.drop("corruption")]])


def _shift_panels(panels: Any, table: pd.DataFrame, label: str) -> None:
    """Draw the measures in the first row of panels, the gaps to the deep ensemble below."""
    means = averages(table, "severity", list(SHIFTED))
    base = means[means["method"] == 0].set_index("severity")
    for column, (name, words) in enumerate(SHIFTED.items()):
        _lines(panels[0, column], means, "severity", name)
        panels[0, column].set_ylabel(words)
        apart = means.copy()
        apart[name] = means[name] - base[name].loc[means["severity"]].to_numpy()
        apart[f"{name}_stderr"], apart[f"{name}_df"] = _paired(table, apart, name)
        _lines(panels[1, column], apart, "severity", name)
        panels[1, column].set_xlabel(label)
        panels[1, column].set_title("minus deep ensemble")


def _paired(table: pd.DataFrame, order: pd.DataFrame, name: str) -> tuple[list[float], list[float]]:
    """Return standard errors, and their df, of differences from the deep ensemble over groups."""
    keys = ["severity", "components", "group"]
    wide = table.pivot_table(index=keys, columns="method", values=name)
    found = []
    for method, severity in zip(order["method"], order["severity"], strict=True):
        gaps = (wide[method] - wide[0]).loc[[severity]].dropna()
        rows = gaps.index.to_frame(index=False)
        none = uncertainty.mean([])
        found.append(_over_groups(rows, gaps) if len(gaps) else none)
    return [one.stderr for one in found], [one.df for one in found]
