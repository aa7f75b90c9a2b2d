"""How claims about two experiments are checked, cell by cell: the same networks, trained otherwise.

One function per claim of `variants`. Quantities of the second experiment have `OTHER` before their
names. The cells, or columns of cells, that both have are the independent units.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from lossatlas.claims.cells import OTHER, SCORE, Cells
from lossatlas.claims.checks import CELLS, PROXIES
from lossatlas.claims.conditions import NotTestableError
from lossatlas.claims.grid import FEWEST
from lossatlas.claims.regions import POOR, at_border, regions, shown
from lossatlas.claims.statements import Finding
from lossatlas.claims.statistics import Floats, Test, all_of, below_zero, larger_than_rest

VARYING = ("test_accuracy", "train_loss", *PROXIES)


def decay_helps_at_border(c: Cells) -> Finding:
    """T16: the gain of accuracy at the border of connectivity and on both sides; the phases."""
    gain = c["test_accuracy"] - c[OTHER + "test_accuracy"]
    kept, poor, border = np.isfinite(gain) & (c.phase != ""), np.isin(c.phase, POOR), at_border(c)
    at = kept & border
    sides = {"poorly": kept & poor & ~border, "well": kept & ~poor & ~border}
    if not at.any():
        raise NotTestableError("no cell is at the border of connectivity")
    if empty := [name for name, side in sides.items() if not side.any()]:
        raise NotTestableError(f"no cell is {empty[0]} connected and away from the border")
    leads = [float(gain[at].mean() - gain[side].mean()) for side in sides.values()]
    decayed, constant = regions(c, c.phase), regions(c, c.other_phase)
    text = f"gain {gain[at].mean():+.2f} points in {at.sum()} cells at the border, "
    text += ", ".join(f"{gain[side].mean():+.2f} {name} connected" for name, side in sides.items())
    text += f"; with decay {shown(decayed)}; at a constant rate {shown(constant)}"

    def test() -> Test:
        peaks = [larger_than_rest(gain[at | s], at[at | s], CELLS) for s in sides.values()]
        return all_of(*peaks, decayed.test(), constant.test())

    holds = min(leads) > 0 and not (decayed.lacking or constant.lacking)
    return Finding(min(leads), text, holds, test)


def scaling_levels(c: Cells) -> Finding:
    """T23: how much quantities vary along the batch size beside the experiment without scaling.

    Of each column the mean over quantities of the logarithm of the ratio of standard deviations.
    """
    ratios = {name: _ratios(c, name) for name in VARYING}
    table = np.array(list(ratios.values()))
    columns = np.isfinite(table).any(axis=0)
    if not columns.any():
        raise NotTestableError(f"no line along batch_size has {FEWEST} cells in both experiments")
    each = np.nanmean(table[:, columns], axis=0)
    effect = float(each.mean())
    means = {name: np.nanmean(row) for name, row in ratios.items() if np.isfinite(row).any()}
    parts = ", ".join(f"{name} {math.exp(mean):.2f}" for name, mean in means.items())
    text = f"variation along batch size is {math.exp(effect):.2f} of that without scaling, in the "
    text += f"mean of {len(each)} lines ({parts})"
    return Finding(effect, text, effect < 0, partial(below_zero, each, "lines"))


def _ratios(c: Cells, name: str) -> Floats:
    """Return ln(standard deviation / that of the other experiment) of each line; NaN without."""
    pair = c[name], c[OTHER + name]
    found = []
    for line in c.lines("batch_size"):
        values = np.stack([pair[0][line], pair[1][line]])
        values = values[:, np.isfinite(values).all(axis=0)]
        spread = values.std(axis=1) if values.shape[1] >= FEWEST else np.zeros(2)
        found.append(math.log(spread[0] / spread[1]) if spread.all() else math.nan)
    return np.array(found)


def early_stopping_helps(c: Cells) -> Finding:
    """T24: mode connectivity at all sizes when trained to zero loss; test score when stopped early.

    The experiment with the larger training loss is the one that was stopped early.
    """
    longer = c["train_loss"] - c[OTHER + "train_loss"]
    longer = longer[np.isfinite(longer)]
    if not longer.size or longer.mean() == 0:
        raise NotTestableError("no cell tells which of the two experiments was stopped early")
    early, late = ("", OTHER) if longer.mean() > 0 else (OTHER, "")
    mc, gain = c[late + "mode_connectivity"], c[early + SCORE] - c[late + SCORE]
    known, both = np.isfinite(mc), np.isfinite(gain)
    if not known.any() or not both.any():
        raise NotTestableError("no cell has a test score in both experiments")
    size = next(iter(c.places.values()))  # the load
    means = [mc[known & (size == one)].mean() for one in np.unique(size[known])]
    better = float(gain[both].mean())
    ends = [float(np.nanmean(c[which + "train_loss"])) for which in (late, early)]
    text = f"trained to loss {ends[0]:.2g}: mc {mc[known].mean():.2f} in the mean, at most "
    text += f"{max(means):.2f} of {len(means)} sizes; stopped at loss {ends[1]:.2g}: test score "
    text += f"{better:+.2f}"

    def test() -> Test:
        return all_of(below_zero(mc[known], CELLS), below_zero(-gain[both], CELLS))

    return Finding(better, text, max(means) < 0 and better > 0, test)
