"""Claims about other experiments than the released one: Yang et al. (NeurIPS 2021).

Each finds its experiments by what they are (`conditions`): their axes, data, network and recipe.
An experiment that meets none of these conditions has no row. Some compare two experiments that are
the same but for one thing. The paper's results for them are not published: directions are as it
states them, and sizes come from the released results ("fitted") or the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import partial

import pandas as pd

from lossatlas.claims import conditions, paired_checks, variant_checks
from lossatlas.claims.cells import Cells, side_by_side
from lossatlas.claims.cells import cells as arranged
from lossatlas.claims.checks import jackknifed
from lossatlas.claims.conditions import About, Condition, NotTestableError
from lossatlas.claims.grid import Grids
from lossatlas.claims.grid import jackknifed as leave_out
from lossatlas.claims.statements import Claim, Finding
from lossatlas.claims.taxonomy import PAPER, cells

__all__ = ["CLAIMS", "PAPER", "cells", "evidence", "paired", "tells"]


def tells(table: pd.DataFrame, claim: Claim, known: About) -> bool:
    """Say whether an experiment is one of those of which a claim speaks."""
    del table
    return not claim.condition.lacks(known)


def evidence(table: pd.DataFrame, known: About, judged: Set[str], experiment: str) -> Grids[Cells]:
    """Return the cells of an experiment without those on which a claim was judged before.

    Raises:
        NotTestableError: If there are none, or fewer than two independent replicas.
    """
    del experiment
    table = _own(table, judged)
    return leave_out(table, lambda part: arranged(part, known.thresholds))


def paired(
    one: pd.DataFrame, two: pd.DataFrame, known: tuple[About, About], judged: Set[str]
) -> Grids[Cells]:
    """Return the cells that two experiments have in common, side by side.

    Raises:
        NotTestableError: As `evidence` and `side_by_side`.
    """
    own = _own(one, judged).assign(experiment="one"), two.assign(experiment="two")
    if list(own[0]) != list(own[1]):
        raise NotTestableError("the two experiments have different axes")

    def both(part: pd.DataFrame) -> Cells:
        halves = (part[part["experiment"] == name] for name in ("one", "two"))
        return side_by_side(
            *(arranged(half, about.thresholds) for half, about in zip(halves, known, strict=True))
        )

    return leave_out(pd.concat(own, ignore_index=True), both)


def _own(table: pd.DataFrame, judged: Set[str]) -> pd.DataFrame:
    table = table[~table["cell"].isin(judged)]
    if table.empty:
        raise NotTestableError("it has no cells")
    return table


def _claim(
    name: str,
    statement: str,
    expected: str,
    condition: Condition,
    threshold: str,
    check: Callable[[Cells], Finding],
    partner: Callable[[About, About], bool] | None = None,
) -> Claim:
    whole = partial(jackknifed, check)
    return Claim(name, statement, expected, condition, threshold, "", whole, partner)


CLAIMS = (
    _claim(
        "T16",
        "A decay of the learning rate keeps the four phases, and gains most accuracy at the border "
        "of connectivity.",
        "phases I to IV are regions with and without decay; mean gain of cells at the border above "
        "that of other well and of other poorly connected cells",
        conditions.DECAYED,
        "config",
        paired_checks.decay_helps_at_border,
        conditions.undecayed,
    ),
    _claim(
        "T17",
        "With noisy labels accuracy dips where sharpness falls, along both axes, and where III is "
        "crossed the best network is a sharp one.",
        "accuracy at the largest drop of log trace lower than beside it, more than in other steps, "
        "along width and batch size; in columns with III the best accuracy in I or II, although "
        "the eigenvalue is smaller in III",
        conditions.NOISY_LABELS,
        "config",
        variant_checks.dip_at_transition,
    ),
    _claim(
        "T18",
        "More training data make networks more accurate and more similar, but sharper and less "
        "connected.",
        "mean rho(data, accuracy), rho(data, CKA), rho(data, log trace) and rho(data, log "
        "eigenvalue) > 0, rho(data, mc) < 0",
        conditions.AMOUNT_OF_DATA,
        "none",
        variant_checks.more_data,
    ),
    _claim(
        "T19",
        "Of converged networks more label noise leaves the trace about the same, raises barriers "
        "and lowers similarity.",
        f"over cells with loss < {variant_checks.ZERO_LOSS:g}: log trace changes by less than "
        f"{variant_checks.ALIKE_TRACE:g} over the range of noise; mean rho(noise, mc) and "
        "rho(noise, CKA) < 0",
        conditions.LABEL_NOISE,
        "fitted",
        variant_checks.more_label_noise,
    ),
    _claim(
        "T20",
        "A weight decay below the usual one makes wide networks flatter, and not more accurate.",
        f"at widths from {variant_checks.WIDE} up and weight decays up to "
        f"{variant_checks.STANDARD_DECAY:g}: mean rho(weight decay, log trace) > 0; accuracy of "
        f"the lower half less than {variant_checks.ALIKE_ACCURACY:g} points above the upper half",
        conditions.WEIGHT_DECAY,
        "fitted",
        variant_checks.less_weight_decay,
    ),
    _claim(
        "T21",
        "Noise on pixels leaves networks connected and makes them less similar.",
        f"mc within {variant_checks.CONNECTED:g} points of 0 at all levels, in the mean over "
        "lines; mean rho(noise, CKA) < 0",
        conditions.PIXEL_NOISE,
        "fitted",
        variant_checks.pixel_noise,
    ),
    _claim(
        "T22",
        "Very large batches make networks sharper.",
        f"mean rho(batch size, log trace) and rho(batch size, log eigenvalue) > 0 from "
        f"{variant_checks.LARGE} up",
        conditions.LARGE_BATCHES,
        "fitted",
        variant_checks.large_batches,
    ),
    _claim(
        "T23",
        "A learning rate in proportion to the batch size makes all quantities vary less with it.",
        "standard deviation along the batch size smaller than at one rate, in the mean over "
        "quantities and columns of the logarithm of their ratio",
        conditions.SCALED,
        "none",
        paired_checks.scaling_levels,
        conditions.unscaled,
    ),
    _claim(
        "T24",
        "Small translation networks that are trained to zero loss are poorly connected at all "
        "sizes, and training that stops early is better.",
        "mc < 0 in the mean at each size, and over cells; test score (BLEU, else accuracy) higher "
        "when stopped early",
        conditions.TRANSLATION,
        "none",
        paired_checks.early_stopping_helps,
        conditions.ends_otherwise,
    ),
    _claim(
        "T25",
        "Other data, networks and temperatures show the same four phases, and the best networks "
        "are flat, connected and similar.",
        "phases I to IV are regions; the tenth with the best accuracy has smaller |mc|, larger CKA "
        "and smaller log trace than the rest",
        conditions.OTHER_PLANES,
        "config",
        variant_checks.same_phases,
    ),
)
