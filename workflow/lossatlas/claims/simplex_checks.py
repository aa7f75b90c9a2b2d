"""How each claim of Benton et al. (2021) is checked: one function per claim of `simplex`.

Sizes are theirs where they give one (VGG16 on CIFAR-10); elsewhere the direction is what carries
over, so read `observed` too. Each claim about trained networks is judged over complexes, pairs or
groups that share no replica (see `paired`).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lossatlas.claims.checks import Finding
from lossatlas.claims.grid import NotTestableError
from lossatlas.claims.paired import FEWEST_PAIRS, below, spell, standard_error
from lossatlas.claims.statements import Found
from lossatlas.errors import UserError
from lossatlas.figures import Tables
from lossatlas.figures.frames import frame, frames

FEWEST_POINTS = 25
HIGHEST_INSIDE = 0.25  # of the highest loss of the straight line
LEAST_BARRIER = 5  # times the highest loss of the way over connectors
COLLAPSE = 0.5  # of the second height
SAME = 0.01  # relative change of NLL
FIXED, EPSILON, AUTHORS = 0, 1, 2  # ways of the table `volume`


def _scalar(found: Found, kind: str, name: str) -> float:
    table = _tables(found, kind).scalars
    values = table[(table["metric"] == name) & (table["status"] == "ok")]["value"].dropna()
    if values.empty:
        raise NotTestableError(f"no {name}")
    return float(values.mean())


def _tables(found: Found, kind: str) -> Tables:
    if kind not in found:
        raise NotTestableError(f"'{kind}' was not measured")
    return found[kind]


def _frame(found: Found, kind: str, name: str) -> pd.DataFrame:
    try:
        return frame(_tables(found, kind), name)
    except UserError as error:
        raise NotTestableError(str(error)) from None


def _enough_points(found: Found) -> None:
    """Refuse a simplex with fewer random points than the claims ask for."""
    fewest = int(_frame(found, "simplex", "inside")["simplex"].value_counts().min())
    if fewest < FEWEST_POINTS:
        raise NotTestableError(f"{fewest} points per simplex, fewer than {FEWEST_POINTS}")


def _by_complex(found: Found, *names: str) -> pd.DataFrame:
    """Return a row of scalars for each complex that has them all."""
    table = _tables(found, "simplex").scalars
    table = table[table["metric"].isin(names) & (table["status"] == "ok")]
    wide = table.pivot_table(index=["cell", "replica"], columns="metric", values="value")
    wide = wide.reindex(columns=list(names)).dropna()
    if wide.empty:
        raise NotTestableError(f"no complex has {' and '.join(names)}")
    return wide


def low_inside(found: Found) -> Finding:
    """C1: the largest loss inside over that of the straight line."""
    _enough_points(found)
    each = _by_complex(found, "inside_loss", "inside_loss_max", "segment_loss_max")
    mean, inside, line = (each[name].to_numpy() for name in each)
    gaps, ratio = inside - HIGHEST_INSIDE * line, float((inside / line).mean())
    modes = _scalar(found, "simplex", "mode_loss")
    text = f"inside {mean.mean():.3f}, at most {inside.mean():.3f}; line {line.mean():.3f}; "
    text += f"modes {modes:.4f} nats; {spell(gaps, 'complexes')}"
    return Finding(below(gaps), ratio, text)


def connector_avoids_barrier(found: Found) -> Finding:
    """C2: the largest loss of the straight line over that of the way over a connector."""
    each = _by_complex(found, "segment_loss_max", "path_loss_max")
    line, path = (each[name].to_numpy() for name in each)
    gaps, ratio = LEAST_BARRIER * path - line, float((line / path).mean())
    text = f"line {line.mean():.3f}, path {path.mean():.3f} nats; {spell(gaps, 'complexes')}"
    return Finding(below(gaps), ratio, text)


def volume_collapses(found: Found) -> Finding:
    """C3: the last height over the second, at the largest strength, with no 1e-4 in the way."""
    table = _frame(found, "simplex_volume", "volume")
    table = table[(table["simplex"] == 0) & (table["connectors"] >= 2)]
    strength, last = table["regularisation"].max(), table["connectors"].max()
    table = table[table["regularisation"] == strength]
    if table["connectors"].nunique() < 4:
        raise NotTestableError("fewer than 5 connectors")
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
    gaps = ratios[FIXED] - COLLAPSE
    text += f"{'; '.join(texts)}; {spell(gaps, 'pairs')}"
    return Finding(below(gaps), float(ratios[FIXED].mean()), text)


def accurate_inside(found: Found) -> Finding:
    """C4: the least training accuracy inside."""
    _enough_points(found)
    leasts = _by_complex(found, "inside_accuracy_min")["inside_accuracy_min"].to_numpy()
    least, text = float(leasts.min()), f"at least {leasts.min():.2f}%"
    if len(leasts) > 1:
        mean, error = leasts.mean(), standard_error(leasts)
        text += f" in {len(leasts)} complexes, whose least are {mean:.2f} ± {error:.2f}%"
    return Finding(least > 98, least, text)


def _paired(table: pd.DataFrame, measure: str, keys: list[str]) -> np.ndarray:
    """Return differences 2-simplex minus deep ensemble over groups that share no component."""
    wide = table[table["disjoint"] == 1].pivot_table(index=keys, columns="method", values=measure)
    if 0 not in wide or 2 not in wide:
        raise NotTestableError("needs the replicas and 2-simplexes")
    gaps = (wide[2] - wide[0]).groupby(level="group").mean().dropna().to_numpy()
    if len(gaps) < FEWEST_PAIRS:
        raise NotTestableError(f"{len(gaps)} independent pairs, fewer than {FEWEST_PAIRS}")
    return gaps


def _verdict(gaps: np.ndarray, words: str) -> Finding:
    mean, error = float(gaps.mean()), standard_error(gaps)
    text = f"{words} {mean:+.4f} ± {error:.4f}, lower in {spell(gaps, 'pairs')}"
    return Finding(below(gaps), mean, text)


def simplex_beats_deep_ensemble(found: Found) -> Finding:
    """C5: paired differences of NLL, at the largest number of components with enough pairs."""
    table = _frame(found, "espro", "ensembles")
    apart = table[(table["disjoint"] == 1) & (table["method"] == 0)]
    pairs = apart.groupby("components")["group"].nunique()
    enough = pairs[pairs >= FEWEST_PAIRS]
    if enough.empty:
        raise NotTestableError(f"fewer than {FEWEST_PAIRS} replicas")
    size = int(enough.index.max())
    rows = table[table["components"] == size]
    gaps, errors = (_paired(rows, name, ["group"]) for name in ("nll", "error"))
    finding = _verdict(gaps, f"at {size} components NLL")
    return Finding(
        finding.holds, finding.effect, f"{finding.observed}; error {errors.mean():+.3f} points"
    )


def three_simplexes_match_eight(found: Found) -> Finding:
    """C6: error of three 2-simplexes and of eight replicas."""
    table = _frame(found, "espro", "ensembles")
    means = table.groupby(["method", "components"])["error"].mean()
    if (0, 8) not in means.index or (2, 3) not in means.index:
        raise NotTestableError("needs 8 replicas and 2-simplexes")
    ours, theirs = float(means[2, 3]), float(means[0, 8])
    text = f"three 2-simplexes {ours:.2f}%, eight replicas {theirs:.2f}%"
    return Finding(ours <= theirs, ours - theirs, text)


def diverse_but_less_than_modes(found: Found) -> Finding:
    """C7: disagreement inside simplexes over that between their modes, in pairs of neighbours."""
    table = _tables(found, "espro").scalars
    table = table[(table["status"] == "ok") & table["value"].notna()]
    inside, between, gaps = [], [], []
    for _, cell in table.groupby("cell"):
        own = cell[cell["metric"] == "simplex_disagreement"].set_index("replica")["value"]
        pairs = cell[cell["metric"] == "mode_disagreement"]
        apart = pairs.set_index(["replica", "partner"])["value"]
        seeds = sorted(own.index)
        for pair in zip(seeds[::2], seeds[1::2], strict=False):
            if pair in apart.index:
                inside += [own[seed] for seed in pair]
                between.append(apart[pair])
                gaps.append(own[list(pair)].mean() - apart[pair])
    if not gaps:
        raise NotTestableError("no two replicas have simplexes")
    text = f"inside {np.mean(inside):.2f}%, between modes {np.mean(between):.2f}%; "
    ratio = float(np.mean(inside) / np.mean(between)) if any(between) else math.nan
    holds = np.mean(inside) > 0 and below(np.array(gaps))
    return Finding(bool(holds), ratio, text + f"less in {spell(np.array(gaps), 'pairs of modes')}")


def mixture_beats_member(found: Found) -> Finding:
    """C8: the largest excess of the mixture's NLL over its members' mean."""
    table = _frame(found, "espro", "ensembles")
    excess = float((table["nll"] - table["member_nll"]).max())
    return Finding(excess <= 1e-9, excess, f"largest excess {excess:.2g} in {len(table)} ensembles")


def insensitive_to_strength(found: Found) -> Finding:
    """C9: the relative change of NLL that small strengths make, and large ones."""
    table = _frame(found, "simplex_volume", "volume")
    table = table[table["simplex"] == 0]

    def change(way: int, low: float, high: float) -> np.ndarray:
        """Return the largest change of each pair."""
        rows, keys = table[table["way"] == way], ["pair", "connectors"]
        wide = rows.pivot_table(index=keys, columns="regularisation", values="test_nll")
        chosen = [s for s in wide if low <= float(str(s)) <= high]
        if not chosen or 0.0 not in wide:
            raise NotTestableError(f"needs strength 0 and one of {low:g} to {high:g}")
        changes = wide[chosen].div(wide[0.0], axis=0).sub(1).abs().max(axis=1)
        return changes.groupby(level="pair").max().dropna().to_numpy()

    small, large = change(AUTHORS, 1e-9, 1e-5), change(FIXED, 1e-2, 1.0)
    text = f"up to 1e-6 (paper) {100 * small.mean():.2g}%, less than 1% in "
    text += f"{spell(small - SAME, 'pairs')}; "
    text += f"from 1e-2 up (fixed) {100 * large.mean():.2g}%, more than 1% in "
    text += spell(SAME - large, "pairs")
    return Finding(below(small - SAME) and below(SAME - large), float(small.mean()), text)


def sampling_is_uniform(found: Found) -> Finding:
    """C10: the least p-value of tests of uniformity, in both triangles."""
    tests = _frame(found, "sampling_bias", "tests")
    right, wrong = (tests[tests["wrong"] == kind] for kind in (0, 1))
    least = float(right[["p_chi_square", "p_kolmogorov"]].min().min())
    caught = float(wrong["p_chi_square"].max())
    text = f"p >= {least:.3f}; normalised uniform numbers p <= {caught:.1g}"
    return Finding(least > 1e-3 > caught, least, text)


def curves_keep_their_ends(found: Found) -> Finding:
    """C11: the largest difference at the ends between a curve and the straight line."""
    table = _tables(found, "connectivity").series
    table = table[table["x"].isin((0.0, 1.0)) & (table["series"] == "train_loss")]
    if table.empty:
        raise NotTestableError("no curve")
    keys = ["cell", "replica", "partner", "x"]
    wide = table.pivot_table(index=keys, columns="path", values="y")
    curves = [name for name in wide if name != "linear"]
    if wide.empty or not curves:
        raise NotTestableError("no curve")
    gap = max(float((wide[name] - wide["linear"]).abs().max()) for name in curves)
    return Finding(gap == 0, gap, f"largest difference {gap:.2g} nats at {len(wide)} ends")


def robust_to_shifts(found: Found) -> Finding:
    """C12: paired differences of calibrated NLL on shifted images, over kinds and severities."""
    try:
        kinds = frames(_tables(found, "espro"), "corruption", "kind")
    except UserError as error:
        raise NotTestableError(str(error)) from None
    if not kinds:
        raise NotTestableError("no shifted images were measured")
    table = pd.concat(kinds.values())
    rows = table[table["severity"] > 0]
    gaps = _paired(rows, "nll_scaled", ["group", "kind", "severity"])
    size = int(table["components"].max())
    return _verdict(gaps, f"at {size} components scaled NLL")
