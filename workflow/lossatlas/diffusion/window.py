"""Numbers and curves of one window, for the `diffusion` metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lossatlas import uncertainty
from lossatlas.diffusion import contour, excursions, loss_events, stable, tails
from lossatlas.diffusion.arrays import Array, Ints, Mode
from lossatlas.diffusion.curves import Curve
from lossatlas.diffusion.exponents import (
    fit_exponent,
    local_exponents,
    paper_local_exponents,
    two_segments,
)
from lossatlas.diffusion.gram import Path, embedding, path_of_gram, squared_distances
from lossatlas.diffusion.msd import time_averaged_msd
from lossatlas.diffusion.recorded import Recorded, seeded

if TYPE_CHECKING:
    from lossatlas.diffusion.measure import Sheet

POINTS = 400  # of the picture of a path
MOMENTS = (0.5, 1.0, 2.0, 3.0, 4.0)
BINS = 121  # of densities
EXCURSION, EXCURSIONS = 100, 50  # steps of a stretch, and how many the authors draw
_SPAN = 51  # points from the peak of an avalanche on
NAN = float("nan")


class Number(NamedTuple):
    """A number of a window, its standard error, its status, and the error's degrees of freedom."""

    value: float
    stderr: float = NAN
    status: str = "ok"
    df: float = NAN


def slope(curve: Curve, fit: Sequence[float]) -> Number:
    """Return the exponent over the fit range.

    `unconverged` if it holds lags beyond T / 4, or if the curve ends before the range does.
    """
    found = fit_exponent(curve, fit[0], fit[1])
    whole = found.reliable and curve.x[-1] >= fit[1]
    state = found.status if whole or found.status != "ok" else "unconverged"
    return Number(found.value, found.stderr, state, found.df)


def fitted(sheet: Sheet, name: str, curve: Curve, first: int) -> None:
    """Write the line of the exponent of a curve of a window, from end to end of its fit."""
    fit = sheet.settings.fit
    line = fit_exponent(curve, fit[0], fit[1])
    if line.status == "ok":
        ends = np.array([line.low, line.high])
        sheet.curve(f"{name}_fit", ends, line.prefactor * ends**line.value, window=first)


def slope_of_reliable(curve: Curve) -> Number:
    """Return the exponent over the upper decade of the reliable part of a curve."""
    x = curve.x[curve.reliable & (curve.y > 0)]
    if len(x) < 3:
        return Number(NAN, status="undefined")
    found = fit_exponent(curve, float(x[-1]) / 10, float(x[-1]))
    return Number(found.value, found.stderr, found.status, found.df)


def two_slopes(sheet: Sheet, curve: Curve, first: int) -> None:
    """Note exponent 1, exponent 2 and the crossover tau_0 of the displacement."""
    found = two_segments(curve, low=float(sheet.settings.fit[0]) / 2)
    spread = (found.crossover_high - found.crossover_low) / 2
    for name, value, stderr in (
        ("early_exponent", found.first, found.first_stderr),
        ("late_exponent", found.second, found.second_stderr),
        ("crossover", found.crossover, spread if spread > 0 else NAN),
    ):
        sheet.number(name, first, Number(value, stderr, found.status, curve.df))


def local(curve: Curve, mode: Mode) -> tuple[Array, Array, Array]:
    """Return lags, local exponents and their standard errors; NaN errors in mode `paper`."""
    if mode == "paper":
        offset = min(20, len(curve.x) - 1)
        slopes = paper_local_exponents(curve.x, curve.y, offset)
        return curve.x[:-offset], slopes, np.full(len(slopes), NAN)
    found = local_exponents(curve)
    return found.x, found.value, found.stderr


def moment(distances: Array, lags: Ints, q: float, fit: Sequence[float]) -> float:
    """Return the exponent of the q-th moment of the displacement."""
    curve = time_averaged_msd(distances, lags, moment=q)
    return fit_exponent(curve, fit[0], fit[1]).value


def noise(sheet: Sheet, recorded: Recorded, steps: slice, *, detailed: bool) -> None:
    """Fit stable laws to pooled entries of gradients, and tell heavy tails from mixed scales.

    The pool are entries of the whole gradient, drawn anew at each step; what compares a parameter
    with itself over time needs the few parameters that are kept at every step.
    """
    settings, first, gradients = sheet.settings, steps.start, recorded.gradient[steps]
    if gradients.size < stable.LEAST or not np.isfinite(gradients).all():
        return
    rng = seeded("noise", settings.seed, sheet.seed, first)
    drawn = recorded.reservoir[steps]
    whole = drawn if drawn.size >= stable.LEAST else gradients
    # None twice: the errors of a fit take its entries as so many independent ones.
    places = rng.choice(whole.size, min(settings.entries, whole.size), replace=False)
    pooled = whole.astype(np.float64).ravel()[places]
    fit = stable.fit_by_characteristic(pooled, rng, settings.bootstrap)
    error, many = fit.stderr.alpha or NAN, fit.samples - 1.0
    sheet.number("stable_alpha", first, Number(fit.law.alpha, error, fit.status, many))
    quick = stable.fit_by_quantiles(pooled)
    sheet.number("quantile_alpha", first, Number(quick.law.alpha, status=quick.status))
    if whole is drawn:
        tensor = recorded.reservoir_tensor[steps]
        own = np.take_along_axis(recorded.layer_gradient[steps], tensor, axis=1)
        scale = np.sqrt(own / recorded.size[tensor]).ravel()[places]
        moving = scale > 0
        if moving.sum() >= stable.LEAST:
            alone = stable.fit_by_characteristic(pooled[moving] / scale[moving])
            sheet.number("layer_alpha", first, Number(alone.law.alpha, status=alone.status))
    block = math.isqrt(len(gradients))
    if block > 1:
        some = gradients[: len(gradients) // block * block]  # whole blocks, however many steps
        centred = some - some.mean(axis=0, dtype=np.float64)
        index = tails.tail_index_by_blocks(centred, block)
        sheet.number("tail_index", first, _defined(index))
        ranked = tails.tail_index_by_order(centred, block, len(centred) // block // 2)
        sheet.number("tail_index_ranked", first, _defined(ranked))
    if not detailed:
        return
    null = tails.scale_mixture_null(gradients, rng, surrogates=10, entries=settings.entries)
    mean = uncertainty.mean(null.null_alpha)
    sheet.number("mixture_alpha", first, Number(mean.value, mean.stderr, null.status, mean.df))
    sheet.number("standardised_alpha", first, _defined(null.standardised_alpha))
    if fit.status == "ok":
        _densities(sheet, pooled, fit.law, first)


def _defined(value: float) -> Number:
    return Number(value, status="ok" if np.isfinite(value) else "undefined")


def _densities(sheet: Sheet, pooled: Array, law: stable.Stable, first: int) -> None:
    """Write the density of the entries, of the stable law and of the normal law that fits them."""
    reach = float(np.quantile(np.abs(pooled), 0.99))
    if not reach > 0:
        return
    edges = np.linspace(-reach, reach, BINS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    counts = np.histogram(pooled, edges)[0]
    density = counts / (len(pooled) * np.diff(edges))
    sheet.curve("gradient_density", middle, density, "gradient", window=first)
    if law.alpha >= stable.LEAST_ALPHA:
        sheet.curve(
            "gradient_stable", middle, stable.density(middle, law), "gradient", window=first
        )
    deviation = float(pooled.std())
    normal = np.exp(-np.square((middle - pooled.mean()) / deviation) / 2)
    normal /= deviation * np.sqrt(2 * np.pi)
    sheet.curve("gradient_normal", middle, normal, "gradient", window=first)


def losses(sheet: Sheet, recorded: Recorded, path: Path, first: int) -> None:
    """Write what steps do to the loss of their own batch, and noise-free loss differences."""
    every, apart = recorded.stride.tolist()
    end = first + len(path) - 1
    if every:
        steps = np.arange(-(-first // every) * every, end, every)
        change = recorded.after[steps // every] - recorded.loss[steps]
        share = float((change < 0).mean()) if len(change) else NAN
        sheet.number("downhill", first, _defined(share))
        sheet.curve("step_gain", steps, change, window=first)
    if not apart:
        return
    points = np.arange(-(-first // apart) * apart, end + 1, apart)
    whole = recorded.whole[points // apart]
    if len(points) < 4 or not np.isfinite(whole).all():
        return
    picked = points - first
    some = path_of_gram(path.gram[np.ix_(picked, picked)])
    curve = contour.msl_against_distance(some, whole)
    sheet.number("msl_whole_exponent", first, slope_of_reliable(curve))
    sheet.curve("msl_whole", curve.x, curve.y, "distance", window=first)


def picture(sheet: Sheet, path: Path, first: int) -> None:
    """Write the path along its two principal axes."""
    points = embedding(path, 2).points
    picked = np.unique(np.linspace(0, len(path) - 1, POINTS).astype(np.int64))
    u, v = points[picked].T
    sheet.table("principal_path", first, step=picked, u=u, v=v)


def excursion(sheet: Sheet, path: Path, first: int) -> None:
    """Write transverse excursions: of stretches side by side, in mode `paper` of random ones."""
    length, starts = min(EXCURSION, len(path) // 4), None
    if sheet.settings.mode == "paper":
        rng = seeded("excursions", sheet.settings.seed, sheet.seed, first)
        starts = excursions.random_starts(len(path), length, EXCURSIONS, rng)
    found = excursions.transverse_excursions(squared_distances(path), length, starts)
    order = np.argsort(found.chord, kind="stable")
    chord, height = found.chord[order], found.excursion[order]
    sheet.curve("excursion", chord, height, "squared chord", window=first)


def avalanche(sheet: Sheet, path: Path, loss: Array, first: int) -> None:
    """Write avalanches of the loss (T,) at the points of a path, what follows, and its changes."""
    burst = loss_events.avalanches(loss)
    durations = np.arange(1, int(burst.length.max(initial=0)) + 1)
    counts = np.array([(burst.length == one).sum() for one in durations], dtype=np.float64)
    sheet.curve("avalanche_length", durations, counts, "steps", window=first)
    if len(loss) > _SPAN + 2:
        around = loss_events.surroundings(loss, path.steps, span=_SPAN)
        if len(around.peak) and around.contour is not None:
            means = {"loss": around.loss, "change": around.change, "contour": around.contour}
            after = {name: values.mean(axis=0) for name, values in means.items()}
            sheet.table("after_avalanche", first, step=np.arange(_SPAN), **after)
    shown = slice(min(100, len(loss) // 8), None)
    change = np.abs(np.diff(loss))[shown][:401]
    sheet.curve("loss_change", np.arange(len(change)), change, window=first)


def noise_norms(sheet: Sheet, norms: Array, first: int) -> None:
    """Compare the norms of gradient noise with a power law and an exponential law.

    The ratio of their likelihoods is written in its own standard deviations: above 1.96 the power
    law fits better, below -1.96 the exponential one, and between them the data cannot tell.
    """
    if not len(norms):
        return
    fit = tails.fit_power_law(norms)
    number = Number(fit.exponent, fit.stderr, fit.status, fit.tail - 1.0)
    sheet.number("noise_exponent", first, number)
    sheet.number("noise_ratio", first, _defined(fit.z))
    sheet.curve("noise_norm", np.arange(len(norms)), norms, window=first)
