"""The `diffusion` metric: what the path of training of each replica says, window by window.

Needs no torch: it reads what the training engine recorded. Series and tables that belong to a
window have its first point as index `window`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lossatlas.diffusion import contour, smoothing, window
from lossatlas.diffusion.arrays import Array, Mode, log_lags
from lossatlas.diffusion.curves import Curve
from lossatlas.diffusion.gram import Path, path_of_gram, squared_distances, without_drift
from lossatlas.diffusion.msd import lag_averages, time_averaged_msd, velocity_autocorrelation
from lossatlas.diffusion.recorded import Recorded, seeded
from lossatlas.diffusion.surrogates import of_mean, surrogate_msd
from lossatlas.diffusion.window import Number
from lossatlas.store import Record, Scalar, Series, Table

if TYPE_CHECKING:
    from lossatlas.metrics.diffusion import Diffusion

POINTS = 600  # of the curves over the whole run
FIRST = "first point"  # of a window: x of the series of numbers


@dataclass
class Sheet:
    """Collects the numbers and curves of one replica."""

    seed: int
    settings: Diffusion
    record: Record = field(default_factory=lambda: Record("diffusion"))
    numbers: dict[str, dict[int, Number]] = field(default_factory=dict)

    def number(self, name: str, first: int, value: Number) -> None:
        """Note a number of the window that begins at `first`."""
        self.numbers.setdefault(name, {})[first] = value

    def curve(
        self,
        name: str,
        x: ArrayLike,
        y: ArrayLike,
        unit: str = "step",
        status: str = "ok",
        *,
        window: int | None = None,
        stderr: ArrayLike | None = None,
        df: ArrayLike = math.nan,
    ) -> None:
        """Write a curve, of a window or of the whole run; points without a number are left out."""
        keys, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        good = np.isfinite(values)
        about: Any = {"status": status, "index": {} if window is None else {"window": window}}
        errors = np.full(0, np.nan) if stderr is None else np.asarray(stderr, dtype=np.float64)
        if np.isfinite(errors).any():
            degrees = np.broadcast_to(np.asarray(df, dtype=np.float64), errors.shape)
            about["stderr"] = errors[good]
            about["df"] = np.where(np.isfinite(errors), degrees, np.nan)[good]
        self.record.series.append(Series(name, keys[good], values[good], unit, self.seed, **about))

    def with_error(self, name: str, first: int, curve: Curve, unit: str = "step") -> None:
        """Write an averaged curve and its standard errors."""
        errors, df = curve.stderr, curve.df
        self.curve(name, curve.x, curve.y, unit, window=first, stderr=errors, df=df)

    def table(self, name: str, first: int, **columns: ArrayLike) -> None:
        """Write a table of a window."""
        self.record.tables.append(Table(name, columns, self.seed, index={"window": first}))

    def finish(self, windows: list[int]) -> None:
        """Write the numbers: all windows as series, the first and the last as scalars.

        A series is `unconverged` if the number of one of its windows is.
        """
        for name, per_window in self.numbers.items():
            firsts = sorted(per_window)
            columns = zip(*(per_window[first] for first in firsts), strict=True)
            numbers, errors, states, degrees = columns
            whole = "unconverged" if "unconverged" in states else "ok"
            self.curve(name, firsts, numbers, FIRST, whole, stderr=errors, df=degrees)
        undefined = Number(math.nan, status="undefined")
        for name in self.settings.numbers():
            for place, at in (("first", windows[:1]), ("last", windows[-1:])):
                known = self.numbers.get(name, {})
                found = known.get(at[0], undefined) if at else undefined
                row = Scalar(f"{name}_{place}", replica=self.seed, **found._asdict())
                self.record.scalars.append(row)


def measure(paths: Mapping[int, Recorded], settings: Diffusion) -> Record:
    """Analyse the path of each replica.

    Args:
        paths: Seed -> its path.
        settings: Of the metric.

    Returns:
        A record. A window in which the run diverged has numbers of status `diverged`; a fit over
        lags beyond a quarter of the window is `unconverged`. A run that stopped before its first
        window was full has none but `undefined` numbers.
    """
    record = Record("diffusion")
    for seed, path in paths.items():
        sheet = Sheet(seed, settings)
        firsts = path.window[:, 0].tolist()
        full = {firsts[place] for place in (0, len(firsts) // 2, -1) if firsts}
        for index, first in enumerate(firsts):
            _window(sheet, path, index, detailed=first in full)
        sheet.finish(firsts)
        _whole_run(sheet, path)
        record.scalars += sheet.record.scalars
        record.series += sheet.record.series
        record.tables += sheet.record.tables
    return record


def _window(sheet: Sheet, recorded: Recorded, index: int, *, detailed: bool) -> None:
    first, end = map(int, recorded.window[index])
    path = recorded.path(index)
    if path is None:
        for name in sheet.settings.numbers():
            sheet.number(name, first, Number(math.nan, status="diverged"))
        return
    paper = sheet.settings.mode == "paper"
    start = recorded.paper_from_start(first, first + len(path)) if paper else None
    displacement(sheet, path, first, start)
    window.noise(sheet, recorded, slice(first, end - 1), detailed=detailed)
    window.losses(sheet, recorded, path, first)
    known, loss = _with_loss(recorded, path, first, sheet.settings.mode)
    variance = smoothing.moving_variance(loss)
    sheet.number("loss_variance", first, Number(float(np.mean(variance))))
    if not detailed:
        return
    _contour(sheet, path, known, loss, first)
    window.excursion(sheet, path, first)
    window.avalanche(sheet, known, loss, first)
    if index == 0:
        window.picture(sheet, path, first)
    window.noise_norms(sheet, recorded.noise_norms(index), first)


def _with_loss(recorded: Recorded, path: Path, first: int, mode: Mode) -> tuple[Path, Array]:
    """Return those points of a window that have a loss, and their losses.

    The loss of a step is that of the weights before it; the last point of the run has none. Mode
    `paper` puts it beside the weights after the step, as the authors' files do, and the initial
    weights have none.
    """
    step = np.arange(first, first + len(path)) - (mode == "paper")
    has = np.flatnonzero((step >= 0) & (step < len(recorded.loss)))
    loss = recorded.loss[step[has]]
    if len(has) == len(path):
        return path, loss
    return path_of_gram(path.gram[np.ix_(has, has)], path.steps[has[:-1]]), loss


def displacement(sheet: Sheet, path: Path, first: int, start: Array | None = None) -> None:
    """Mean squared displacement: raw, without drift, of surrogates, from the start; exponents.

    Args:
        sheet: Where the numbers and curves of a window are noted.
        path: The window, of T points.
        first: Its first point.
        start: (T - 1,) squared displacement from the start; default: that of the path.
    """
    settings, rng = sheet.settings, seeded("diffusion", sheet.settings.seed, sheet.seed, first)
    last = min(settings.last_lag or len(path) // 4, len(path) - 1)
    if last > len(path) // 4:
        what = f"lags up to {last} of a window of {len(path)} points: exponents beyond"
        warnings.warn(f"{what} {len(path) // 4} are biased", stacklevel=2)
    if last < settings.fit[1]:
        what = f"exponents are wanted over lags up to {settings.fit[1]:g}, and those of a window"
        warnings.warn(f"{what} of {len(path)} points end at {last}", stacklevel=2)
    lags = log_lags(1, last)
    draws, count = (rng if settings.bootstrap else None), settings.bootstrap
    distances = squared_distances(path)
    raw = time_averaged_msd(distances, lags, rng=draws, replicates=count)
    level = squared_distances(without_drift(path))
    still = time_averaged_msd(level, lags, rng=draws, replicates=count)
    shuffled = of_mean(surrogate_msd(path, rng, members=settings.surrogates, lags=lags))
    for name, curve in (("", raw), ("still_", still), ("surrogate_", shuffled)):
        sheet.with_error(f"{name}msd", first, curve)
        sheet.number(f"{name}exponent", first, window.slope(curve, settings.fit))
        window.fitted(sheet, f"{name}msd", curve, first)
    window.two_slopes(sheet, raw, first)
    every = time_averaged_msd(distances) if settings.mode == "paper" else raw
    x, beta, stderr = window.local(every, settings.mode)
    sheet.curve("local_exponent", x, beta, window=first, stderr=stderr, df=every.df)
    start = distances[0, 1:] if start is None else start
    picked = log_lags(1, len(start)) - 1
    sheet.curve("msd_from_start", picked + 1.0, start[picked], window=first)
    length = contour.mean_contour_length(path, settings.mode)
    sheet.curve("contour", lags, length[lags - 1], window=first)
    moved = velocity_autocorrelation(path, log_lags(1, min(100, len(path) - 2)))
    sheet.curve("velocity_correlation", moved.x, moved.y, window=first)
    state = "ok" if np.isfinite(moved.y[0]) else "undefined"
    sheet.number("velocity_correlation", first, Number(float(moved.y[0]), status=state))
    longest = Number(float(raw.y[-1]), float(raw.stderr[-1]), df=raw.df)
    sheet.number("msd_long", first, longest)
    moments = [window.moment(distances, lags, q, settings.fit) for q in window.MOMENTS]
    sheet.curve("moment_exponent", window.MOMENTS, moments, "q", window=first)


def _contour(sheet: Sheet, path: Path, known: Path, loss: Array, first: int) -> None:
    """Displacement and, where it is known, loss difference against path length and distance."""
    settings = sheet.settings
    rng = seeded("contour", settings.seed, sheet.seed, first)
    draws, count = (rng if settings.bootstrap else None), settings.bootstrap
    along = contour.msd_against_contour(path, rng=draws, replicates=count)
    apart = contour.msl_against_distance(known, loss, rng=draws, replicates=count)
    sheet.number("path_exponent", first, window.slope_of_reliable(along))
    sheet.number("msl_exponent", first, window.slope_of_reliable(apart))
    if settings.mode == "paper":
        both = contour.msd_against_contour(path, "paper")
        smooth = smoothing.moving_mean(both.y)
        picked = np.unique(np.geomspace(1, len(smooth), POINTS).astype(np.int64)) - 1
        sheet.curve("msd_contour", both.x[picked], smooth[picked], "contour length", window=first)
        pairs = contour.msl_against_distance(known, loss, "paper")
        if len(pairs.x) > 1:
            coarse = smoothing.coarse_grain(pairs.x, pairs.y)
            sheet.curve("msl", *coarse, "distance", window=first)
        pairs = contour.msl_against_contour(known, loss, "paper")
        if len(pairs.x) > 1:
            coarse = smoothing.coarse_grain(pairs.x, pairs.y)
            sheet.curve("msl_contour", *coarse, "contour length", window=first)
        return
    sheet.with_error("msd_contour", first, along, "contour length")
    sheet.with_error("msl", first, apart, "distance")
    against = contour.msl_against_contour(known, loss, rng=draws, replicates=count)
    sheet.with_error("msl_contour", first, against, "contour length")


def _whole_run(sheet: Sheet, recorded: Recorded) -> None:
    """Loss, its moving variance, distance and the projected displacement over the whole run."""
    steps = len(recorded.loss)
    every = max(steps // POINTS, 1)
    time = np.arange(0, steps, every)
    sheet.curve("loss", time, recorded.loss[::every])
    for name, values, stride in zip(
        ("loss_after", "loss_whole"), (recorded.after, recorded.whole), recorded.stride, strict=True
    ):
        if stride:
            thin = max(len(values) // POINTS, 1)
            sheet.curve(name, np.arange(len(values))[::thin] * stride, values[::thin])
    sheet.curve("distance", time, np.sqrt(recorded.distance[:-1:every]))
    if np.isfinite(recorded.loss).all():
        variance = smoothing.moving_variance(recorded.loss)
        sheet.curve("moving_variance", time, variance[::every])
    points = recorded.projection
    if points.shape[1] and np.isfinite(points).all():
        averages = lag_averages([points])
        lags = log_lags(1, max(steps // 4, 1)) - 1
        sheet.curve("msd_run", averages.lag[lags], averages.msd[lags])
        sheet.curve("still_msd_run", averages.lag[lags], averages.msd_without_drift[lags])
