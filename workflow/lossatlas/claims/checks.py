"""How each claim of Yang et al. (2021) is checked: one function per claim of `taxonomy`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from lossatlas.claims.grid import FEWEST, Grid, NotTestableError, best, finite, rho

CONVERGED = 0.02  # training loss (nats)
PROXIES = (
    "cka",
    "log_hessian_trace",
    "log_hessian_eigenvalue",
    "mode_connectivity",
    "l2_distance",
)


@dataclass(frozen=True)
class Finding:
    """What an experiment says of a claim."""

    holds: bool
    effect: float
    observed: str


def loss_falls_with_width(g: Grid) -> Finding:
    """T1: the largest rho(width, training loss) of a row."""
    trends = g.along_width("train_loss")
    worst = max(trends.values())
    return Finding(worst <= -0.87, worst, f"rho <= {worst:.2f} in {len(trends)} rows")


def wide_is_connected(g: Grid) -> Finding:
    """T2: rho(width, mc) in rows from 44 up; the size of mc for wide and for narrow networks."""
    trend = min(g.part(batch=(44, math.inf)).along_width("mode_connectivity").values())
    mc = g["mode_connectivity"]
    wide_cells = g.where(batch=(44, math.inf), width=(23, math.inf))
    wide = np.abs(finite(mc, wide_cells, "batch size >= 44 and width >= 23")).max()
    narrow_cells = g.where(batch=(32, math.inf), width=(0, 4))
    narrow = finite(mc, narrow_cells, "batch size >= 32 and width <= 4").max()
    holds = trend >= 0.91 and wide <= 0.6 and narrow <= -10
    text = f"rho >= {trend:.2f}; wide: |mc| <= {wide:.2f}; narrow: mc <= {narrow:.1f}"
    return Finding(bool(holds), trend, text)


def hot_edge(g: Grid) -> Finding:
    """T3: mode connectivity in the hottest row, if that is at 16 or less, from width 3 up."""
    row = g.part(batch=(0, 16), width=(3, math.inf))
    values = row["mode_connectivity"][0]
    if np.isfinite(values).sum() < FEWEST:
        raise NotTestableError(f"fewer than {FEWEST} widths >= 3 at batch size 16 or less")
    peak, least = best(values), float(np.nanmin(values))
    last = values[np.isfinite(values)][-1]
    holds = least > 2 and values[peak] > last
    text = f"batch size {row.batch[0]}: mc >= {least:.1f}, peak {values[peak]:.1f} "
    text += f"at width {row.width[peak]}, {last:.1f} at the widest"
    return Finding(bool(holds), least, text)


def cooling_disconnects_narrow(g: Grid) -> Finding:
    """T4: the largest rho(batch size, mc) at widths 2 to 11."""
    trends = g.part(width=(2, 11)).along_batch("mode_connectivity")
    worst = max(trends.values())
    return Finding(worst <= -0.79, worst, f"rho <= {worst:.2f} at {len(trends)} widths")


def trace_falls_with_width(g: Grid) -> Finding:
    """T5: the largest rho(width, log trace) of rows from 32 up."""
    trends = g.part(batch=(32, math.inf)).along_width("log_hessian_trace")
    worst = max(trends.values())
    return Finding(worst <= -0.64, worst, f"rho <= {worst:.2f} in {len(trends)} rows")


def sharp_to_flat(g: Grid) -> Finding:
    """T6: between which widths the log trace drops most, and how the loss falls there."""
    part = g.part(batch=(44, math.inf))
    if min(len(part.width), len(part.batch)) < FEWEST:
        raise NotTestableError(f"fewer than {FEWEST} widths, or batch sizes >= 44")
    drops = -np.diff(part["log_hessian_trace"], axis=1)
    steps = np.array([best(row) for row in drops])
    rows = np.arange(len(steps))
    loss = part["train_loss"]
    cooler = part.batch >= 64
    before, after = loss[rows, steps][cooler], loss[rows, steps + 1][cooler]
    ratios = np.divide(before, after, out=np.full(before.shape, np.nan), where=after > 0)
    if not np.isfinite(ratios).any():
        raise NotTestableError("no training loss on both sides of the drop at batch size >= 64")
    ratio, trend = float(np.nanmin(ratios)), rho(part.batch, part.width[steps])
    holds = np.all(np.diff(steps) <= 0) and steps[0] > steps[-1] and ratio >= 4
    hot, cold = (f"{part.width[steps[i]]}->{part.width[steps[i] + 1]}" for i in (0, -1))
    text = f"drop at {hot} at batch size {part.batch[0]}, {cold} at {part.batch[-1]}"
    return Finding(bool(holds), trend, f"{text}; loss falls {ratio:.1f}-fold or more")


def eigenvalue_follows_trace(g: Grid) -> Finding:
    """T7: rho of the two measures of sharpness over all cells."""
    value = rho(g["log_hessian_eigenvalue"].ravel(), g["log_hessian_trace"].ravel())
    return Finding(value >= 0.98, value, f"rho {value:.2f}")


def similarity_grows_with_width(g: Grid) -> Finding:
    """T8: rho(width, CKA) in rows from 64 up; where CKA peaks at widths from 16 up."""
    trend = min(g.part(batch=(64, math.inf)).along_width("cka").values())
    wide = g.part(width=(16, math.inf))
    cka = wide["cka"]
    hot, cold = wide.batch <= 16, wide.batch >= 1024
    middle = (wide.batch >= 64) & (wide.batch <= 92)
    if not (hot.any() and cold.any() and middle.any()):
        raise NotTestableError("needs batch sizes 16, 1024 and one from 64 to 92")
    peaks = np.array([middle[best(column)] for column in cka.T])
    gaps = np.nanmax(cka, axis=0) - cka[hot | cold]
    gap = float(finite(gaps, np.full(gaps.shape, True), "CKA at batch sizes 16 and 1024").min())
    holds = trend >= 0.92 and peaks.all() and gap >= 0.13
    text = f"rho >= {trend:.2f}; peak at batch size 64 to 92 at {peaks.sum()} of {len(peaks)} "
    return Finding(bool(holds), trend, f"{text}widths, edges {gap:.2f} or more lower")


def best_is_globally_nice(g: Grid) -> Finding:
    """T9: phase of the most accurate cell, and the extremes of the best tenth."""
    accuracy = g["test_accuracy"]
    order = np.argsort(-np.where(np.isfinite(accuracy), accuracy, -np.inf), axis=None)
    top = order[: math.ceil(0.1 * np.isfinite(accuracy).sum())]
    row, column = np.unravel_index(order[0], accuracy.shape)
    phase = str(g.phase[row, column])
    named = ("mode_connectivity", "cka", "log_hessian_trace")
    mc, cka, trace = (g[name].ravel()[top] for name in named)
    if not np.isfinite([mc, cka, trace]).all() or not phase:
        raise NotTestableError("the best cells lack a number")
    worst, least, most = float(np.abs(mc).max()), float(cka.min()), float(trace.max())
    holds = phase == "IV-B" and worst <= 0.05 and least >= 0.68 and most <= 4.05
    at = f"batch size {g.batch[row]}, width {g.width[column]}"
    value = float(accuracy[row, column])
    text = f"{value:.2f}% at {at} in {phase}; best {len(top)}: |mc| <= {worst:.2f}, "
    return Finding(bool(holds), value, f"{text}CKA >= {least:.2f}, log trace <= {most:.2f}")


def _labels(g: Grid, sharpness: np.ndarray, flat: float, poor: float, similar: float) -> np.ndarray:
    """Return phases (B, W) by other thresholds; '' where a number is absent."""
    mc, cka = g["mode_connectivity"], g["cka"]
    four = np.where(cka >= similar, "IV-B", "IV-A")
    connected = np.where(sharpness <= flat, four, "II")
    phase = np.where(mc < poor, np.where(sharpness <= flat, "III", "I"), connected)
    return np.where(np.isfinite(sharpness + mc + cka + g["test_accuracy"]), phase, "")


def _threshold_choices(g: Grid) -> Iterator[np.ndarray]:
    """Yield phases (B, W) for 54 choices of thresholds."""
    levels = {"train_loss": (0.02, 0.05, 0.1), "log_hessian_trace": (5.5, 5.75, 6.0)}
    flats = [(g[name], level) for name, some in levels.items() for level in some]
    for (sharpness, flat), poor, similar in product(flats, (-0.5, -1.0, -2.0), (0.6, 0.65, 0.7)):
        yield _labels(g, sharpness, flat, poor, similar)


def accuracy_orders_phases(g: Grid) -> Finding:
    """T10: the share of threshold choices, with no phase empty, that order the phases."""
    accuracy = g["test_accuracy"]
    held = []
    for phase in _threshold_choices(g):
        names = ("I", "II", "III", "IV-A", "IV-B")
        if all((phase == name).any() for name in names):
            one, two, three, four_a, four_b = (accuracy[phase == name].mean() for name in names)
            held.append(four_b > four_a > three > one and two > one)
    if not held:
        raise NotTestableError("some phase is empty whatever the thresholds")
    share = float(np.mean(held))
    return Finding(share == 1, share, f"in {sum(held)} of {len(held)} choices of thresholds")


def flat_is_not_enough(g: Grid) -> Finding:
    """T11: accuracy of III and IV at matched log trace; what goes with accuracy there."""
    trace, accuracy, cka = g["log_hessian_trace"], g["test_accuracy"], g["cka"]
    matched = (trace > 4.4) & (trace < 5.1)
    three = finite(accuracy, matched & (g.phase == "III"), "phase III at log trace 4.4 to 5.1")
    fours = np.isin(g.phase, ("IV-A", "IV-B"))
    four = finite(accuracy, matched & fours, "phase IV at log trace 4.4 to 5.1")
    band = (trace >= 4.3) & (trace <= 5.3)
    by_cka, by_trace = rho(accuracy[band], cka[band]), rho(accuracy[band], trace[band])
    gain = float(four.mean() - three.mean())
    text = f"III {three.mean():.2f}% ({three.size} cells), IV {four.mean():.2f}% ({four.size}); "
    text += f"rho with accuracy: CKA {by_cka:.2f}, trace {by_trace:.2f}"
    return Finding(gain > 0 and abs(by_cka) > abs(by_trace), gain, text)


def _proxies(g: Grid, kept: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """Return quantity -> Spearman's rho with test accuracy over some cells (B, W)."""
    return {name: rho(g["test_accuracy"][kept], g[name][kept]) for name in names}


def similarity_predicts_best(g: Grid) -> Finding:
    """T12: the order of |rho(quantity, test accuracy)| among quantities."""
    converged = g["train_loss"] < CONVERGED
    found = [
        _proxies(g, converged, PROXIES),
        _proxies(g, np.full(converged.shape, True), (*PROXIES, "train_loss")),
    ]
    texts, holds = [], True
    for where, values in zip(("converged", "all"), found, strict=True):
        order = sorted(values, key=lambda name: -abs(values[name]))
        holds &= order[0] == "cka" and order[-1] == "l2_distance"
        texts.append(f"{where}: " + ", ".join(f"{name} {values[name]:.2f}" for name in order))
    return Finding(holds, found[0]["cka"], "; ".join(texts))


def best_batch_shrinks(g: Grid) -> Finding:
    """T13: rho of width and the batch size with the best accuracy."""
    if len(g.batch) < FEWEST:
        raise NotTestableError(f"fewer than {FEWEST} batch sizes")
    sizes = np.array([g.batch[best(column)] for column in g["test_accuracy"].T])
    trend = rho(g.width, sizes)
    text = f"rho {trend:.2f}; {sizes[0]} at width {g.width[0]}, {sizes[-1]} at {g.width[-1]}"
    return Finding(trend <= -0.65, trend, text)


def wider_is_better(g: Grid) -> Finding:
    """T14: where accuracy peaks along width, and its largest loss in one step."""
    if not np.isfinite(g["test_accuracy"]).all():
        raise NotTestableError("some cells have no test accuracy")
    warm = g.part(batch=(0, 128))["test_accuracy"]
    cold = g.part(batch=(724, math.inf))
    if len(g.width) < FEWEST or g.width[-1] <= 45:
        raise NotTestableError(f"needs {FEWEST} widths, one beyond 45")
    share = float(np.mean([best(row) == len(row) - 1 for row in warm]))
    peaks = [int(cold.width[best(row)]) for row in cold["test_accuracy"]]
    falls = [float(row.max() - row[-1]) for row in cold["test_accuracy"]]
    step = float(-np.diff(g["test_accuracy"], axis=1).min())
    holds = share >= 6 / 7 - 1e-9 and min(falls) >= 0.65 and step < 1
    text = f"widest is best in {share:.0%} of rows up to 128; from 724 up the best widths are "
    text += f"{', '.join(map(str, peaks))}, the widest {min(falls):.2f} or more lower; "
    return Finding(bool(holds), share, f"{text}largest loss in one step {step:.2f}")


def positive_means_unconverged(g: Grid) -> Finding:
    """T15: training loss and log trace where mode connectivity is above 1."""
    mc, loss, trace = (g[n] for n in ("mode_connectivity", "train_loss", "log_hessian_trace"))
    dips = mc > 1
    low = float(finite(loss, dips, "mode connectivity above 1").min())
    flat = float(finite(trace, dips, "mode connectivity above 1").min())
    text = f"{dips.sum()} cells, train loss >= {low:.3f}, log trace >= {flat:.2f}"
    return Finding(low >= 0.038 and flat >= 5.95, low, text)
