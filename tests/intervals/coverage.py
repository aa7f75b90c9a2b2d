"""How often nominal 95% intervals cover, by simulation, for each standard error that is reported.

A case simulates data of which the true number is known, calls the function that records and tables
call, and returns (repeats,) estimates, standard errors and degrees of freedom. The intervals are
those of `uncertainty.half_width`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from lossatlas import uncertainty

Floats = np.ndarray
Found = tuple[Floats, Floats, Floats]  # estimates, standard errors, degrees of freedom
LOW, HIGH = 0.90, 0.98


@dataclass(frozen=True)
class Case:
    """One simulation.

    Attributes:
        error: Which standard error.
        data: What is simulated.
        run: (generator, repeats) -> what the library says, or that with the true number as a
            fourth; without it the truth is the mean of the estimates.
        repeats: In `make coverage`.
        why: Why the share lies outside of 90 to 98% and is not pushed into it; '' if it must not.
        quick: Whether `make test` runs it as well.
    """

    error: str
    data: str
    run: Callable[[np.random.Generator, int], tuple]
    repeats: int = 2000
    why: str = ""
    quick: bool = False


@dataclass(frozen=True)
class Result:
    """What a simulation found.

    Attributes:
        repeats: How many.
        undefined: Share of repeats without a standard error.
        covered: Share of intervals, of those that exist, that hold the true number.
        width: Mean half-width, divided by that of an oracle who knows the standard deviation of
            the estimates.
    """

    repeats: int
    undefined: float
    covered: float
    width: float
    error: float = field(init=False)

    def __post_init__(self) -> None:
        spread = self.covered * (1 - self.covered) / self.repeats
        object.__setattr__(self, "error", float(np.sqrt(spread)))

    @property
    def fine(self) -> bool:
        """Whether it covers as it should, but for the noise of the simulation."""
        return LOW - 2 * self.error <= self.covered <= HIGH + 2 * self.error


def simulate(case: Case, repeats: int | None = None) -> Result:
    """Run a case."""
    count = repeats or case.repeats
    words = [ord(letter) for letter in case.error + case.data]
    value, stderr, df, *truth = case.run(np.random.default_rng(words), count)
    true = truth[0] if truth else np.nanmean(value)
    reach = uncertainty.half_width(stderr, df)
    known = np.isfinite(reach)
    inside = np.abs(value - true) <= reach
    oracle = ndtri(0.975) * np.nanstd(value - true)
    return Result(
        count,
        float(1 - known.mean()),
        float(inside[known].mean()) if known.any() else float("nan"),
        float(reach[known].mean() / oracle) if known.any() else float("nan"),
    )
