"""Numbers and curves of one window, for the `diffusion` metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.diffusion import excursions, loss_events, stable, tails
from lossatlas.diffusion.arrays import Array, Ints, Mode
from lossatlas.diffusion.curves import Curve
from lossatlas.diffusion.exponents import (
    fit_exponent,
    local_exponents,
    paper_local_exponents,
    two_segments,
)
from lossatlas.diffusion.gram import Path, increments, squared_distances
from lossatlas.diffusion.msd import time_averaged_msd
from lossatlas.diffusion.recorded import seeded

if TYPE_CHECKING:
    from lossatlas.diffusion.measure import Number, Sheet

MOMENTS = (0.5, 1.0, 2.0, 3.0, 4.0)
BINS = 121  # of densities
NAN = float("nan")


def slope(curve: Curve, fit: Sequence[float]) -> Number:
    """Return the exponent over the fit range; `unconverged` if it holds lags beyond T / 4."""
    found = fit_exponent(curve, fit[0], fit[1])
    state = found.status if found.reliable or found.status != "ok" else "unconverged"
    return found.value, found.stderr, state


def slope_of_reliable(curve: Curve) -> Number:
    """Return the exponent over the upper decade of the reliable part of a curve."""
    x = curve.x[curve.reliable & (curve.y > 0)]
    if len(x) < 3:
        return NAN, NAN, "undefined"
    found = fit_exponent(curve, float(x[-1]) / 10, float(x[-1]))
    return found.value, found.stderr, found.status


def two_slopes(sheet: Sheet, curve: Curve, first: int) -> None:
    """Note exponent 1, exponent 2 and the crossover tau_0 of the displacement."""
    found = two_segments(curve, low=float(sheet.settings.fit[0]) / 2)
    spread = (found.crossover_high - found.crossover_low) / 2
    sheet.number("early_exponent", first, (found.first, found.first_stderr, found.status))
    sheet.number("late_exponent", first, (found.second, found.second_stderr, found.status))
    sheet.number("crossover", first, (found.crossover, spread, found.status))


def local(curve: Curve, mode: Mode) -> tuple[Array, Array]:
    """Return lags and local exponents."""
    if mode == "paper":
        offset = min(20, len(curve.x) - 1)
        return curve.x[:-offset], paper_local_exponents(curve.x, curve.y, offset)
    found = local_exponents(curve)
    return found.x, found.value


def moment(distances: Array, lags: Ints, q: float, fit: Sequence[float]) -> float:
    """Return the exponent of the q-th moment of the displacement."""
    curve = time_averaged_msd(distances, lags, moment=q)
    return fit_exponent(curve, fit[0], fit[1]).value


def noise(sheet: Sheet, gradients: Array, first: int, *, detailed: bool) -> None:
    """Fit a stable law to pooled entries of gradients (n, m), and tell it from mixed scales."""
    settings = sheet.settings
    if gradients.size < stable.LEAST or not np.isfinite(gradients).all():
        return
    rng = seeded("noise", settings.seed, sheet.seed, first)
    entries = min(settings.entries, gradients.size)
    pooled = gradients.astype(np.float64).ravel()[rng.integers(0, gradients.size, entries)]
    fit = stable.fit_by_characteristic(pooled, rng, settings.bootstrap)
    sheet.number("stable_alpha", first, (fit.law.alpha, fit.stderr.alpha, fit.status))
    centred = gradients - gradients.mean(axis=0, dtype=np.float64)
    block = tails.default_block(len(centred))
    if block > 1:
        index = tails.tail_index_by_blocks(centred, block)
        sheet.number("tail_index", first, (index, NAN, "ok" if np.isfinite(index) else "undefined"))
    if not detailed:
        return
    null = tails.scale_mixture_null(gradients, rng, surrogates=10, entries=entries)
    spread = float(np.std(null.null_alpha, ddof=1)) if len(null.null_alpha) > 1 else NAN
    mean = float(np.mean(null.null_alpha)) if len(null.null_alpha) else NAN
    sheet.number("mixture_alpha", first, (mean, spread, null.status))
    sheet.number("standardised_alpha", first, (null.standardised_alpha, NAN, null.status))
    if fit.status == "ok":
        _densities(sheet, pooled, fit.law, first)


def _densities(sheet: Sheet, pooled: Array, law: stable.Stable, first: int) -> None:
    """Write the density of the entries, of the stable law and of the normal law that fits them."""
    reach = float(np.quantile(np.abs(pooled), 0.99))
    if not reach > 0:
        return
    edges = np.linspace(-reach, reach, BINS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    counts = np.histogram(pooled, edges)[0]
    density = counts / (len(pooled) * np.diff(edges))
    sheet.curve(f"gradient_density:{first}", middle, density, "gradient")
    if law.alpha >= stable.LEAST_ALPHA:
        sheet.curve(f"gradient_stable:{first}", middle, stable.density(middle, law), "gradient")
    deviation = float(pooled.std())
    normal = np.exp(-np.square((middle - pooled.mean()) / deviation) / 2)
    normal /= deviation * np.sqrt(2 * np.pi)
    sheet.curve(f"gradient_normal:{first}", middle, normal, "gradient")


def events(sheet: Sheet, path: Path, loss: Array, first: int) -> None:
    """Write transverse excursions, avalanches of the loss and its changes."""
    distances = squared_distances(path)
    length = min(100, len(path) // 4)
    found = excursions.transverse_excursions(distances, length)
    order = np.argsort(found.chord, kind="stable")
    chord, height = found.chord[order], found.excursion[order]
    sheet.curve(f"excursion:{first}", chord, height, "squared chord")
    burst = loss_events.avalanches(loss)
    durations = np.arange(1, int(burst.length.max(initial=0)) + 1)
    counts = np.array([(burst.length == one).sum() for one in durations], dtype=np.float64)
    sheet.curve(f"avalanche_length:{first}", durations, counts, "steps")
    shown = slice(min(100, len(loss) // 8), None)
    change = np.abs(np.diff(loss))[shown][:401]
    sheet.curve(f"loss_change:{first}", np.arange(len(change)), change)


def noise_norms(sheet: Sheet, path: Path, rate: Array, first: int) -> None:
    """Compare the norms of gradient noise with a power law and an exponential law.

    With plain SGD the gradients are the increments over the learning rate, so that their inner
    products K are known: |g_s - mean|^2 = K_ss - 2 mean_r K_sr + mean K.
    """
    products = increments(path) / np.outer(rate, rate)
    squares = np.diagonal(products) - 2 * products.mean(axis=1) + products.mean()
    norms = np.sqrt(np.maximum(squares, 0.0))
    fit = tails.fit_power_law(norms)
    sheet.number("noise_exponent", first, (fit.exponent, fit.stderr, fit.status))
    ratio = fit.ratio / np.sqrt(fit.tail) if fit.tail else NAN
    sheet.number("noise_ratio", first, (ratio, NAN, fit.status))
    sheet.curve(f"noise_norm:{first}", np.arange(len(norms)), norms)
