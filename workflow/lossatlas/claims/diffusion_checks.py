"""How each claim of Chen et al. (2022) is checked: one function per claim of `diffusion`.

A claim about trained networks is looked at in every cell of the largest load that meets its
condition, and holds if it does in each of them (intersection-union). In a cell the replicas are the
independent units. Cells that share seeds share initial weights and data orders, so they do not add
units. Numbers that did not converge are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from lossatlas.claims.conditions import NotTestableError
from lossatlas.claims.found import Found
from lossatlas.claims.grid import rho
from lossatlas.claims.statements import Finding
from lossatlas.claims.statistics import Test, all_of, around, below_zero, from_error, interval
from lossatlas.tables.collect import axes_of

PLOTTED = (0.5, 2.5)  # local exponents
LAGS = (10, 300)
SLOW = 0.01  # learning rate up to which the authors' exponents are near 2
SMOOTH = (1.8, 1.7)  # their first and last exponent there
SPREAD = 0.15  # of the early exponent over batch sizes, in their table
QUIET = 0.005  # moving variance of the loss, the end of their axis
FLAT = 0.02  # deviation from 1 on a flat surface
SURFACES = 5  # of a rough kind, over which the walkers' errors are taken
WALKERS = 300
REPLICAS = "replicas"


def _load(table: pd.DataFrame) -> str:
    """Return the load axis: depth or width, else the first axis; "" if there is none."""
    axes = axes_of(table)
    known = [axis for axis in axes if axis in ("depth", "width")]
    return (known or [*axes, ""])[0]


def _largest(table: pd.DataFrame, noise: float = 0.0) -> pd.DataFrame:
    """Return the rows of the largest load and of that share of random labels."""
    load = _load(table)
    if "label_noise" in axes_of(table):
        table = table[table["label_noise"] == noise]
    if load in table and load != "label_noise":
        table = table[table[load] == table[load].max()]
    if table.empty:
        raise NotTestableError("no cell of the largest load meets the condition")
    return table


def _windows(found: Found, least: int) -> None:
    """Refuse runs with fewer windows, in which the first one would be compared with itself."""
    series = found.tables("diffusion").series
    rows = series[series["series"] == "exponent"]
    counts = rows.groupby(["cell", "replica"])["x"].nunique()
    fewest = int(counts.min()) if len(counts) else 0
    if fewest < least:
        some = "window has" if fewest == 1 else "windows have"
        raise NotTestableError(f"{fewest} {some} exponents; it takes {least}")


def _numbers(found: Found, *names: str, noise: float = 0.0) -> pd.DataFrame:
    """Return scalars (a column each) by cell and replica, of runs that have them all.

    The values of the axes are columns, too.
    """
    table = _largest(found.scalars("diffusion", *names), noise)
    index = ["cell", *axes_of(table), "replica"]
    wide = table.pivot_table(index=index, columns="metric", values="value", observed=True)
    wide = wide.reindex(columns=list(names)).dropna().reset_index()
    if wide.empty:
        raise NotTestableError(f"no run has {' and '.join(names)}")
    whole = found.tables("diffusion").scalars
    asked = _largest(whole[whole["metric"] == names[0]], noise)
    wide.attrs["lost"] = len(asked[["cell", "replica"]].drop_duplicates()) - len(wide)
    return wide


def _in_every_cell(runs: pd.DataFrame, gaps: pd.Series) -> tuple[bool, Test]:
    """Return whether the mean gap is below 0 in every cell, and the test of that."""
    each = [part.to_numpy(np.float64) for _, part in gaps.groupby(runs["cell"])]
    return all(part.mean() < 0 for part in each), all_of(
        *(below_zero(part, REPLICAS) for part in each)
    )


def _finding(runs: pd.DataFrame, values: pd.Series, gaps: list[pd.Series], text: str) -> Finding:
    """Return what gaps below 0 say, in every cell.

    Args:
        runs: A row per cell and replica.
        values: The effect of each run; its mean over cells has one number per replica.
        gaps: Of each statement, per run.
        text: What is told before the cells' numbers.
    """
    outcomes = [_in_every_cell(runs, gap) for gap in gaps]
    each = values.groupby(runs["replica"]).mean().to_numpy(np.float64)
    means = values.groupby(runs["cell"]).mean()
    words = f"{text}{_spelled(runs, means)}"
    if lost := runs.attrs.get("lost", 0):
        words += f"; {lost} runs are left out, which diverged or whose numbers did not converge"
    holds, test = all(fine for fine, _ in outcomes), all_of(*(test for _, test in outcomes))
    return Finding(float(values.mean()), words, holds, lambda: test, *interval(each))


def _spelled(runs: pd.DataFrame, means: pd.Series) -> str:
    """Return a number per cell, named by the axes that tell cells apart."""
    axes = [a for a in _axes(runs) if runs[a].nunique() > 1]
    first = runs.drop_duplicates("cell").sort_values(axes) if axes else runs.drop_duplicates("cell")
    parts = []
    for _, row in first.iterrows():
        place = ", ".join(f"{axis} {row[axis]:g}" for axis in axes)
        parts.append(f"{means[row['cell']]:.3g}" + (f" at {place}" if place else ""))
    return "; ".join(parts)


def _axes(runs: pd.DataFrame) -> list[str]:
    """Return the axes among the columns of runs: those between the cell and the replica."""
    names = list(runs.columns)
    return names[names.index("cell") + 1 : names.index("replica")]


def _control(found: Found, name: str, words: str) -> str:
    """Return a control's mean over the same cells, "" where it was not measured."""
    try:
        value = float(_numbers(found, name)[name].mean())
    except NotTestableError:
        return ""
    return f"; {words} {value:.2f}"


def _least_load(found: Found) -> str:
    """Return the early exponent of the smallest load, which is a convex loss at depth 0."""
    try:
        table = found.scalars("diffusion", "exponent_first")
    except NotTestableError:
        return ""
    load = _load(table)
    if load not in table or table[load].nunique() < 2:
        return ""
    least = table[table[load] == table[load].min()]
    convex = load == "depth" and least[load].iloc[0] == 0
    words = "a convex loss" if convex else "smallest load"
    return f"; {words} {least['value'].mean():.2f}"


def early_is_super(found: Found) -> Finding:
    """C1: the exponent of the first window, beside that of a convex loss."""
    _windows(found, 2)
    runs = _numbers(found, "exponent_first")
    value = runs["exponent_first"]
    finding = _finding(runs, value, [1 - value], "")
    more = _control(found, "still_exponent_first", "without drift") + _least_load(found)
    return replace(finding, observed=finding.observed + more)


def late_is_sub(found: Found) -> Finding:
    """C2: the exponent of the last window."""
    _windows(found, 2)
    runs = _numbers(found, "exponent_last")
    value = runs["exponent_last"]
    finding = _finding(runs, value, [value - 1], "")
    more = _control(found, "surrogate_exponent_last", "the same steps in random order")
    return replace(finding, observed=finding.observed + more)


def _curves(found: Found, name: str) -> pd.DataFrame:
    """Return the points of a curve in the cells of the largest load, converged ones alone."""
    series = found.tables("diffusion").series
    rows = series[(series["series"] == name) & (series["status"] == "ok") & series["y"].notna()]
    if rows.empty:
        raise NotTestableError(f"no {name.replace('_', ' ')}")
    return _largest(rows)


def _per_run(rows: pd.DataFrame, summary: Callable[[pd.DataFrame], float]) -> pd.DataFrame:
    """Return a row per cell and replica with a number of its points."""
    index = ["cell", *axes_of(rows), "replica"]
    made = [(*key, summary(part)) for key, part in rows.groupby(index, observed=True)]
    runs = pd.DataFrame(made, columns=[*index, "value"]).dropna(subset=["value"])
    if runs.empty:
        raise NotTestableError("no run has enough points")
    return runs


def exponent_falls(found: Found) -> Finding:
    """C3: Spearman's rho of window and exponent, in each run."""
    _windows(found, 3)
    rows = _curves(found, "exponent")
    runs = _per_run(rows, lambda part: rho(part["x"].to_numpy(), part["y"].to_numpy()))
    return _finding(runs, runs["value"], [runs["value"]], "rho ")


def small_rates_are_smooth(found: Found) -> Finding:
    """C4: exponents of both windows at the smallest learning rate."""
    _windows(found, 2)
    runs = _numbers(found, "exponent_first", "exponent_last")
    if "learning_rate" not in runs or runs["learning_rate"].nunique() < 2:
        raise NotTestableError("one learning rate")
    slowest = runs["learning_rate"].min()
    if slowest > SLOW:
        raise NotTestableError(f"the smallest learning rate is {slowest:g}, above {SLOW:g}")
    runs = runs[runs["learning_rate"] == slowest]
    first, last = runs["exponent_first"], runs["exponent_last"]
    text = f"last window {last.mean():.2f} at rate {slowest:g}; first window "
    return _finding(runs, first, [SMOOTH[0] - first, SMOOTH[1] - last], text)


def batch_matters_little(found: Found) -> Finding:
    """C5: the largest deviation of the early exponent from its mean over batch sizes."""
    _windows(found, 2)
    runs = _numbers(found, "exponent_first")
    if "batch_size" not in runs or runs["batch_size"].nunique() < 2:
        raise NotTestableError("one batch size")
    others = [axis for axis in _axes(runs) if axis != "batch_size"]
    wide = runs.pivot_table(
        index=[*others, "replica"], columns="batch_size", values="exponent_first"
    ).dropna()
    if wide.empty or wide.shape[1] < 2:
        raise NotTestableError("no replica was run with two batch sizes")
    spread = wide.sub(wide.mean(axis=1), axis=0).abs().max(axis=1).reset_index(name="value")
    spread["cell"] = spread[others].astype(str).agg(" ".join, axis=1) if others else ""
    columns = ["cell", *others, "replica", "value"]
    spread = spread[columns]
    return _finding(spread, spread["value"], [spread["value"] - SPREAD], "largest deviation ")


def shortcuts_help(found: Found) -> Finding:
    """C6: rho(depth, exponent) in each replica, of networks without shortcuts."""
    table = found.scalars("diffusion", "exponent_first")
    axis = next((a for a in axes_of(table) if a.endswith("shortcut")), "")
    if not axis or not (table[axis] == 0).any():
        raise NotTestableError("no networks without shortcuts along an axis 'model.shortcut'")
    depth = "depth" if "depth" in table else "model.depth"
    bare = table[table[axis] == 0]
    if depth not in bare or bare[depth].nunique() < 3:
        raise NotTestableError("fewer than 3 depths without shortcuts")
    means = bare.groupby(["replica", depth])["value"].mean().unstack(depth).dropna()
    if means.empty:
        raise NotTestableError("no replica was run at all depths")
    depths = means.columns.to_numpy(np.float64)
    each = np.array([rho(depths, row) for row in means.to_numpy()])
    text = f"rho(depth, exponent) {each.mean():.2f} without shortcuts"
    test = partial(below_zero, each, REPLICAS)
    return Finding(float(each.mean()), text, each.mean() < 0, test, *interval(each))


def local_exponents_in_range(found: Found) -> Finding:
    """C7: the share of local exponents inside the plotted range."""
    rows = _curves(found, "local_exponent")
    rows = rows[rows["x"].between(*LAGS)]
    if rows.empty:
        raise NotTestableError(f"no local exponents at lags {LAGS[0]} to {LAGS[1]}")
    runs = _per_run(rows, lambda part: float(part["y"].between(*PLOTTED).mean()))
    text = f"{rows['y'].min():.2f} to {rows['y'].max():.2f}; share "
    return _finding(runs, runs["value"], [0.5 - runs["value"]], text)


def amplitude_falls(found: Found) -> Finding:
    """C8: displacement at the longest lag, first window over last (geometric mean)."""
    _windows(found, 2)
    runs = _numbers(found, "msd_long_first", "msd_long_last")
    if not (runs[["msd_long_first", "msd_long_last"]] > 0).all(axis=None):
        raise NotTestableError("nothing moves in a window")
    ratio = (runs["msd_long_first"] / runs["msd_long_last"]).map(math.log)
    found_ = _finding(runs, ratio, [-ratio], "")
    times = _spelled(runs, np.exp(ratio.groupby(runs["cell"]).mean()))
    sizes = (math.exp(found_.effect), math.exp(found_.low), math.exp(found_.high))
    text = f"times smaller in the last window: {times}"
    return Finding(sizes[0], text, found_.holds, found_.test, sizes[1], sizes[2])


def loss_grows_with_distance(found: Found) -> Finding:
    """C9: the exponent of the squared loss difference against distance."""
    _windows(found, 2)
    runs = _numbers(found, "msl_exponent_first", "msl_exponent_last")
    first, last = runs["msl_exponent_first"], runs["msl_exponent_last"]
    text = f"last window {last.mean():.2f}; first window "
    return _finding(runs, first, [-first, -last], text)


def path_is_bent(found: Found) -> Finding:
    """C10: the exponent of displacement against contour length in the first window."""
    _windows(found, 2)
    runs = _numbers(found, "path_exponent_first")
    value = runs["path_exponent_first"]
    return _finding(runs, value, [1 - value, value - 2], "")


def loss_settles(found: Found) -> Finding:
    """C11: the largest moving variance in the second half of each run."""
    rows = _curves(found, "moving_variance")
    late = rows[rows["x"] >= rows.groupby(["cell", "replica"])["x"].transform("max") / 2]
    runs = _per_run(late, lambda part: float(part["y"].max()))
    return _finding(runs, runs["value"], [runs["value"] - QUIET], "largest moving variance ")


def gradients_become_normal(found: Found) -> Finding:
    """C12: the stable index of pooled gradients, last window less first, beside the null."""
    _windows(found, 2)
    runs = _numbers(found, "stable_alpha_first", "stable_alpha_last")
    first, last = runs["stable_alpha_first"], runs["stable_alpha_last"]
    text = f"{first.mean():.2f} to {last.mean():.2f}"
    text += _control(found, "mixture_alpha_first", "normal numbers of the same scales")
    return _finding(runs, last - first, [first - last], f"{text}; change ")


def _toy(found: Found, name: str) -> tuple[float, float, float]:
    """Return an exponent of walkers, its standard error and the degrees of freedom of that.

    Errors on rough surfaces are those of resampled surfaces, on others of resampled walkers.
    """
    row = found.scalars("toy_walkers", name).iloc[0]
    stderr = float(row["stderr"]) if pd.notna(row["stderr"]) else math.nan
    if not stderr >= 0:
        raise NotTestableError(f"'{name}' has no standard error")
    return float(row["value"]), stderr, float(SURFACES if name.startswith("fractal") else WALKERS)


def walkers_settle(found: Found) -> Finding:
    """C13: exponents of settled walkers on fractal and flat surfaces."""
    settled, stderr, count = _toy(found, "fractal late_short")
    flat = _toy(found, "flat early_short")[0]
    text = f"fractal, settled {settled:.2f}; flat {flat:.3f}"
    holds = settled < 1 and abs(flat - 1) <= FLAT
    test = partial(from_error, settled - 1, stderr, count - 1, int(count), "surfaces")
    return Finding(settled, text, holds, test, *around(settled, stderr, count))


def fractals_are_special(found: Found) -> Finding:
    """C14: early exponents on fractal and cone; with a small step as well."""
    (fractal, *error), (cone, *other) = (
        _toy(found, f"{kind} early_long") for kind in ("fractal", "cone")
    )
    small = _toy(found, "fractal small early_long")[0]
    cone_small = _toy(found, "cone small early_long")[0]
    text = f"fractal {fractal:.2f}, cone {cone:.2f}; with a small step {small:.2f}, "
    text += f"{cone_small:.2f}"

    def test() -> Test:
        return all_of(
            from_error(1 - fractal, error[0], error[1] - 1, int(error[1]), "surfaces"),
            from_error(cone - 1, other[0], other[1] - 1, int(other[1]), "walkers"),
        )

    return Finding(fractal, text, fractal > 1 and cone <= 1, test, *around(fractal, *error))


def random_labels_too(found: Found) -> Finding:
    """C15: the early exponent with random labels."""
    _windows(found, 2)
    runs = _numbers(found, "exponent_first", noise=1.0)
    value = runs["exponent_first"]
    return _finding(runs, value, [1 - value], "")
