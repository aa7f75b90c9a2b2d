"""Claims about simplexes of low loss: Benton et al. (ICML 2021).

Sizes are theirs where they give one (VGG16 on CIFAR-10); elsewhere the direction is what carries
over, so read `observed` too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from lossatlas.claims.checks import Finding
from lossatlas.claims.grid import NotTestableError
from lossatlas.errors import UserError
from lossatlas.figures import Tables
from lossatlas.figures.frames import frame, frames

PAPER = "Benton et al. 2021"
LEVEL = 0.05
FEWEST_PAIRS = 5
FEWEST_POINTS = 25
FIXED, EPSILON, AUTHORS = 0, 1, 2  # ways of the table `volume`
Found = Mapping[str, Tables]  # kind of metric, or study -> its tables


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


def low_inside(found: Found) -> Finding:
    """C1: the largest loss inside over that of the straight line."""
    _enough_points(found)
    inside = _scalar(found, "simplex", "inside_loss_max")
    line = _scalar(found, "simplex", "segment_loss_max")
    modes = _scalar(found, "simplex", "mode_loss")
    mean = _scalar(found, "simplex", "inside_loss")
    ratio = inside / line
    text = f"inside {mean:.3f}, at most {inside:.3f}; line {line:.3f}; modes {modes:.4f} nats"
    return Finding(ratio <= 0.25, ratio, text)


def connector_avoids_barrier(found: Found) -> Finding:
    """C2: the largest loss of the straight line over that of the way over a connector."""
    line = _scalar(found, "simplex", "segment_loss_max")
    path = _scalar(found, "simplex", "path_loss_max")
    return Finding(line / path >= 5, line / path, f"line {line:.3f}, path {path:.3f} nats")


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
        rows = table[table["way"] == way].sort_values("connectors")
        heights = rows["height"].to_numpy()
        if rows["connectors"].max() != last or not heights[0] > 0:
            raise NotTestableError(f"mode {words}: a connector diverged, or a volume is 0")
        ratios[way] = heights[-1] / heights[0]
        small = rows[2 * rows["log_volume"] < math.log(1e-4)]["connectors"]
        where = f"V^2 < 1e-4 from {int(small.min())}" if len(small) else "V^2 >= 1e-4"
        texts.append(f"{words}: {ratios[way]:.2f} ({where})")
    text = f"height of connector {last:.0f} over that of the second, strength {strength:g}: "
    text += "; ".join(texts)
    return Finding(ratios[FIXED] < 0.5, float(ratios[FIXED]), text)


def accurate_inside(found: Found) -> Finding:
    """C4: the least training accuracy inside."""
    _enough_points(found)
    least = _scalar(found, "simplex", "inside_accuracy_min")
    return Finding(least > 98, least, f"at least {least:.2f}%")


def _paired(table: pd.DataFrame, measure: str, keys: list[str]) -> tuple[np.ndarray, int]:
    """Return differences 2-simplex minus deep ensemble over groups that share no component."""
    wide = table[table["disjoint"] == 1].pivot_table(index=keys, columns="method", values=measure)
    if 0 not in wide or 2 not in wide:
        raise NotTestableError("needs the replicas and 2-simplexes")
    gaps = (wide[2] - wide[0]).groupby(level="group").mean().dropna().to_numpy()
    if len(gaps) < FEWEST_PAIRS:
        raise NotTestableError(f"{len(gaps)} independent pairs, fewer than {FEWEST_PAIRS}")
    return gaps, int((gaps < 0).sum())


def _verdict(gaps: np.ndarray, wins: int, words: str) -> Finding:
    p = float(stats.wilcoxon(gaps, alternative="less").pvalue) if gaps.any() else 1.0
    mean, error = float(gaps.mean()), float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    text = f"{words} {mean:+.4f} ± {error:.4f}, lower in {wins} of {len(gaps)} pairs, p = {p:.3f}"
    return Finding(mean < 0 and p <= LEVEL, mean, text)


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
    gaps, wins = _paired(rows, "nll", ["group"])
    errors, _ = _paired(rows, "error", ["group"])
    finding = _verdict(gaps, wins, f"at {size} components NLL")
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
    """C7: disagreement inside a simplex over that between modes."""
    inside = _scalar(found, "espro", "simplex_disagreement")
    between = _scalar(found, "espro", "mode_disagreement")
    text = f"inside {inside:.2f}%, between modes {between:.2f}%"
    return Finding(0 < inside < between, inside / between if between else math.nan, text)


def mixture_beats_member(found: Found) -> Finding:
    """C8: the largest excess of the mixture's NLL over its members' mean."""
    table = _frame(found, "espro", "ensembles")
    excess = float((table["nll"] - table["member_nll"]).max())
    return Finding(excess <= 1e-9, excess, f"largest excess {excess:.2g} in {len(table)} ensembles")


def insensitive_to_strength(found: Found) -> Finding:
    """C9: the relative change of NLL that small strengths make, and large ones."""
    table = _frame(found, "simplex_volume", "volume")
    table = table[table["simplex"] == 0]

    def change(way: int, low: float, high: float) -> float:
        rows = table[table["way"] == way]
        wide = rows.pivot_table(index="connectors", columns="regularisation", values="test_nll")
        chosen = [s for s in wide if low <= float(str(s)) <= high]
        if not chosen or 0.0 not in wide:
            raise NotTestableError(f"needs strength 0 and one of {low:g} to {high:g}")
        return max(float((wide[s] / wide[0.0] - 1).abs().max()) for s in chosen)

    small, large = change(AUTHORS, 1e-9, 1e-5), change(FIXED, 1e-2, 1.0)
    text = f"up to 1e-6 (paper) {100 * small:.2g}%, from 1e-2 up (fixed) {100 * large:.2g}%"
    return Finding(small < 0.01 < large, small, text)


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
    table = table[table["x"].isin((0.0, 1.0)) & table["series"].str.endswith("_train_loss")]
    kinds = table["series"].str.removesuffix("_train_loss")
    keys = ["cell", "replica", "partner", "x"]
    wide = table.assign(kind=kinds).pivot_table(index=keys, columns="kind", values="y")
    curves = [name for name in wide if name != "linear"]
    if wide.empty or not curves:
        raise NotTestableError("no curve")
    gap = max(float((wide[name] - wide["linear"]).abs().max()) for name in curves)
    return Finding(gap == 0, gap, f"largest difference {gap:.2g} nats at {len(wide)} ends")


def robust_to_shifts(found: Found) -> Finding:
    """C12: paired differences of calibrated NLL on shifted images, over kinds and severities."""
    try:
        kinds = frames(_tables(found, "espro"), "corruption")
    except UserError as error:
        raise NotTestableError(str(error)) from None
    if not kinds:
        raise NotTestableError("no shifted images were measured")
    table = pd.concat([rows.assign(kind=kind) for kind, rows in kinds.items()])
    rows = table[table["severity"] > 0]
    gaps, wins = _paired(rows, "nll_scaled", ["group", "kind", "severity"])
    size = int(table["components"].max())
    return _verdict(gaps, wins, f"at {size} components scaled NLL")


@dataclass(frozen=True)
class Claim:
    """A statement with its direction and size, and how to check it."""

    name: str
    statement: str
    expected: str
    needs: str
    check: Callable[[Found], Finding]


CLAIMS = (
    Claim(
        "C1",
        "Inside a simplex that connects modes the loss is near that of the modes.",
        f"largest of {FEWEST_POINTS} or more points per simplex <= 0.25 of the largest on the "
        "straight line",
        "simplex",
        low_inside,
    ),
    Claim(
        "C2",
        "The straight line between modes crosses a barrier, the way over a connector does not.",
        "largest loss of the line >= 5 times that of the way",
        "simplex",
        connector_avoids_barrier,
    ),
    Claim(
        "C3",
        "As connectors are added the volume collapses, at the dimension of a manifold of low loss.",
        "the newest height falls below half of the second one's, without 1e-4 added to V^2",
        "simplex_volume",
        volume_collapses,
    ),
    Claim(
        "C4",
        "Every sampled network keeps a high training accuracy.",
        "> 98%",
        "simplex",
        accurate_inside,
    ),
    Claim(
        "C5",
        "Simplexes beat deep ensembles of the same number of components in likelihood.",
        f"2-simplex lower in NLL, Wilcoxon p <= {LEVEL} over groups that share no replica",
        "espro",
        simplex_beats_deep_ensemble,
    ),
    Claim(
        "C6",
        "Three 2-simplexes err no more than eight replicas.",
        "error of the first <= that of the second (published: 5.68% and 5.89%)",
        "espro",
        three_simplexes_match_eight,
    ),
    Claim(
        "C7",
        "Networks of one simplex differ in function, less than modes do.",
        "0 < disagreement inside < disagreement between modes",
        "espro",
        diverse_but_less_than_modes,
    ),
    Claim(
        "C8",
        "A mixture is at least as likely as its members are on average (Jensen).",
        "in every ensemble",
        "espro",
        mixture_beats_member,
    ),
    Claim(
        "C9",
        "Results do not depend on the strength of the volume term at the authors' settings.",
        "NLL within 1% for strengths up to 1e-6, but not from 1e-2 up",
        "simplex_volume",
        insensitive_to_strength,
    ),
    Claim(
        "C10",
        "Barycentric sampling is uniform in triangles of any shape.",
        "chi-square and Kolmogorov-Smirnov p > 0.001, and a wrong sampler is caught",
        "sampling_bias",
        sampling_is_uniform,
    ),
    Claim(
        "C11",
        "Curves reproduce the networks at their ends.",
        "no difference at all",
        "connectivity",
        curves_keep_their_ends,
    ),
    Claim(
        "C12",
        "On corrupted images simplexes stay ahead after temperature scaling.",
        f"2-simplex lower in scaled NLL, Wilcoxon p <= {LEVEL}",
        "espro",
        robust_to_shifts,
    ),
)


def rows(
    experiments: Mapping[str, Found], claims: Sequence[Claim] | None = None, paper: str = PAPER
) -> list[tuple[str, str, str, str, str, str, float, str]]:
    """Return a row of the table of claims for each claim and experiment that could tell.

    Args:
        experiments: Experiment -> its tables; studies count as one experiment.
        claims: The claims; default those about simplexes.
        paper: Whose claims they are.
    """
    found = []
    for claim in CLAIMS if claims is None else claims:
        for name, tables in experiments.items():
            if claim.needs in tables:
                head = (paper, claim.name, name, claim.statement, claim.expected)
                found.append((*head, *_checked(claim, tables)))
    return found


def _checked(claim: Claim, tables: Found) -> tuple[str, float, str]:
    try:
        finding = claim.check(tables)
    except NotTestableError as reason:
        return str(reason), math.nan, "not testable"
    return finding.observed, finding.effect, "yes" if finding.holds else "no"
