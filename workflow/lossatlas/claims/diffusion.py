"""Claims about anomalous diffusion: Chen et al. (2022), and what controls say of them.

Made of plain SGD at a constant rate, on clean labels unless they say otherwise; judged in all cells
of the largest load, by tests over replicas. Directions are tested where the paper gives no size.
"""

from __future__ import annotations

from lossatlas.claims import diffusion_checks as checks
from lossatlas.claims import found
from lossatlas.claims.conditions import ANY, FITTED_WALK, RANDOM_LABELS, WALK
from lossatlas.claims.statements import Claim

cells = found.cells
evidence = found.evidence
tells = found.tells

PAPER = "Chen et al. 2022"

_D = "diffusion"
CLAIMS = (
    Claim(
        "C1",
        "Early in training the weights move superdiffusively.",
        "exponent at lags 10 to 100 above 1 in the first of several windows "
        "(authors: 1.01 to 1.42)",
        FITTED_WALK,
        "none",
        _D,
        checks.early_is_super,
    ),
    Claim(
        "C2",
        "Late in training they move subdiffusively.",
        "exponent at lags 10 to 100 below 1 in the last of several windows (authors: 0.6 to 0.9)",
        FITTED_WALK,
        "none",
        _D,
        checks.late_is_sub,
    ),
    Claim(
        "C3",
        "The exponent falls during training.",
        "rho(window, exponent) < 0",
        WALK,
        "none",
        _D,
        checks.exponent_falls,
    ),
    Claim(
        "C4",
        "With a small learning rate the path is smooth in all windows.",
        "exponents of both windows near 2 at rates up to 0.01 (above 1.8 and 1.7, as read off)",
        FITTED_WALK,
        "paper",
        _D,
        checks.small_rates_are_smooth,
    ),
    Claim(
        "C5",
        "The early exponent depends little on the batch size.",
        "within 0.15 of the mean over batch sizes, as in the hand-read table",
        FITTED_WALK,
        "paper",
        _D,
        checks.batch_matters_little,
    ),
    Claim(
        "C6",
        "Without shortcuts deeper networks are less superdiffusive.",
        "rho(depth, exponent) < 0",
        FITTED_WALK,
        "none",
        _D,
        checks.shortcuts_help,
    ),
    Claim(
        "C7",
        "Local exponents stay within the plotted range.",
        "most of them 0.5 to 2.5 at lags 10 to 300, in each run",
        WALK,
        "paper",
        _D,
        checks.local_exponents_in_range,
    ),
    Claim(
        "C8",
        "Displacement at long lags shrinks during training.",
        "squared displacement at the longest lag, first window over last, above 1 "
        "(authors: 5 to 21)",
        WALK,
        "none",
        _D,
        checks.amplitude_falls,
    ),
    Claim(
        "C9",
        "The loss differs more the farther two points are.",
        "exponent above 0, in the first window and in the last",
        WALK,
        "none",
        _D,
        checks.loss_grows_with_distance,
    ),
    Claim(
        "C10",
        "The early path is neither straight nor a random walk.",
        "exponent against contour length between 1 and 2",
        WALK,
        "none",
        _D,
        checks.path_is_bent,
    ),
    Claim(
        "C11",
        "The moving variance of the loss becomes small.",
        "at most 0.005, the end of the paper's axis, in the second half of the run",
        WALK,
        "paper",
        _D,
        checks.loss_settles,
    ),
    Claim(
        "C12",
        "The tails of gradients become lighter during training.",
        "stable index larger in the last window than in the first (authors: by 0.5 or more)",
        WALK,
        "none",
        _D,
        checks.gradients_become_normal,
    ),
    Claim(
        "C13",
        "Settled walkers on a fractal are subdiffusive.",
        "exponent below 1; 1.00 within 0.02 on a flat surface",
        ANY,
        "ours",
        "toy_walkers",
        checks.walkers_settle,
    ),
    Claim(
        "C14",
        "Walkers are superdiffusive on a fractal surface and not on a convex one.",
        "early exponent above 1 on the fractal, at most 1 on the cone",
        ANY,
        "none",
        "toy_walkers",
        checks.fractals_are_special,
    ),
    Claim(
        "C15",
        "Random labels show superdiffusion early as well.",
        "exponent above 1",
        RANDOM_LABELS,
        "none",
        _D,
        checks.random_labels_too,
    ),
)
