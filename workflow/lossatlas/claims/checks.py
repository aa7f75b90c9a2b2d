"""How each claim of Yang et al. (2021) is checked: one function per claim of `taxonomy`.

Each looks at one grid. Cells are the independent units: networks of different cells were trained
apart. What is tested is a direction; sizes of the authors' grid are told, and decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
from scipy.stats import rankdata

from lossatlas.claims.conditions import NotTestableError
from lossatlas.claims.grid import (
    FEWEST,
    A,
    Arranged,
    Grid,
    Grids,
    Lines,
    finite,
    place_of_best,
    rho,
)
from lossatlas.claims.statements import Finding
from lossatlas.claims.statistics import (
    Test,
    all_of,
    along_lines,
    below_zero,
    closer_to,
    jackknife,
    larger_than_rest,
)

CELLS = "cells"
CONVERGED = 0.02  # training loss (nats)
PROXIES = (
    "cka",
    "log_hessian_trace",
    "log_hessian_eigenvalue",
    "mode_connectivity",
    "l2_distance",
)
RHO = (-1, 1)
ORDER = (("IV-B", "IV-A"), ("IV-A", "III"), ("III", "I"), ("II", "I"))  # better, worse


def jackknifed(check: Callable[[A], Finding], evidence: Grids[A]) -> Finding:
    """Check a claim on the whole grid and with one replica left out of every cell.

    It holds if it does in all of them. The interval is that of the jackknife over replicas.
    """
    evidence.whole.read.clear()
    whole = check(evidence.whole)
    parts = [_checked(check, part) for part in evidence.left_out]
    kept = sum(part is not None and part.holds for part in parts)
    effects = np.array([math.nan if part is None else part.effect for part in parts])
    low, high = np.clip(jackknife(whole.effect, effects), *whole.bounds)
    text = f"{whole.observed}; so without one replica: {kept} of {len(parts)}"
    if evidence.same(evidence.whole.read):
        low = high = math.nan
        text = f"{whole.observed}; of one pair of replicas, so that none can be left out"
    if evidence.whole.unconverged:
        text += f"; {evidence.whole.unconverged} numbers did not converge and are left out"
    holds = whole.holds and kept == len(parts)
    return replace(whole, observed=text, holds=holds, low=float(low), high=float(high))


def _checked(check: Callable[[A], Finding], part: A) -> Finding | None:
    try:
        return check(part)
    except NotTestableError:
        return None


def rank_trend(lines: Lines, sign: int) -> tuple[list[float], Callable[[], Test]]:
    """Return Spearman's rho of each line, and the test of their mean having a sign."""
    places, values = lines
    each = [rho(x, y) for x, y in zip(places, values, strict=True)]
    return each, partial(along_lines, places, [sign * y for y in values], CELLS)


def _simple(lines: Lines, sign: int, what: str) -> Finding:
    each, test = rank_trend(lines, sign)
    effect = float(np.mean(each))
    text = (
        f"rho {effect:.2f} in the mean of {len(each)} {what} ({min(each):.2f} to {max(each):.2f})"
    )
    return Finding(effect, text, sign * effect > 0, test, bounds=RHO)


def loss_falls_with_width(g: Grid) -> Finding:
    """T1: mean rho(width, training loss); below 0 in every row."""
    lines = g.along_width("train_loss")
    found = _simple(lines, -1, "rows")
    return replace(found, holds=all(rho(x, y) < 0 for x, y in zip(*lines, strict=True)))


def wide_is_connected(g: Grid) -> Finding:
    """T2: mean rho(width, mc) in rows from 44 up."""
    return _simple(g.part(batch=(44, math.inf)).along_width("mode_connectivity"), 1, "rows")


def hot_edge(g: Grid) -> Finding:
    """T3: mode connectivity in the hottest row, if that is at 16 or less, from width 3 up."""
    row = g.part(batch=(0, 16), width=(3, math.inf))
    values = row["mode_connectivity"][0]
    known = np.isfinite(values)
    values, width = values[known], row.width[known]
    if len(values) < FEWEST:
        raise NotTestableError(f"fewer than {FEWEST} widths >= 3 at batch size 16 or less")
    if np.ptp(values) == 0:
        raise NotTestableError("mode connectivity is the same at all widths")
    holds = values.mean() > 0 and values[-1] < values.max()
    text = (
        f"batch size {row.batch[0]}: mc {values.mean():.1f} in the mean of {len(values)} widths, "
    )
    text += f"peak {values.max():.1f} at width {place_of_best(width, values):g}, "
    text += f"{values[-1]:.1f} at the widest"
    test = partial(below_zero, -values, CELLS)
    return Finding(float(values.mean()), text, bool(holds), test)


def cooling_disconnects_narrow(g: Grid) -> Finding:
    """T4: mean rho(batch size, mc) at widths 2 to 11."""
    return _simple(g.part(width=(2, 11)).along_batch("mode_connectivity"), -1, "widths")


def trace_falls_with_width(g: Grid) -> Finding:
    """T5: mean rho(width, log trace) of rows from 32 up."""
    return _simple(g.part(batch=(32, math.inf)).along_width("log_hessian_trace"), -1, "rows")


def sharp_to_flat(g: Grid) -> Finding:
    """T6: at which width the log trace drops most, by batch size, and how the loss falls there."""
    part = g.part(batch=(44, math.inf))
    if min(len(part.width), len(part.batch)) < FEWEST:
        raise NotTestableError(f"fewer than {FEWEST} widths, or batch sizes >= 44")
    drops = -np.diff(part["log_hessian_trace"], axis=1)
    kept = np.isfinite(drops).any(axis=1)
    batch, drops, loss = part.batch[kept], drops[kept], part["train_loss"][kept]
    if len(batch) < FEWEST:
        raise NotTestableError(f"fewer than {FEWEST} batch sizes >= 44 with a log trace")
    with np.errstate(divide="ignore", invalid="ignore"):
        falls = -np.diff(np.log(loss), axis=1)
    steps = np.array([place_of_best(part.width[:-1], row) for row in drops])
    trend = rho(batch, steps)
    marks, values = [], []
    for drop, fall in zip(drops[batch >= 64], falls[batch >= 64], strict=True):
        known = np.isfinite(drop) & np.isfinite(fall)
        if known.sum() >= 2:
            marks.append((drop[known] == drop[known].max()).astype(np.float64))
            values.append(fall[known])
    if not marks:
        raise NotTestableError("no training loss on both sides of the drop at batch size >= 64")
    there = float(np.mean([y[x > 0].mean() for x, y in zip(marks, values, strict=True)]))
    others = [y[x == 0].mean() for x, y in zip(marks, values, strict=True) if (x == 0).any()]
    elsewhere = float(np.mean(others)) if others else math.nan
    text = (
        f"rho(batch size, width of the drop) {trend:.2f}: {steps[0]:g} at batch size {batch[0]}, "
    )
    text += f"{steps[-1]:g} at {batch[-1]}; loss falls {math.exp(there):.1f}-fold there, "
    text += f"{math.exp(elsewhere):.1f}-fold in other steps"

    def test() -> Test:
        moves = along_lines([batch.astype(np.float64)], [-steps], "batch sizes")
        return all_of(moves, along_lines(marks, values, CELLS, ranks=False))

    holds = trend < 0 and there > max(elsewhere, 0)
    return Finding(trend, text, holds, test, bounds=RHO)


def eigenvalue_follows_trace(g: Grid) -> Finding:
    """T7: rho of the two measures of sharpness over all cells."""
    both = [g[name].ravel() for name in ("log_hessian_eigenvalue", "log_hessian_trace")]
    known = np.isfinite(both).all(axis=0)
    x, y = (one[known] for one in both)
    effect = rho(x, y)
    text = f"rho {effect:.2f} over {known.sum()} cells"
    test = partial(along_lines, [x], [y], CELLS)
    return Finding(effect, text, effect > 0, test, bounds=RHO)


def similarity_grows_with_width(g: Grid) -> Finding:
    """T8: rho(width, CKA) in rows from 64 up; at widths from 16 up, CKA at 64 to 92 and outside."""
    each, grows = rank_trend(g.part(batch=(64, math.inf)).along_width("cka"), 1)
    wide = g.part(width=(16, math.inf))
    edges, middle = (wide.batch <= 16) | (wide.batch >= 1024), _between(wide.batch, 64, 92)
    if not (edges & (wide.batch <= 16)).any() or not middle.any() or wide.batch[-1] < 1024:
        raise NotTestableError("needs batch sizes 16, 1024 and one from 64 to 92")
    weights, values = [], []
    for column in wide["cka"].T:
        known = np.isfinite(column) & (edges | middle)
        if middle[known].any() and edges[known].any():
            weights.append(middle[known].astype(np.float64))
            values.append(column[known])
    if not weights:
        raise NotTestableError("no width of 16 or more has CKA at batch sizes 16, 1024 and between")
    gaps = [y[x > 0].mean() - y[x == 0].mean() for x, y in zip(weights, values, strict=True)]
    trend, gap = float(np.mean(each)), float(np.mean(gaps))
    text = f"rho {trend:.2f} in the mean of {len(each)} rows; from width 16 up CKA is {gap:.2f} "
    text += f"higher at batch size 64 to 92 than at 16 and 1024 (at least {min(gaps):.2f})"

    def test() -> Test:
        return all_of(grows(), along_lines(weights, values, CELLS, ranks=False))

    return Finding(trend, text, trend > 0 and gap > 0, test, bounds=RHO)


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values >= low) & (values <= high)


def _share_above(values: np.ndarray, chosen: np.ndarray) -> float:
    """Return how often a chosen value is above another one; ties count half."""
    gaps = values[chosen][:, None] - values[~chosen]
    return float((gaps > 0).mean() + (gaps == 0).mean() / 2)


def _ranked(values: np.ndarray, chosen: np.ndarray) -> Test:
    return larger_than_rest(rankdata(values), chosen, CELLS)


def _group_is_above(
    values: list[np.ndarray], chosen: np.ndarray
) -> tuple[float, Callable[[], Test]]:
    """Return the least share in which a group is above the rest, and the test of all of them."""
    share = min(_share_above(one, chosen) for one in values)
    return share, lambda: all_of(*(_ranked(one, chosen) for one in values))


def best_is_globally_nice(g: Arranged) -> Finding:
    """T9: how flat, connected and similar the best tenth of the cells is beside the rest."""
    accuracy, *three = (
        g[name].ravel()
        for name in ("test_accuracy", "mode_connectivity", "cka", "log_hessian_trace")
    )
    known = np.isfinite([accuracy, *three]).all(axis=0)
    if known.sum() < FEWEST:
        raise NotTestableError(f"{known.sum()} cells have all numbers")
    accuracy, mc, cka, trace = (one[known] for one in (accuracy, *three))
    count = math.ceil(0.1 * len(accuracy))
    top = accuracy >= np.sort(accuracy)[-count]
    if top.all():
        raise NotTestableError("all cells have one test accuracy")
    share, test = _group_is_above([-np.abs(mc), cka, -trace], top)
    best = int(np.argmax(accuracy))
    text = f"best cell {accuracy[best]:.2f}% in phase {g.phase.ravel()[known][best]}; best "
    text += f"{top.sum()}: |mc| <= {np.abs(mc[top]).max():.2f}, CKA >= {cka[top].min():.2f}, "
    text += (
        f"log trace <= {trace[top].max():.2f}; better than others in {share:.0%} or more of pairs"
    )
    return Finding(share, text, share > 0.5, test, bounds=(0, 1))


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


def _gaps(accuracy: np.ndarray, phase: np.ndarray) -> list[float]:
    """Return by how much the better phases are more accurate; none where a phase is empty."""
    means = {name: accuracy[phase == name] for pair in ORDER for name in pair}
    if not all(part.size for part in means.values()):
        return []
    return [float(means[better].mean() - means[worse].mean()) for better, worse in ORDER]


def accuracy_orders_phases(g: Grid) -> Finding:
    """T10: mean accuracy of phases, by the thresholds of the config."""
    known = np.isfinite(g["test_accuracy"])
    accuracy, phase = g["test_accuracy"][known], g.phase[known]
    gaps = _gaps(accuracy, phase)
    if not gaps:
        absent = sorted({name for pair in ORDER for name in pair} - set(phase.tolist()))
        raise NotTestableError(f"no cell is in phase {', '.join(absent)}")
    others = [found for one in _threshold_choices(g) if (found := _gaps(accuracy, one[known]))]
    parts = [f"{a} {gap:+.1f} over {b}" for (a, b), gap in zip(ORDER, gaps, strict=True)]
    text = f"{', '.join(parts)} points; so ordered in {sum(min(o) > 0 for o in others)} of "
    text += f"{len(others)} choices of other thresholds"

    def test() -> Test:
        tests = []
        for better, worse in ORDER:
            both = np.isin(phase, (better, worse))
            tests.append(larger_than_rest(accuracy[both], phase[both] == better, CELLS))
        return all_of(*tests)

    return Finding(min(gaps), text, min(gaps) > 0, test)


def flat_is_not_enough(g: Grid) -> Finding:
    """T11: accuracy of III and IV where their log traces overlap; what goes with accuracy there."""
    trace, accuracy, cka = (g[n] for n in ("log_hessian_trace", "test_accuracy", "cka"))
    known = np.isfinite(trace + accuracy + cka)
    three, four = known & (g.phase == "III"), known & np.isin(g.phase, ("IV-A", "IV-B"))
    spans = [finite(trace, part, f"phase {name}") for part, name in ((three, "III"), (four, "IV"))]
    low, high = max(s.min() for s in spans), min(s.max() for s in spans)
    band = (three | four) & _between(trace, low, high)
    if not (band & three).any() or not (band & four).any():
        raise NotTestableError("phases III and IV have no log trace in common")
    good, alike, sharp, connected = (one[band] for one in (accuracy, cka, trace, four))
    gain = float(good[connected].mean() - good[~connected].mean())
    by_cka, by_trace = rho(good, alike), rho(good, sharp)
    text = f"at log trace {low:.1f} to {high:.1f}: III {good[~connected].mean():.2f}% "
    text += f"({(~connected).sum()} cells), IV {good[connected].mean():.2f}% ({connected.sum()}); "
    text += f"rho with accuracy: CKA {by_cka:.2f}, trace {by_trace:.2f}"

    def test() -> Test:
        ordered = closer_to(good, alike, sharp, CELLS)
        return all_of(larger_than_rest(good, connected, CELLS), ordered)

    return Finding(gain, text, gain > 0 and abs(by_cka) > abs(by_trace), test)


def similarity_predicts_best(g: Grid) -> Finding:
    """T12: |rho| with test accuracy: by how much CKA leads, and L2 distance trails."""
    rivals: list[tuple[float, np.ndarray, np.ndarray, np.ndarray]] = []
    texts = []
    everywhere = np.full(g.phase.shape, True)
    for where, kept, names in (
        ("converged", g["train_loss"] < CONVERGED, PROXIES),
        ("all", everywhere, (*PROXIES, "train_loss")),
    ):
        values = {name: g[name][kept] for name in ("test_accuracy", *names)}
        known = np.isfinite(list(values.values())).all(axis=0)
        target, *columns = (one[known] for one in values.values())
        of = dict(zip(names, columns, strict=True))
        size = {name: abs(rho(target, one)) for name, one in of.items()}
        pairs = [("cka", name) for name in names if name != "cka"]
        pairs += [(name, "l2_distance") for name in names[1:] if name != "l2_distance"]
        rivals += [(size[a] - size[b], target, of[a], of[b]) for a, b in pairs]
        order = sorted(of, key=lambda name: -size[name])
        spelled = (f"{name} {rho(target, of[name]):.2f}" for name in order)
        texts.append(f"{where}: {', '.join(spelled)}")
    lead = min(rival[0] for rival in rivals)

    def test() -> Test:
        return all_of(*(closer_to(*rival[1:], CELLS) for rival in rivals))

    return Finding(lead, f"smallest lead {lead:.2f}; {'; '.join(texts)}", lead > 0, test)


def best_batch_shrinks(g: Grid) -> Finding:
    """T13: rho of width and the batch size with the best accuracy."""
    if len(g.batch) < FEWEST:
        raise NotTestableError(f"fewer than {FEWEST} batch sizes")
    sizes = np.array([place_of_best(g.batch, column) for column in g["test_accuracy"].T])
    effect = rho(g.width, sizes)
    text = f"rho {effect:.2f}; {sizes[0]:g} at width {g.width[0]}, {sizes[-1]:g} at {g.width[-1]}"
    test = partial(along_lines, [g.width.astype(np.float64)], [-sizes], "widths")
    return Finding(effect, text, effect < 0, test, bounds=RHO)


def wider_is_better(g: Grid) -> Finding:
    """T14: rho(width, accuracy) up to batch size 128; from 724 up, at widths from 45 up."""
    each, rises = rank_trend(g.part(batch=(0, 128)).along_width("test_accuracy"), 1)
    cold = g.part(batch=(724, math.inf), width=(45, math.inf))
    late, falls = rank_trend(cold.along_width("test_accuracy"), -1)
    effect, beyond = float(np.mean(each)), float(np.mean(late))
    text = f"rho {effect:.2f} in the mean of {len(each)} rows up to 128; "
    text += f"{beyond:.2f} from width 45 up in {len(late)} rows from 724 up"

    def test() -> Test:
        return all_of(rises(), falls())

    return Finding(effect, text, effect > 0 and beyond < 0, test, bounds=RHO)


def positive_means_unconverged(g: Grid) -> Finding:
    """T15: training loss and log trace of cells with mode connectivity above 1, and of the rest."""
    three = [g[n].ravel() for n in ("mode_connectivity", "train_loss", "log_hessian_trace")]
    known = np.isfinite(three).all(axis=0)
    mc, loss, trace = (one[known] for one in three)
    dips = mc > 1
    if not dips.any() or dips.all():
        raise NotTestableError(f"{'every' if dips.any() else 'no'} cell has mc above 1")
    share, test = _group_is_above([loss, trace], dips)
    text = f"{dips.sum()} cells, train loss >= {loss[dips].min():.3f}, log trace >= "
    text += f"{trace[dips].min():.2f}; larger than of the others in {share:.0%} or more of pairs"
    return Finding(share, text, share > 0.5, test, bounds=(0, 1))
