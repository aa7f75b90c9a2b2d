"""Training as a random walk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from lossatlas.errors import UserError
from lossatlas.metrics.base import (
    REHEARSED_WINDOW,
    Asked,
    Given,
    Memory,
    Metric,
    Mode,
    Output,
    Unit,
)
from lossatlas.spec.sizes import path_floats, window_pairs

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State

RELIABLE = 4  # points of a window for each step of the largest lag: slopes beyond are biased
# Points that local exponents need: two lags within their width of 0.3 decades, or a pair that lies
# 20 lags apart. They also make three blocks or more for the bootstrap.
LEAST_WINDOW = {"fixed": 12, "paper": 22}
LEAST_RATIO = 1.3  # of the lags of a fit: two or more of the 20 per decade lie between them
SECONDS_PER_PAIR = 1.5e-6  # of points of a window, on one CPU core
SQUARES = 20  # matrices of the size of a window's Gram matrix that its analysis holds at once

# Each is written for the first and for the last window: "exponent_first", "exponent_last".
_NUMBERS = {
    "exponent": ("", "of the displacement, over the lags of `fit`"),
    "still_exponent": ("", "the same without the window's mean drift"),
    "surrogate_exponent": ("", "the same of paths with reordered steps, drift included"),
    "early_exponent": (
        "",
        "before the crossover, of a bent line from half the smallest lag of `fit` on",
    ),
    "late_exponent": ("", "after the crossover"),
    "crossover": ("steps", "lag of the bend"),
    "msd_long": ("", "mean squared displacement at the largest lag"),
    "velocity_correlation": ("", "of successive steps, from -1 to 1"),
    "path_exponent": (
        "",
        "of the squared displacement against path length: 2 straight, 1 random",
    ),
    "msl_exponent": ("", "of the squared difference of mini-batch losses against distance"),
    "loss_variance": ("nats^2", "mean variance of the loss over 101 steps"),
    "stable_alpha": (
        "",
        "stable index of pooled gradient entries, from the characteristic function",
    ),
    "quantile_alpha": ("", "the same, from five quantiles"),
    "layer_alpha": (
        "",
        "of entries divided by the root mean square of their tensor's at that step",
    ),
    "mixture_alpha": ("", "of normal numbers with the scales of the kept parameters: the null"),
    "standardised_alpha": (
        "",
        "of kept parameters' gradients, each divided by its standard deviation",
    ),
    "tail_index": ("", "from how the norms of sums of gradients grow, by mean logarithms"),
    "tail_index_ranked": ("", "the same, by medians"),
    "downhill": ("", "share of steps that lower the loss of their own batch"),
    "msl_whole_exponent": ("", "as `msl_exponent`, of the loss on all images"),
    "noise_exponent": ("", "of a power law fitted to the tail of the norms of gradient noise"),
    "noise_ratio": (
        "",
        "log likelihood of that law less that of an exponential one, in standard errors",
    ),
}


class Diffusion(Metric):
    """Training as a random walk: displacement, contour, loss and gradients in windows of its path.

    Reads what the recipe's `record` asked for. Each number is written for the first and for the
    last window. Two or more replicas get rows of their means as well ("exponent_first_mean"), with
    errors between replicas; one alone has errors from blocks of its windows.
    """

    outputs = tuple(
        Output(f"{name}_{window}", unit, doc)
        for name, (unit, doc) in _NUMBERS.items()
        for window in ("first", "last")
    )
    reads = "path"

    mode: Mode = Field(
        "fixed",
        description="'paper': pairs grouped by exactly equal path length, square of the mean loss "
        "difference, losses beside the weights after their step, local exponents over 20 lags, "
        "excursions of random stretches, the faulty displacement from the first point",
    )
    fit: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        [10, 100], description="smallest and largest lag of the fit of the exponent"
    )
    last_lag: int | None = Field(
        None, ge=2, description="largest lag; default a quarter of the window"
    )
    bootstrap: int = Field(100, ge=0, description="replicates for standard errors; 0: none")
    surrogates: int = Field(5, ge=2, description="paths with reordered steps")
    entries: int = Field(5000, ge=50, description="gradient entries in a fit of a stable law")
    seed: int = Field(0, ge=0, description="seed of bootstrap, surrogates and entries")

    @field_validator("fit")
    @classmethod
    def _range(cls, value: list[float]) -> list[float]:
        if not 0 < value[0] < value[1]:
            raise ValueError("must be two lags, the smaller one first, both positive")
        return value

    @classmethod
    def numbers(cls) -> list[str]:
        """Return the names of the numbers of a window."""
        last = "_last"
        return [o.name.removesuffix(last) for o in cls.outputs if o.name.endswith(last)]

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Analyse the path of each replica."""
        from lossatlas.diffusion.measure import measure

        return measure({seed: given.paths[seed] for (seed,) in units}, self)

    def finish(self, record: Record) -> Record:
        """Add means over replicas, with errors between them."""
        from lossatlas.diffusion.measure import FIRST
        from lossatlas.diffusion.replicas import with_means

        return with_means(record, FIRST)

    def check(self, asked: Asked) -> None:
        """Refuse lags that give no slope, and windows in which they are not reliable."""
        low, high = self.fit
        where = f"metrics.{asked.name}"
        if high < LEAST_RATIO * low or math.floor(high) <= math.ceil(low):
            what = (
                f"a slope needs two lags or more, and there is one at most from {low:g} to {high:g}"
            )
            fix = f"[{low:g}, {max(10 * low, 2):g}]"
            raise UserError(what, where=f"{where}.fit", fix=fix)
        if self.last_lag is not None and self.last_lag < high:
            what = f"{self.last_lag} is less than the largest lag of the fit, {high:g}"
            raise UserError(what, where=f"{where}.last_lag", fix=f"{math.ceil(high)} or more")
        if asked.recipe.record is not None:
            self._check_window(asked, asked.recipe.record.length)

    def _check_window(self, asked: Asked, length: int) -> None:
        """Refuse windows that are shorter than what is fitted in them."""
        low, high = self.fit
        where = f"recipes.{asked.recipe_name}.record.length"
        least = LEAST_WINDOW[self.mode]
        if length < least:
            what = f"local exponents of '{asked.name}' need windows of {least} points, not {length}"
            raise UserError(what, where=where, fix=f"{max(least, _points(high))} or more")
        if length < _points(high):
            what = (
                f"'{asked.name}' fits lags of {low:g} to {high:g} steps, and those of a window of"
            )
            what += f" {length} points are reliable up to {length // RELIABLE}"
            fix = f"{_points(high)} or more"
            if length // RELIABLE >= max(LEAST_RATIO * low, math.ceil(low) + 1):
                fix += f", or metrics.{asked.name}.fit: [{low:g}, {length // RELIABLE}]"
            raise UserError(what, where=where, fix=fix)

    def rehearsed(self) -> dict[str, Any]:
        """The lags of a rehearsal fit into its windows."""
        most = REHEARSED_WINDOW // RELIABLE
        found: dict[str, Any] = super().rehearsed()
        if self.fit[1] > most:
            found["fit"] = [2, most]
        return found if self.last_lag is None else {**found, "last_lag": min(self.last_lag, most)}

    def seconds(self, planned: PlannedCell) -> float | None:
        """All pairs of points of all windows."""
        return SECONDS_PER_PAIR * len(planned.seeds) * window_pairs(planned)

    def memory(self, planned: PlannedCell) -> Memory:
        """The paths of all replicas, and the analysis of one window."""
        record = planned.cell.recipe.record
        if record is None:
            return Memory(network=False)
        floats = len(planned.seeds) * (path_floats(planned) + 2 * window_pairs(planned))
        return Memory(numbers=floats + 2 * SQUARES * record.length**2, network=False)


def _points(lag: float) -> int:
    """Return the points of a window in which lags up to that one are reliable."""
    return RELIABLE * math.ceil(lag)
