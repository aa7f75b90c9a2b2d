"""Paired statistics over seeds: is a difference below zero?"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

LEVEL = 0.05
FEWEST_PAIRS = 5  # with fewer, the smallest p of a signed-rank test is above `LEVEL`


def p_below(gaps: np.ndarray) -> float:
    """Return the p-value of Wilcoxon's one-sided signed-rank test that gaps (n,) are below 0.

    NaN for fewer than `FEWEST_PAIRS`; 1 if all are 0.
    """
    if len(gaps) < FEWEST_PAIRS:
        return math.nan
    return float(stats.wilcoxon(gaps, alternative="less").pvalue) if gaps.any() else 1.0


def below(gaps: np.ndarray) -> bool:
    """Say whether gaps (n,) are below 0: by mean and test, or each, if they are too few to test."""
    p = p_below(gaps)
    if math.isnan(p):
        return bool((gaps < 0).all())
    return float(gaps.mean()) < 0 and p <= LEVEL


def spell(gaps: np.ndarray, what: str) -> str:
    """Return how many gaps (n,) are below 0 and with what p, such as "5 of 5 pairs, p = 0.031"."""
    p = p_below(gaps)
    test = "too few for a test" if math.isnan(p) else f"p = {p:.3f}"
    return f"{(gaps < 0).sum()} of {len(gaps)} {what}, {test}"


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of a mean of values (n,); NaN for one value."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
