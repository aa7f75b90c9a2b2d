"""How each claim of Benton et al. (2021) is checked: one function per claim of `simplex`.

Sizes are theirs where they give one (VGG16 on CIFAR-10). Each claim about trained networks is
judged over complexes, pairs or groups that share no replica, whose modes were trained.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd

from lossatlas.claims.conditions import NotTestableError
from lossatlas.claims.found import Found
from lossatlas.claims.statements import Finding
from lossatlas.claims.statistics import Test, all_of, below_zero, interval

FEWEST_POINTS = 25
HIGHEST_INSIDE = 0.25  # of the highest loss of the straight line
LEAST_BARRIER = 5  # times the highest loss of the way over connectors
LEAST_ACCURACY = 98  # percent
COLLAPSE = 0.5  # of the second height
CONNECTORS = 11  # at which the paper's volume collapses
SAME = 0.01  # relative change of NLL
ENOUGH = 8  # independent pairs with which one of twelve claims can be tested
ROUNDING = 1e-6  # nats
FIXED, EPSILON, AUTHORS = 0, 1, 2  # ways of the table `volume`
UNTRAINED = "between modes that were not trained"


def _finding(
    each: np.ndarray, gaps: np.ndarray, text: str, what: str, *, holds: bool = True
) -> Finding:
    """Return what gaps (n,) below 0 say; the effect is the mean of `each` (n,)."""
    below = int((gaps < 0).sum())
    words = f"{text}; in {below} of {len(gaps)} {what}"
    ends, test = interval(each), partial(below_zero, gaps, what)
    return Finding(float(each.mean()), words, holds and gaps.mean() < 0, test, *ends)


def _enough_points(found: Found) -> None:
    """Refuse a simplex with fewer random points than the claims ask for."""
    fewest = int(found.frame("simplex", "inside")["simplex"].value_counts().min())
    if fewest < FEWEST_POINTS:
        raise NotTestableError(f"{fewest} points per simplex, fewer than {FEWEST_POINTS}")


def _by_complex(found: Found, *names: str) -> tuple[pd.DataFrame, str]:
    """Return a row of scalars for each complex between trained modes, and what was left out."""
    table = found.scalars("simplex", *names)
    wide = table.pivot_table(index=["cell", "replica"], columns="metric", values="value")
    wide = wide.reindex(columns=list(names)).dropna()
    if wide.empty:
        raise NotTestableError(f"no complex has {' and '.join(names)}")
    loss = found.scalars("simplex", "mode_loss").set_index(["cell", "replica"])["value"]
    good = [_trained(found, loss, cell, seed, wide) for cell, seed in wide.index]
    if not any(good):
        raise NotTestableError(f"all complexes are {UNTRAINED}: loss {loss.min():.2f} nats or more")
    lost = len(good) - sum(good)
    return wide[good], f"; {lost} complexes {UNTRAINED} are left out" if lost else ""


def _trained(found: Found, loss: pd.Series, cell: str, first: int, complexes: pd.DataFrame) -> bool:
    """Say whether all modes from a complex's first one to the next complex have a low loss."""
    firsts = complexes.loc[cell].index
    end = firsts[firsts > first].min() if (firsts > first).any() else math.inf
    own = loss.loc[cell]
    own = own[(own.index >= first) & (own.index < end)]
    return bool(len(own)) and bool((own < 0.5 * math.log(max(found.known.classes, 2))).all())


def low_inside(found: Found) -> Finding:
    """C1: the largest loss inside over that of the straight line."""
    _enough_points(found)
    table, lost = _by_complex(found, "inside_loss", "inside_loss_max", "segment_loss_max")
    mean, inside, line = (table[name].to_numpy() for name in table)
    text = f"inside {mean.mean():.3f}, at most {inside.mean():.3f}; line {line.mean():.3f} nats"
    return _finding(inside / line, inside - HIGHEST_INSIDE * line, text + lost, "complexes")


def connector_avoids_barrier(found: Found) -> Finding:
    """C2: the largest loss of the straight line over that of the way over a connector."""
    table, lost = _by_complex(found, "segment_loss_max", "path_loss_max")
    line, path = (table[name].to_numpy() for name in table)
    text = f"line {line.mean():.3f}, path {path.mean():.3f} nats" + lost
    return _finding(line / path, LEAST_BARRIER * path - line, text, "complexes")


def _volumes(found: Found) -> tuple[pd.DataFrame, str]:
    """Return the rows of `volume` of first simplexes between trained modes, and what is left out.

    Modes were not trained if, with the least regularisation and one connector, some network inside
    errs on half of the training images or more.
    """
    table = found.frame("simplex_volume", "volume")
    table = table[table["simplex"] == 0]
    plain = table["regularisation"] == table["regularisation"].min()
    first = table[plain & (table["connectors"] == 1) & (table["way"] == FIXED)]
    good = set(first.loc[first["train_accuracy"] > 50, "pair"])
    if not good:
        raise NotTestableError(f"all pairs are {UNTRAINED}, or have no connector")
    lost = table["pair"].nunique() - len(good)
    words = f"; {lost} pairs {UNTRAINED} are left out" if lost else ""
    return table[table["pair"].isin(good)], words


def volume_collapses(found: Found) -> Finding:
    """C3: the last height over the second, at the largest strength, with no 1e-4 in the way."""
    table, lost = _volumes(found)
    strength, last = table["regularisation"].max(), table["connectors"].max()
    if last < CONNECTORS:
        raise NotTestableError(f"{last:.0f} connectors; the paper's collapse is at {CONNECTORS}")
    table = table[(table["regularisation"] == strength) & (table["connectors"] >= 2)]
    ratios, texts = {}, []
    for way, words in ((AUTHORS, "paper"), (EPSILON, "fixed with 1e-4"), (FIXED, "fixed")):
        rows = table[table["way"] == way]
        heights = rows.pivot_table(index="pair", columns="connectors", values="height").dropna()
        if last not in heights or heights.empty or not (heights.iloc[:, 0] > 0).all():
            raise NotTestableError(f"mode {words}: a connector diverged, or a volume is 0")
        ratios[way] = (heights[last] / heights.iloc[:, 0]).to_numpy()
        small = rows[2 * rows["log_volume"] < math.log(1e-4)]["connectors"]
        where = f"V^2 < 1e-4 from {int(small.min())}" if len(small) else "V^2 >= 1e-4"
        texts.append(f"{words}: {ratios[way].mean():.2f} ({where})")
    text = f"height of connector {last:.0f} over that of the second, strength {strength:g}: "
    text += "; ".join(texts) + lost
    return _finding(ratios[FIXED], ratios[FIXED] - COLLAPSE, text, "pairs")


def accurate_inside(found: Found) -> Finding:
    """C4: the least training accuracy inside each complex."""
    _enough_points(found)
    table, lost = _by_complex(found, "inside_accuracy_min")
    leasts = table["inside_accuracy_min"].to_numpy()
    holds = bool((leasts > LEAST_ACCURACY).all())
    text = f"at least {leasts.min():.2f}%, {leasts.mean():.2f}% in the mean" + lost
    return _finding(leasts, LEAST_ACCURACY - leasts, text, "complexes", holds=holds)


def _apart(table: pd.DataFrame, measure: str, keys: list[str]) -> np.ndarray:
    """Return differences 2-simplex minus deep ensemble over groups that share no component."""
    wide = table[table["disjoint"] == 1].pivot_table(index=keys, columns="method", values=measure)
    if 0 not in wide or 2 not in wide:
        return np.empty(0)
    return (wide[2] - wide[0]).groupby(level="group").mean().dropna().to_numpy()


def _paired(table: pd.DataFrame, measure: str, keys: list[str]) -> tuple[np.ndarray, int]:
    """Return the differences, and at how many components: the most that leave `ENOUGH` pairs.

    The number with the most pairs, if none leaves enough.
    """
    sizes = sorted(map(int, table["components"].unique()))
    pairs = {size: _apart(table[table["components"] == size], measure, keys) for size in sizes}
    if not any(len(gaps) for gaps in pairs.values()):
        raise NotTestableError("needs the replicas and 2-simplexes, in groups that share none")
    enough = [size for size, gaps in pairs.items() if len(gaps) >= ENOUGH]
    size = max(enough) if enough else max(pairs, key=lambda one: len(pairs[one]))
    return pairs[size], size


def _trained_replicas(found: Found) -> np.ndarray:
    """Return whether each replica, in order, errs on less than half of what guesses err on."""
    table = found.frame("espro", "ensembles")
    alone = table[(table["method"] == 0) & (table["components"] == 1)].sort_values("group")
    chance = 100 * (1 - 1 / max(found.known.classes, 2))
    good = (alone["error"] < chance / 2).to_numpy()
    if not good.any():
        what = f"test error {alone['error'].min():.0f}% or more" if len(alone) else "no errors"
        raise NotTestableError(f"no mode was trained: {what}")
    return good


def _all_trained(found: Found) -> None:
    if not (good := _trained_replicas(found)).all():
        raise NotTestableError(f"{(~good).sum()} of {len(good)} modes were not trained")


def simplex_beats_deep_ensemble(found: Found) -> Finding:
    """C5: paired differences of NLL at equal numbers of components."""
    _all_trained(found)
    table = found.frame("espro", "ensembles")
    gaps, size = _paired(table, "nll", ["group"])
    errors = _apart(table[table["components"] == size], "error", ["group"])
    text = f"at {size} components NLL {gaps.mean():+.4f}, error {errors.mean():+.3f} points"
    return _finding(gaps, gaps, text, "groups")


def three_simplexes_match_eight(found: Found) -> Finding:
    """C6: error of three 2-simplexes less that of eight replicas, of which three are theirs."""
    _all_trained(found)
    table = found.frame("espro", "ensembles")
    eight = table[(table["method"] == 0) & (table["components"] == 8) & (table["disjoint"] == 1)]
    three = table[(table["method"] == 2) & (table["components"] == 3)]
    if eight.empty or three.empty:
        raise NotTestableError("needs 8 replicas and 2-simplexes")
    ours = three.set_index("group")["error"].reindex(eight["group"])
    gaps = (ours - eight.set_index("group")["error"]).dropna().to_numpy()
    text = f"three 2-simplexes {ours.mean():.2f}%, eight replicas {eight['error'].mean():.2f}%"
    return _finding(gaps, gaps, text, "groups of eight")


def diverse_but_less_than_modes(found: Found) -> Finding:
    """C7: disagreement inside simplexes over that between their modes, in pairs of neighbours."""
    good = _trained_replicas(found)
    table = found.scalars("espro", "simplex_disagreement", "mode_disagreement")
    inside, between = [], []
    for _, cell in table.groupby("cell"):
        own = cell[cell["metric"] == "simplex_disagreement"].set_index("replica")["value"]
        pairs = cell[cell["metric"] == "mode_disagreement"]
        apart = pairs.set_index(["replica", "partner"])["value"]
        seeds = [seed for seed, fine in zip(sorted(own.index), good, strict=False) if fine]
        for pair in zip(seeds[::2], seeds[1::2], strict=False):
            if apart.get(pair, 0.0) > 0:
                inside.append(own[list(pair)].mean())
                between.append(apart[pair])
    if not inside:
        raise NotTestableError("no two trained modes that differ have simplexes")
    ours, theirs = np.array(inside), np.array(between)
    text = f"inside {ours.mean():.2f}%, between modes {theirs.mean():.2f}%"
    holds = bool((ours > 0).all())
    return _finding(ours / theirs, ours - theirs, text, "pairs of modes", holds=holds)


def mixture_beats_member(found: Found) -> Finding:
    """C8: the largest excess of the mixture's NLL over its members' mean."""
    table = found.frame("espro", "ensembles").dropna(subset=["nll", "member_nll"])
    if table.empty:
        raise NotTestableError("no ensemble has its members' NLL")
    excess = float((table["nll"] - table["member_nll"]).max())
    text = f"largest excess {excess:.2g} in {len(table)} ensembles"
    return Finding(excess, text, excess <= 1e-9, None)


def insensitive_to_strength(found: Found) -> Finding:
    """C9: the relative change of NLL that small strengths make, and large ones.

    Of simplexes grown from single replicas, as in the paper's appendix A, where `espro_strength`
    was measured; else of complexes between pairs.
    """
    table, units, lost = _by_strength(found)

    def change(way: int, low: float, high: float) -> np.ndarray:
        """Return the largest change of each unit."""
        rows = table[table["way"] == way]
        wide = rows.pivot_table(index=["unit", "size"], columns="regularisation", values="nll")
        chosen = [s for s in wide if low <= float(str(s)) <= high]
        if not chosen or 0.0 not in wide:
            raise NotTestableError(f"needs strength 0 and one of {low:g} to {high:g}")
        changes = wide[chosen].div(wide[0.0], axis=0).sub(1).abs().max(axis=1)
        return changes.groupby(level="unit").max().dropna().to_numpy()

    small, large = change(AUTHORS, 1e-9, 1e-5), change(FIXED, 1e-2, 1.0)
    text = f"up to 1e-6 (paper) {100 * small.mean():.2g}%, less than 1% in "
    text += f"{(small < SAME).sum()} of {len(small)} {units}; from 1e-2 up (fixed) "
    text += f"{100 * large.mean():.2g}%, more in {(large > SAME).sum()} of {len(large)}" + lost
    holds = small.mean() < SAME < large.mean()

    def test() -> Test:
        return all_of(below_zero(small - SAME, units), below_zero(SAME - large, units))

    return Finding(float(small.mean()), text, bool(holds), test, *interval(small))


def _by_strength(found: Found) -> tuple[pd.DataFrame, str, str]:
    """Return rows with `unit`, `size`, `way`, `regularisation`, `nll`; their name; what is lost."""
    if "espro_strength" not in found.kinds:
        table, lost = _volumes(found)
        names = {"pair": "unit", "connectors": "size", "test_nll": "nll"}
        return table.rename(columns=names), "pairs", lost
    table = found.frame("espro_strength", "strengths")
    chance = 100 * (1 - 1 / max(found.known.classes, 2))
    plain = table[(table["regularisation"] == table["regularisation"].min())]
    good = set(plain.loc[(plain["way"] == FIXED) & (plain["error"] < chance / 2), "component"])
    if not good:
        raise NotTestableError("all simplexes grow from modes that were not trained")
    bad = table["component"].nunique() - len(good)
    words = f"; {bad} simplexes of modes that were not trained are left out" if bad else ""
    kept = table[table["component"].isin(good)].assign(size=1)
    ways = kept["way"].map({0: FIXED, 1: AUTHORS})
    return kept.assign(way=ways).rename(columns={"component": "unit"}), "simplexes", words


def sampling_is_uniform(found: Found) -> Finding:
    """C10: the least p-value of tests of uniformity, in both triangles."""
    tests = found.frame("sampling_bias", "tests")
    right, wrong = (tests[tests["wrong"] == kind] for kind in (0, 1))
    if right.empty or wrong.empty:
        raise NotTestableError("needs the right sampler and the wrong one")
    least = float(right[["p_chi_square", "p_kolmogorov"]].min().min())
    caught = float(wrong["p_chi_square"].max())
    text = f"p >= {least:.3f}; normalised uniform numbers p <= {caught:.1g}"
    return Finding(least, text, least > 1e-3 > caught, None)


def curves_keep_their_ends(found: Found) -> Finding:
    """C11: the largest difference between a curve's end and the replica, as `simplex` measured it.

    Both are the loss on all training images, by two metrics, each with code of its own.
    """
    table = found.tables("connectivity").series
    table = table[(table["series"] == "train_loss") & (table["path"] != "linear")]
    ends = {"replica": table[table["x"] == 0.0], "partner": table[table["x"] == 1.0]}
    if any(part.empty for part in ends.values()):
        raise NotTestableError("no curve was trained to its end")
    known = found.scalars("simplex", "mode_loss").set_index(["cell", "replica"])["value"]
    gaps = []
    for who, part in ends.items():
        there = known.reindex(pd.MultiIndex.from_frame(part[["cell", who]]))
        gaps.append(np.abs(part["y"].to_numpy() - there.to_numpy(np.float64)))
    joined = np.concatenate(gaps)
    joined = joined[np.isfinite(joined)]
    if not len(joined):
        raise NotTestableError("no other metric has measured the replicas at the ends")
    text = f"largest difference {joined.max():.2g} nats at {len(joined)} ends"
    return Finding(float(joined.max()), text, bool(joined.max() <= ROUNDING), None)


def robust_to_shifts(found: Found) -> Finding:
    """C12: paired differences of calibrated NLL on shifted images, over kinds and severities."""
    _all_trained(found)
    table = found.frames("espro", "corruption", "kind")
    rows = table[table["severity"] > 0]
    if rows.empty:
        raise NotTestableError("no shifted images were measured")
    gaps, size = _paired(rows, "nll_scaled", ["group", "kind", "severity"])
    text = f"at {size} components scaled NLL {gaps.mean():+.4f}"
    return _finding(gaps, gaps, text, "groups")
