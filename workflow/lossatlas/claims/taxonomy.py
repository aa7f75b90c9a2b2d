"""Claims about phases of loss landscapes: Yang et al. (NeurIPS 2021), width x batch size.

What is claimed of the authors' released run (ResNet18 on CIFAR-10, one decay of the learning rate,
clean labels) as directions, each tested over cells and judged again without each replica. Ranges of
widths and batch sizes come from their grid ("fitted"). Where a cell lacks a number, the others
decide.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import partial

import pandas as pd

from lossatlas.claims import checks
from lossatlas.claims.conditions import RELEASED, About, NotTestableError
from lossatlas.claims.grid import Grid, Grids, check_axes, grids
from lossatlas.claims.statements import Claim, Finding
from lossatlas.reference import taxonomy_tables
from lossatlas.tables.collect import axes_of

PAPER = "Yang et al. 2021"


def cells(table: pd.DataFrame, needs: str) -> set[str]:
    """Return the cells of an experiment's scalars."""
    del needs
    return set(table["cell"])


def tells(table: pd.DataFrame, claim: Claim, known: About) -> bool:
    """Say whether an experiment is over width and batch size, of which these claims speak."""
    del claim, known
    return sorted(axes_of(table)) == ["batch_size", "width"]


def evidence(table: pd.DataFrame, known: About, judged: Set[str], experiment: str) -> Grids[Grid]:
    """Return the grids of an experiment without cells on which a claim was judged before.

    Of the authors' results just the cells that they plotted are used.

    Raises:
        NotTestableError: As `grids`.
    """
    check_axes(table)
    table = table[~table["cell"].isin(judged)]
    if experiment == taxonomy_tables.EXPERIMENT:
        table = taxonomy_tables.plotted(table)
    if table.empty:
        raise NotTestableError("it has no cells")
    return grids(table, known.thresholds)


def _claim(
    name: str, statement: str, expected: str, threshold: str, check: Callable[[Grid], Finding]
) -> Claim:
    whole = partial(checks.jackknifed, check)
    return Claim(name, statement, expected, RELEASED, threshold, "", whole)


CLAIMS = (
    _claim(
        "T1",
        "At every batch size the training loss falls with width.",
        "rho(width, loss) < 0 in every row",
        "none",
        checks.loss_falls_with_width,
    ),
    _claim(
        "T2",
        "At batch sizes from 44 up, barriers between runs shrink as networks widen.",
        "mean rho(width, mc) > 0",
        "fitted",
        checks.wide_is_connected,
    ),
    _claim(
        "T3",
        "At the hottest edge the middle of the path is better than its ends, most at medium width.",
        "at batch size 16 or less: mc > 0 in the mean from width 3 up, and the widest below the "
        "peak",
        "fitted",
        checks.hot_edge,
    ),
    _claim(
        "T4",
        "Larger batches raise the barriers between narrow networks.",
        "mean rho(batch size, mc) < 0 at widths 2 to 11",
        "fitted",
        checks.cooling_disconnects_narrow,
    ),
    _claim(
        "T5",
        "Wider networks are flatter, but for the smallest batches.",
        "mean rho(width, log trace) < 0 from batch size 32 up",
        "fitted",
        checks.trace_falls_with_width,
    ),
    _claim(
        "T6",
        "Sharpness drops in one step, which needs wider networks the smaller the batch; "
        "the training loss drops with it.",
        "rho(batch size, width of the largest drop) < 0 from 44 up; the loss falls more in that "
        "step than in others (from 64 up)",
        "fitted",
        checks.sharp_to_flat,
    ),
    _claim(
        "T7",
        "The top eigenvalue and the trace order cells alike.",
        "rho > 0 over all cells",
        "none",
        checks.eigenvalue_follows_trace,
    ),
    _claim(
        "T8",
        "Similarity of runs grows with width and peaks at medium batch sizes.",
        "mean rho(width, CKA) > 0 from batch size 64 up; from width 16 up CKA is larger at 64 to "
        "92 than at 16 and 1024",
        "fitted",
        checks.similarity_grows_with_width,
    ),
    _claim(
        "T9",
        "The best cells are flat, connected and similar.",
        "the tenth with the best accuracy has smaller |mc|, larger CKA and smaller log trace than "
        "the rest",
        "none",
        checks.best_is_globally_nice,
    ),
    _claim(
        "T10",
        "Mean accuracy orders the phases: IV-B > IV-A > III > I and II > I.",
        "each difference > 0, by the thresholds of the config",
        "config",
        checks.accuracy_orders_phases,
    ),
    _claim(
        "T11",
        "Flatness is not enough: of equally flat cells the connected ones are more accurate.",
        "IV above III where their log traces overlap; there CKA tells more than the trace",
        "config",
        checks.flat_is_not_enough,
    ),
    _claim(
        "T12",
        "CKA predicts test accuracy best, L2 distance worst.",
        f"largest and smallest |rho|, over cells with loss < {checks.CONVERGED} and over all",
        "fitted",
        checks.similarity_predicts_best,
    ),
    _claim(
        "T13",
        "The best batch size shrinks as networks widen.",
        "rho(width, best batch size) < 0",
        "none",
        checks.best_batch_shrinks,
    ),
    _claim(
        "T14",
        "Wider is better up to batch size 128; for the largest batches accuracy peaks earlier.",
        "mean rho(width, accuracy) > 0 in rows up to 128, < 0 from width 45 up in rows from 724 up",
        "fitted",
        checks.wider_is_better,
    ),
    _claim(
        "T15",
        "A path better than its ends means that the ends have not converged.",
        "where mc > 1: larger train loss and log trace than elsewhere",
        "fitted",
        checks.positive_means_unconverged,
    ),
)
