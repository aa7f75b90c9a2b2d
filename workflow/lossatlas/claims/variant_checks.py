"""How claims about one experiment of another setting are checked: noise, data, decay, batches.

One function per claim of `variants`. Each looks at the cells of one experiment, along the lines of
one axis: cells that are alike in all others. Lines and cells are the independent units. Margins of
equivalence come from the authors' released results, which are not the data that are judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lossatlas.claims.cells import Cells
from lossatlas.claims.checks import CELLS, RHO, best_is_globally_nice, rank_trend
from lossatlas.claims.conditions import NotTestableError
from lossatlas.claims.grid import FEWEST
from lossatlas.claims.regions import POOR, SHARP, regions, shown
from lossatlas.claims.statements import Finding
from lossatlas.claims.statistics import (
    Floats,
    Test,
    all_of,
    along_lines,
    below_zero,
    rearranged,
    within,
)

ZERO_LOSS = 5e-3  # training loss (nats) below which a run counts as converged
ALIKE_TRACE = 0.4  # nats: nine of ten pairs of runs of a published cell lie closer than 0.44
ALIKE_ACCURACY = 0.5  # points: half of the pairs of runs of a published cell lie closer
CONNECTED = 2.0  # points of error: rule R1, fitted to the authors' drawing
WIDE = 23  # width from which barriers vanish on the authors' grid
STANDARD_DECAY = 5e-4  # the paper's weight decay
LARGE = 512  # batch size from which sharpness rises on the authors' grid


@dataclass(frozen=True)
class _Trends:
    """Mean Spearman's rho of several quantities along an axis, each with its claimed sign."""

    effects: dict[str, float]
    signs: dict[str, int]
    tests: list[partial[Test]]

    @property
    def hold(self) -> bool:
        return all(self.signs[name] * rho > 0 for name, rho in self.effects.items())

    @property
    def weakest(self) -> float:
        """The rho that is least as claimed, counted as claimed: above 0 if all hold."""
        return min(self.signs[name] * rho for name, rho in self.effects.items())

    @property
    def words(self) -> str:
        return ", ".join(f"{name} {rho:.2f}" for name, rho in self.effects.items())


def _trends(cells: Cells, axis: str, signs: dict[str, int]) -> _Trends:
    effects, tests = {}, []
    for name, sign in signs.items():
        lines = cells.along(axis, name)
        each, _ = rank_trend(lines, sign)
        effects[name] = float(np.mean(each))
        tests.append(partial(along_lines, lines[0], [sign * y for y in lines[1]], CELLS))
    return _Trends(effects, signs, tests)


def dip_at_transition(c: Cells) -> Finding:
    """T17: accuracy at the largest drop of the log trace, beside its neighbours on the line.

    And in columns with cells in III the best accuracy in I and II beside the best in III.
    """
    bends = {axis: _bends(c, axis) for axis in ("width", "batch_size")}
    columns = _columns_with_three(c)
    gain = float(np.mean([good.max() - three.max() for good, three, _ in columns]))
    sharper = float(np.mean([rise for *_, rise in columns]))
    there = {axis: _mean_where(*lines, 1.0) for axis, lines in bends.items()}
    elsewhere = {axis: _mean_where(*lines, 0.0) for axis, lines in bends.items()}
    text = "; ".join(
        f"along {axis} {there[axis]:+.2f} points at the transition, {other:+.2f} elsewhere"
        for axis, other in elsewhere.items()
    )
    text += f"; in {len(columns)} columns that cross III the best of I and II is {gain:+.2f} "
    text += f"points above the best of III, where the log eigenvalue is {sharper:.2f} lower"

    def test() -> Test:
        dips = [
            along_lines(marks, [-bend for bend in values], CELLS, ranks=False)
            for marks, values in bends.values()
        ]
        return all_of(*dips, _best_is_sharp(columns))

    lower = all(there[axis] < min(elsewhere[axis], 0) for axis in bends)
    return Finding(max(there.values()), text, lower and gain > 0 and sharper > 0, test)


def _bends(c: Cells, axis: str) -> tuple[list[Floats], list[Floats]]:
    """Return, for each line that crosses the transition, marks of its place, and bends of accuracy.

    The bend of a step is the mean accuracy of its two cells minus that of the two next to them.
    """
    trace, accuracy = c["log_hessian_trace"], c["test_accuracy"]
    sharp = np.isin(c.phase, SHARP)
    marks, bends = [], []
    for line in c.lines(axis):
        known = line[np.isfinite(trace[line] + accuracy[line]) & (c.phase[line] != "")]
        if len(known) < FEWEST + 2 or sharp[known].all() or not sharp[known].any():
            continue
        step = int(np.argmax(-np.diff(trace[known])))
        y = accuracy[known]
        bend = (y[1:-2] + y[2:-1] - y[:-3] - y[3:]) / 2
        if 1 <= step <= len(bend):
            marks.append((np.arange(1, len(bend) + 1) == step).astype(np.float64))
            bends.append(bend)
    if not marks:
        what = f"no line along {axis} crosses from sharp to flat with a cell on either side"
        raise NotTestableError(f"{what} of the step")
    return marks, bends


def _mean_where(marks: Sequence[Floats], values: Sequence[Floats], mark: float) -> float:
    return float(np.mean([y[x == mark].mean() for x, y in zip(marks, values, strict=True)]))


def _columns_with_three(c: Cells) -> list[tuple[Floats, Floats, float]]:
    """Return accuracies in I and II, and in III, and by how much the log eigenvalue is lower there.

    One entry for each line along the batch size with both.
    """
    accuracy, sharpness = c["test_accuracy"], c["log_hessian_eigenvalue"]
    found = []
    for line in c.lines("batch_size"):
        known = line[np.isfinite(accuracy[line] + sharpness[line])]
        sharp, three = (known[np.isin(c.phase[known], some)] for some in (SHARP, ("III",)))
        if sharp.size and three.size:
            rise = float(sharpness[sharp].mean() - sharpness[three].mean())
            found.append((accuracy[sharp], accuracy[three], rise))
    if not found:
        raise NotTestableError("no column has cells in III and in I or II")
    return found


def _best_is_sharp(columns: Sequence[tuple[Floats, Floats, float]]) -> Test:
    """Test whether the best of the first group is better, by drawing the groups of a line anew."""
    sizes = [len(good) for good, *_ in columns]

    def gap(lines: Sequence[Floats]) -> Floats:
        gaps = [
            line[:, :size].max(axis=1) - line[:, size:].max(axis=1)
            for line, size in zip(lines, sizes, strict=True)
        ]
        found: Floats = np.mean(gaps, axis=0)
        return found

    return rearranged([np.concatenate(column[:2]) for column in columns], gap, CELLS)


def more_data(c: Cells) -> Finding:
    """T18: rho of the amount of data with accuracy, CKA, sharpness and mode connectivity."""
    axis = "data_fraction"
    signs = {"test_accuracy": 1, "cka": 1, "log_hessian_trace": 1, "log_hessian_eigenvalue": 1}
    found = _trends(c, axis, {**signs, "mode_connectivity": -1})
    few, many = (
        _share_connected(c, c.places[axis] == end(c.places[axis])) for end in (np.min, np.max)
    )
    text = f"mean rho: {found.words}; connected cells {few:.0%} with least data, {many:.0%} with "
    text += "most"
    test = partial(_all_hold, found.tests)
    return Finding(found.weakest, text, found.hold, test, bounds=RHO)


def _share_connected(c: Cells, some: np.ndarray) -> float:
    phase = c.phase[some & (c.phase != "")]
    return 1 - float(np.isin(phase, POOR).mean()) if phase.size else math.nan


def _all_hold(tests: Sequence[partial[Test]], *more: Test) -> Test:
    return all_of(*(test() for test in tests), *more)


def more_label_noise(c: Cells) -> Finding:
    """T19: along label noise, of converged cells: change of log trace, rho of mc and CKA."""
    axis = "label_noise"
    c = c.where(c["train_loss"] < ZERO_LOSS, f"a training loss below {ZERO_LOSS:g}")
    found = _trends(c, axis, {"mode_connectivity": -1, "cka": -1})
    changes = np.array(
        [
            np.polyfit(x, y, 1)[0] * np.ptp(x)
            for x, y in zip(*c.along(axis, "log_hessian_trace"), strict=True)
        ]
    )
    change = float(changes.mean())
    text = f"of {len(c.phase)} cells with loss < {ZERO_LOSS:g} the log trace changes by "
    text += f"{change:+.2f} over the range of noise, in the mean of {len(changes)} lines; mean "
    text += f"rho: {found.words}"

    def test() -> Test:
        return _all_hold(found.tests, within(changes, ALIKE_TRACE, "lines"))

    holds = found.hold and abs(change) < ALIKE_TRACE
    return Finding(change, text, holds, test)


def less_weight_decay(c: Cells) -> Finding:
    """T20: of wide networks, rho of weight decay and log trace; accuracy of the lower half."""
    kept = (c.places["width"] >= WIDE) & (c.places["weight_decay"] <= STANDARD_DECAY)
    c = c.where(kept, f"width of {WIDE} or more and weight decay of {STANDARD_DECAY:g} or less")
    found = _trends(c, "weight_decay", {"log_hessian_trace": 1})
    gains = []
    for values in c.along("weight_decay", "test_accuracy")[1]:
        half = len(values) // 2
        gains.append(values[:half].mean() - values[-half:].mean())
    gain = float(np.mean(gains))
    text = f"mean rho: {found.words}; accuracy {gain:+.2f} points in the lower half of weight "
    text += f"decays, in the mean of {len(gains)} lines"

    def test() -> Test:
        return _all_hold(found.tests, below_zero(np.array(gains) - ALIKE_ACCURACY, "widths"))

    return Finding(found.weakest, text, found.hold and gain < ALIKE_ACCURACY, test, bounds=RHO)


def pixel_noise(c: Cells) -> Finding:
    """T21: rho of pixel noise and CKA; largest and smallest mode connectivity of each line."""
    found = _trends(c, "pixel_noise", {"cka": -1})
    lines = c.along("pixel_noise", "mode_connectivity")[1]
    top, bottom = (np.array([end(values) for values in lines]) for end in (np.max, np.min))
    high, low = float(top.mean()), float(bottom.mean())
    text = f"mc {low:+.2f} to {high:+.2f} in the mean of {len(lines)} lines; mean rho: "
    text += found.words

    def test() -> Test:
        near = [below_zero(top - CONNECTED, "lines"), below_zero(-bottom - CONNECTED, "lines")]
        return _all_hold(found.tests, *near)

    holds = found.hold and max(high, -low) < CONNECTED
    return Finding(max(high, -low), text, holds, test)


def large_batches(c: Cells) -> Finding:
    """T22: rho of batch size and both measures of sharpness, from the grid's large ones up."""
    c = c.where(c.places["batch_size"] >= LARGE, f"batch size of {LARGE} or more")
    found = _trends(c, "batch_size", {"log_hessian_trace": 1, "log_hessian_eigenvalue": 1})
    text = f"mean rho from batch size {LARGE} up: {found.words}"
    return Finding(found.weakest, text, found.hold, partial(_all_hold, found.tests), bounds=RHO)


def same_phases(c: Cells) -> Finding:
    """T25: whether four phases are regions, and the best tenth is flat, connected and similar."""
    nice = best_is_globally_nice(c)
    found = regions(c, c.phase)
    text = f"{shown(found)}; {nice.observed}"

    def test() -> Test:
        assert nice.test is not None
        return all_of(found.test(), nice.test())

    return Finding(nice.effect, text, nice.holds and not found.lacking, test, bounds=nice.bounds)
