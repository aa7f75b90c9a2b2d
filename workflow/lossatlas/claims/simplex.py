"""Claims about simplexes of low loss: Benton et al. (ICML 2021)."""

from __future__ import annotations

from lossatlas.claims import simplex_checks as checks
from lossatlas.claims.paired import LEVEL
from lossatlas.claims.statements import Claim

PAPER = "Benton et al. 2021"

CLAIMS = (
    Claim(
        "C1",
        "Inside a simplex that connects modes the loss is near that of the modes.",
        f"largest of {checks.FEWEST_POINTS} or more points per simplex < {checks.HIGHEST_INSIDE} "
        "of the largest on the straight line",
        "simplex",
        checks.low_inside,
    ),
    Claim(
        "C2",
        "The straight line between modes crosses a barrier, the way over a connector does not.",
        f"largest loss of the line > {checks.LEAST_BARRIER} times that of the way",
        "simplex",
        checks.connector_avoids_barrier,
    ),
    Claim(
        "C3",
        "As connectors are added the volume collapses, at the dimension of a manifold of low loss.",
        "the newest height falls below half of the second one's, without 1e-4 added to V^2",
        "simplex_volume",
        checks.volume_collapses,
    ),
    Claim(
        "C4",
        "Every sampled network keeps a high training accuracy.",
        "> 98%",
        "simplex",
        checks.accurate_inside,
    ),
    Claim(
        "C5",
        "Simplexes beat deep ensembles of the same number of components in likelihood.",
        f"2-simplex lower in NLL, Wilcoxon p <= {LEVEL} over groups that share no replica",
        "espro",
        checks.simplex_beats_deep_ensemble,
    ),
    Claim(
        "C6",
        "Three 2-simplexes err no more than eight replicas.",
        "error of the first <= that of the second (published: 5.68% and 5.89%)",
        "espro",
        checks.three_simplexes_match_eight,
    ),
    Claim(
        "C7",
        "Networks of one simplex differ in function, less than modes do.",
        "0 < disagreement inside < disagreement between modes",
        "espro",
        checks.diverse_but_less_than_modes,
    ),
    Claim(
        "C8",
        "A mixture is at least as likely as its members are on average (Jensen).",
        "in every ensemble",
        "espro",
        checks.mixture_beats_member,
    ),
    Claim(
        "C9",
        "Results do not depend on the strength of the volume term at the authors' settings.",
        "NLL within 1% for strengths up to 1e-6, but not from 1e-2 up",
        "simplex_volume",
        checks.insensitive_to_strength,
    ),
    Claim(
        "C10",
        "Barycentric sampling is uniform in triangles of any shape.",
        "chi-square and Kolmogorov-Smirnov p > 0.001, and a wrong sampler is caught",
        "sampling_bias",
        checks.sampling_is_uniform,
    ),
    Claim(
        "C11",
        "Curves reproduce the networks at their ends.",
        "no difference at all",
        "connectivity",
        checks.curves_keep_their_ends,
    ),
    Claim(
        "C12",
        "On corrupted images simplexes stay ahead after temperature scaling.",
        f"2-simplex lower in scaled NLL, Wilcoxon p <= {LEVEL}",
        "espro",
        checks.robust_to_shifts,
    ),
)
