"""Claims about simplexes of low loss: Benton et al. (ICML 2021)."""

from __future__ import annotations

from lossatlas.claims import found
from lossatlas.claims import simplex_checks as checks
from lossatlas.claims.conditions import ANY, TRAINED
from lossatlas.claims.statements import Claim

cells = found.cells
evidence = found.evidence
tells = found.tells

PAPER = "Benton et al. 2021"

CLAIMS = (
    Claim(
        "C1",
        "Inside a simplex that connects modes the loss is near that of the modes.",
        f"largest of {checks.FEWEST_POINTS} or more points per simplex < {checks.HIGHEST_INSIDE} "
        "of the largest on the straight line",
        TRAINED,
        "ours",
        "simplex",
        checks.low_inside,
    ),
    Claim(
        "C2",
        "The straight line between modes crosses a barrier, the way over a connector does not.",
        f"largest loss of the line > {checks.LEAST_BARRIER} times that of the way",
        TRAINED,
        "ours",
        "simplex",
        checks.connector_avoids_barrier,
    ),
    Claim(
        "C3",
        "As connectors are added the volume collapses, at the dimension of a manifold of low loss.",
        f"the height of connector {checks.CONNECTORS} or more is below half of the second one's, "
        "without 1e-4 added to V^2",
        TRAINED,
        "ours",
        "simplex_volume",
        checks.volume_collapses,
    ),
    Claim(
        "C4",
        "Every sampled network keeps a high training accuracy.",
        f"> {checks.LEAST_ACCURACY}% (published for VGG16 on CIFAR-10)",
        TRAINED,
        "paper",
        "simplex",
        checks.accurate_inside,
    ),
    Claim(
        "C5",
        "Simplexes beat deep ensembles of the same number of components in likelihood.",
        "2-simplex lower in NLL over groups that share no replica",
        TRAINED,
        "none",
        "espro",
        checks.simplex_beats_deep_ensemble,
    ),
    Claim(
        "C6",
        "Three 2-simplexes err no more than eight replicas.",
        "error of the first below that of the second (published: 5.68% and 5.89%), in groups of "
        "eight that share no replica",
        TRAINED,
        "none",
        "espro",
        checks.three_simplexes_match_eight,
    ),
    Claim(
        "C7",
        "Networks of one simplex differ in function, less than modes do.",
        "0 < disagreement inside < disagreement between modes",
        TRAINED,
        "none",
        "espro",
        checks.diverse_but_less_than_modes,
    ),
    Claim(
        "C8",
        "A mixture is at least as likely as its members are on average (Jensen).",
        "in every ensemble",
        ANY,
        "identity",
        "espro",
        checks.mixture_beats_member,
    ),
    Claim(
        "C9",
        "Results do not depend on the strength of the volume term at the authors' settings.",
        "NLL within 1% for strengths up to 1e-6, but not from 1e-2 up",
        TRAINED,
        "ours",
        "simplex_volume",
        checks.insensitive_to_strength,
    ),
    Claim(
        "C10",
        "Barycentric sampling is uniform in triangles of any shape.",
        "chi-square and Kolmogorov-Smirnov p > 0.001, and a wrong sampler is caught",
        ANY,
        "ours",
        "sampling_bias",
        checks.sampling_is_uniform,
    ),
    Claim(
        "C11",
        "Curves reproduce the networks at their ends.",
        "loss at the ends as the metric `simplex` measured it on the replicas, but for rounding",
        ANY,
        "identity",
        "connectivity",
        checks.curves_keep_their_ends,
    ),
    Claim(
        "C12",
        "On corrupted images simplexes stay ahead after temperature scaling.",
        "2-simplex lower in scaled NLL",
        TRAINED,
        "none",
        "espro",
        checks.robust_to_shifts,
    ),
)
