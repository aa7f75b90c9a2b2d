"""Claims about phases of loss landscapes: Yang et al. (NeurIPS 2021), width x batch size.

Sizes are those of the authors' published results, with one decay of the learning rate. They speak
of ResNet18 on CIFAR-10; elsewhere the direction is what carries over, so read `observed` too.
Where a cell lacks a number, the others decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossatlas.claims import checks
from lossatlas.claims.checks import Finding
from lossatlas.claims.grid import Grid

PAPER = "Yang et al. 2021"


@dataclass(frozen=True)
class Claim:
    """A statement with its direction and size, and how to check it."""

    name: str
    statement: str
    expected: str
    check: Callable[[Grid], Finding]


CLAIMS = (
    Claim(
        "T1",
        "At every batch size the training loss falls with width.",
        "rho(width, loss) <= -0.87 in every row",
        checks.loss_falls_with_width,
    ),
    Claim(
        "T2",
        "At batch sizes from 44 up, barriers between runs vanish as networks widen.",
        "rho(width, mc) >= 0.91; |mc| <= 0.6 from width 23 up; mc <= -10 up to width 4 "
        "(there from batch size 32 up)",
        checks.wide_is_connected,
    ),
    Claim(
        "T3",
        "At the hottest edge the middle of the path is better than its ends, most at medium width.",
        "at batch size 16: mc > 2 from width 3 up, and the widest below the peak",
        checks.hot_edge,
    ),
    Claim(
        "T4",
        "Larger batches raise the barriers between narrow networks.",
        "rho(batch size, mc) <= -0.79 at widths 2 to 11",
        checks.cooling_disconnects_narrow,
    ),
    Claim(
        "T5",
        "Wider networks are flatter, but for the smallest batches.",
        "rho(width, log trace) <= -0.64 from batch size 32 up",
        checks.trace_falls_with_width,
    ),
    Claim(
        "T6",
        "Sharpness drops in one step, which needs wider networks the smaller the batch; "
        "the training loss drops with it.",
        "width of the largest drop never grows with batch size (from 44 up) and shrinks overall; "
        "loss falls 4-fold or more (from 64 up)",
        checks.sharp_to_flat,
    ),
    Claim(
        "T7",
        "The top eigenvalue and the trace order cells alike.",
        "rho >= 0.98",
        checks.eigenvalue_follows_trace,
    ),
    Claim(
        "T8",
        "Similarity of runs grows with width and peaks at medium batch sizes.",
        "rho(width, CKA) >= 0.92 from batch size 64 up; from width 16 up it peaks at 64 to 92, "
        "and 16 and 1024 are 0.13 or more lower",
        checks.similarity_grows_with_width,
    ),
    Claim(
        "T9",
        "The best cells are flat, connected and similar.",
        "best cell in IV-B; best tenth: |mc| <= 0.05, CKA >= 0.68, log trace <= 4.05",
        checks.best_is_globally_nice,
    ),
    Claim(
        "T10",
        "Mean accuracy orders the phases: IV-B > IV-A > III > I and II > I.",
        "for every choice of thresholds",
        checks.accuracy_orders_phases,
    ),
    Claim(
        "T11",
        "Flatness is not enough: of equally flat cells the connected ones are more accurate.",
        "IV above III at log trace 4.4 to 5.1; at 4.3 to 5.3 CKA tells more than the trace",
        checks.flat_is_not_enough,
    ),
    Claim(
        "T12",
        "CKA predicts test accuracy best, L2 distance worst.",
        f"largest and smallest |rho|, over cells with loss < {checks.CONVERGED} and over all",
        checks.similarity_predicts_best,
    ),
    Claim(
        "T13",
        "The best batch size shrinks as networks widen.",
        "rho(width, best batch size) <= -0.65",
        checks.best_batch_shrinks,
    ),
    Claim(
        "T14",
        "Wider is better up to batch size 128; for the largest batches accuracy peaks earlier; "
        "on clean labels it never dips on the way.",
        "widest is best in 6 of 7 rows or more up to 128; it is 0.65 points or more below the best "
        "from 724 up; no step of width loses 1 point",
        checks.wider_is_better,
    ),
    Claim(
        "T15",
        "A path better than its ends means that the ends have not converged.",
        "where mc > 1: train loss >= 0.038 and log trace >= 5.95",
        checks.positive_means_unconverged,
    ),
)
