"""Claims about anomalous diffusion: Chen et al. (2022), and what controls say of them.

Sizes are those of the authors' figures (ResNets on CIFAR-10); on other networks the direction is
what carries over. A claim is checked on the cell of largest load, lowest middle temperatures; those
about trends on all cells of the largest load.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from lossatlas.claims.checks import Finding
from lossatlas.claims.grid import NotTestableError
from lossatlas.claims.statements import Claim, Found
from lossatlas.errors import UserError
from lossatlas.figures.walks import Walks, typical
from lossatlas.tables.collect import axes_of

PAPER = "Chen et al. 2022"
PLOTTED = (0.5, 2.5)  # local exponents
LAGS = (10, 300)


def _loads(found: Found) -> str:
    """Return the load axis: depth or width, else the first axis."""
    axes = axes_of(found["diffusion"].series)
    known = [axis for axis in axes if axis in ("depth", "width")]
    return (known or [*axes, ""])[0]


def _cell(found: Found, *, smallest: bool = False) -> Walks:
    try:
        return typical(found["diffusion"], _loads(found), smallest=smallest)
    except UserError as error:
        raise NotTestableError(str(error)) from None


def _rows(found: Found, metric: str) -> pd.DataFrame:
    """Return the sound rows of a scalar over the cells of the largest load."""
    table = found["diffusion"].scalars
    load = _loads(found)
    if load in table:
        table = table[table[load] == table[load].max()]
    rows = table[(table["metric"] == metric) & table["status"].isin(["ok", "unconverged"])]
    if rows.empty:
        raise NotTestableError(f"no {metric}")
    return rows


def _value(found: Found, metric: str, *, smallest: bool = False) -> float:
    """Return the mean over replicas of a scalar of the cell that is shown."""
    cell = _cell(found, smallest=smallest).rows["cell"].iloc[0]
    table = found["diffusion"].scalars
    rows = table[(table["cell"] == cell) & (table["metric"] == metric)]
    values = rows[rows["status"].isin(["ok", "unconverged"])]["value"]
    if values.empty:
        raise NotTestableError(f"no {metric}")
    return float(values.mean())


def early_is_super(found: Found) -> Finding:
    """C1: the exponent of the first window, beside that of a convex loss."""
    value, least = _value(found, "exponent_first"), _value(found, "exponent_first", smallest=True)
    still = _value(found, "still_exponent_first")
    rows = _cell(found, smallest=True).rows
    convex = "depth" in rows and rows["depth"].iloc[0] == 0
    control = "a convex loss" if convex else "smallest load"
    return Finding(
        value > 1, value, f"{value:.2f}; without drift {still:.2f}; {control} {least:.2f}"
    )


def late_is_sub(found: Found) -> Finding:
    """C2: the exponent of the last window."""
    value = _value(found, "exponent_last")
    surrogate = _value(found, "surrogate_exponent_last")
    text = f"{value:.2f}; the same steps in random order {surrogate:.2f}"
    return Finding(value < 1, value, text)


def exponent_falls(found: Found) -> Finding:
    """C3: Spearman's rho of window and exponent."""
    x, y = _cell(found).mean("exponent", logarithm=False)
    if len(x) < 3:
        raise NotTestableError("fewer than 3 windows")
    value = float(stats.spearmanr(x, y).statistic)
    return Finding(value < 0, value, f"rho {value:.2f} over {len(x)} windows")


def small_rates_are_smooth(found: Found) -> Finding:
    """C4: exponents of both windows at the smallest learning rate."""
    first, last = _rows(found, "exponent_first"), _rows(found, "exponent_last")
    if "learning_rate" not in first or first["learning_rate"].nunique() < 2:
        raise NotTestableError("one learning rate")
    rates = first.groupby("learning_rate")["value"].mean()
    late = last.groupby("learning_rate")["value"].mean()
    slowest = rates.index.min()
    text = "; ".join(f"{rate:g}: {rates[rate]:.2f} and {late[rate]:.2f}" for rate in rates.index)
    holds = rates[slowest] >= 1.8 and late[slowest] >= 1.7
    return Finding(bool(holds), float(rates[slowest]), f"first and last window at {text}")


def batch_matters_little(found: Found) -> Finding:
    """C5: the largest deviation of the early exponent from its mean over batch sizes."""
    rows = _rows(found, "exponent_first")
    if "batch_size" not in rows or rows["batch_size"].nunique() < 2:
        raise NotTestableError("one batch size")
    others = [a for a in axes_of(found["diffusion"].scalars) if a != "batch_size"]
    keys = [*others, "batch_size"]
    means = rows.groupby(keys)["value"].mean().unstack("batch_size")
    spread = float(means.sub(means.mean(axis=1), axis=0).abs().to_numpy().max())
    return Finding(spread <= 0.15, spread, f"at most {spread:.2f} from the mean")


def shortcuts_help(found: Found) -> Finding:
    """C6: needs networks without shortcuts."""
    table = found["diffusion"].scalars
    axis = next((a for a in table.columns if a.endswith("shortcut")), "")
    if not axis or not (table[axis] == 0).any():
        raise NotTestableError("no networks without shortcuts along an axis 'model.shortcut'")
    depth = "depth" if "depth" in table else "model.depth"
    rows = table[(table["metric"] == "exponent_first") & (table["status"] == "ok")]
    bare = rows[rows[axis] == 0].groupby(depth)["value"].mean()
    if len(bare) < 3:
        raise NotTestableError("fewer than 3 depths without shortcuts")
    value = float(stats.spearmanr(bare.index, bare.to_numpy()).statistic)
    return Finding(value < 0, value, f"rho(depth, exponent) {value:.2f} without shortcuts")


def local_exponents_in_range(found: Found) -> Finding:
    """C7: the share of local exponents inside the plotted range."""
    shown = _cell(found)
    values = []
    for first in shown.firsts("local_exponent"):
        for x, y in shown.curves("local_exponent", window=first):
            values.append(y[(x >= LAGS[0]) & (x <= LAGS[1])])
    if not values:
        raise NotTestableError("no local exponents")
    joined = np.concatenate(values)
    share = float(((joined >= PLOTTED[0]) & (joined <= PLOTTED[1])).mean())
    return Finding(
        share > 0.5, share, f"{share:.0%}, from {joined.min():.2f} to {joined.max():.2f}"
    )


def amplitude_falls(found: Found) -> Finding:
    """C8: displacement at the longest lag, first window over last."""
    last = _value(found, "msd_long_last")
    if not last > 0:
        raise NotTestableError("nothing moves in the last window")
    ratio = _value(found, "msd_long_first") / last
    return Finding(ratio >= 3, ratio, f"{ratio:.3g} times smaller in the last window")


def loss_grows_with_distance(found: Found) -> Finding:
    """C9: the exponent of the squared loss difference against distance."""
    first, last = _value(found, "msl_exponent_first"), _value(found, "msl_exponent_last")
    return Finding(first > 0 and last > 0, first, f"{first:.2f}, in the last window {last:.2f}")


def path_is_bent(found: Found) -> Finding:
    """C10: the exponent of displacement against contour length in the first window."""
    value = _value(found, "path_exponent_first")
    return Finding(1 < value < 2, value, f"{value:.2f}: a path of dimension {2 / value:.2f}")


def loss_settles(found: Found) -> Finding:
    """C11: the largest moving variance in the second half of the run."""
    x, y = _cell(found).mean("moving_variance", logarithm=False)
    if not len(x):
        raise NotTestableError("no moving variance")
    worst = float(y[x >= x[-1] / 2].max())
    return Finding(worst <= 0.005, worst, f"at most {worst:.2g} in the second half of the run")


def gradients_become_normal(found: Found) -> Finding:
    """C12: the stable index of pooled gradients, last window less first, beside the null."""
    first, last = _value(found, "stable_alpha_first"), _value(found, "stable_alpha_last")
    null = _value(found, "mixture_alpha_first")
    text = f"{first:.2f} to {last:.2f}; normal numbers of the same scales {null:.2f}"
    return Finding(last - first >= 0.5, last - first, text)


def _toy(found: Found, name: str) -> float:
    rows = found["toy_walkers"].scalars
    values = rows[rows["metric"] == name]["value"].dropna()
    if values.empty:
        raise NotTestableError(f"no '{name}'")
    return float(values.iloc[0])


def walkers_settle(found: Found) -> Finding:
    """C13: exponents of settled walkers on fractal and flat surfaces."""
    settled, flat = _toy(found, "fractal late_short"), _toy(found, "flat early_short")
    text = f"fractal, settled {settled:.2f}; flat {flat:.3f}"
    return Finding(settled < 1 and abs(flat - 1) <= 0.02, settled, text)


def fractals_are_special(found: Found) -> Finding:
    """C14: early exponents on fractal and cone; with a small step as well."""
    fractal, cone = _toy(found, "fractal early_long"), _toy(found, "cone early_long")
    small = _toy(found, "fractal small early_long")
    cone_small = _toy(found, "cone small early_long")
    text = f"fractal {fractal:.2f}, cone {cone:.2f}; with a small step {small:.2f}, "
    text += f"{cone_small:.2f}: constant drift is ballistic"
    return Finding(fractal > 1 and cone <= 1, fractal - cone, text)


def random_labels_too(found: Found) -> Finding:
    """C15: the early exponent with random labels."""
    rows = _rows(found, "exponent_first")
    if "label_noise" not in rows or rows["label_noise"].max() < 1:
        raise NotTestableError("no cell with label_noise 1")
    value = float(rows[rows["label_noise"] == 1]["value"].mean())
    return Finding(value > 1, value, f"{value:.2f}")


_D = "diffusion"
CLAIMS = (
    Claim(
        "C1",
        "Early in training the weights move superdiffusively.",
        "exponent at lags 10 to 100 above 1 (authors: 1.01 to 1.42)",
        _D,
        early_is_super,
    ),
    Claim(
        "C2",
        "Late in training they move subdiffusively.",
        "exponent below 1 in the last window (authors: 0.6 to 0.9)",
        _D,
        late_is_sub,
    ),
    Claim("C3", "The exponent falls during training.", "rho < 0", _D, exponent_falls),
    Claim(
        "C4",
        "With a small learning rate the path is smooth in all windows.",
        "both exponents near 2 at the smallest rate (1.8 and 1.7 at 0.01)",
        _D,
        small_rates_are_smooth,
    ),
    Claim(
        "C5",
        "The early exponent depends little on the batch size.",
        "within 0.15 of the mean",
        _D,
        batch_matters_little,
    ),
    Claim(
        "C6",
        "Without shortcuts deeper networks are less superdiffusive.",
        "rho(depth, exponent) < 0",
        _D,
        shortcuts_help,
    ),
    Claim(
        "C7",
        "Local exponents stay within the plotted range.",
        "mostly 0.5 to 2.5 at lags 10 to 300",
        _D,
        local_exponents_in_range,
    ),
    Claim(
        "C8",
        "Displacement at long lags shrinks during training.",
        "3-fold or more",
        _D,
        amplitude_falls,
    ),
    Claim(
        "C9",
        "The loss differs more the farther two points are.",
        "exponent above 0",
        _D,
        loss_grows_with_distance,
    ),
    Claim(
        "C10",
        "The early path is neither straight nor a random walk.",
        "exponent against contour length between 1 and 2",
        _D,
        path_is_bent,
    ),
    Claim(
        "C11",
        "The moving variance of the loss becomes small.",
        "at most 0.005 after the first windows",
        _D,
        loss_settles,
    ),
    Claim(
        "C12",
        "The tails of gradients become lighter during training.",
        "stable index rises by 0.5 or more",
        _D,
        gradients_become_normal,
    ),
    Claim(
        "C13",
        "Settled walkers on a fractal are subdiffusive.",
        "exponent below 1; 1.00 within 0.02 on a flat surface",
        "toy_walkers",
        walkers_settle,
    ),
    Claim(
        "C14",
        "Walkers are superdiffusive on a fractal surface and not on a convex one.",
        "early exponent above 1 on the fractal, at most 1 on the cone",
        "toy_walkers",
        fractals_are_special,
    ),
    Claim(
        "C15",
        "Random labels show superdiffusion early as well.",
        "exponent above 1",
        _D,
        random_labels_too,
    ),
)
