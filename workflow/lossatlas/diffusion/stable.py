"""Alpha-stable laws: samples, a fit by quantiles and one by the characteristic function.

Parameters are Nolan's S0 everywhere (J. P. Nolan, "Univariate Stable Distributions", 2020): scale
and location are continuous in alpha. log E exp(itX) =
i loc t - |s t|^alpha (1 + i beta sign(t) tan(pi alpha / 2) (|s t|^(1 - alpha) - 1)), with scale s;
a normal law has alpha 2 and standard deviation sqrt(2) s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossatlas.diffusion.arrays import Array, finite
from lossatlas.diffusion.stable_table import ALPHAS, BETAS, NU_ALPHA, NU_BETA, NU_SCALE, NU_SHIFT

LEAST = 50  # samples below which tails say nothing
LEAST_ALPHA = 0.3  # below it the integrand of a density decays too slowly
_TURNED, _POINTS = 0.9, 6_000  # alpha below which a density is integrated in two ways; grid
FREQUENCIES = np.arange(1, 11) / 10
LOG_NU_ALPHA = np.log(NU_ALPHA)  # close to linear in alpha

Method = Literal["quantile", "characteristic"]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Stable:
    """Parameters of a stable law in the S0 form, or their standard errors.

    Attributes:
        alpha: Index in (0, 2]; 2 is normal.
        beta: Skewness in [-1, 1]; says nothing as alpha tends to 2.
        scale: s > 0.
        location: Location.
    """

    alpha: float
    beta: float
    scale: float
    location: float


@dataclass(frozen=True)
class StableFit:
    """A stable law fitted to a sample.

    Attributes:
        law: The estimates; NaN if undefined.
        stderr: Bootstrap standard errors; NaN without bootstrap.
        samples: Sample size.
        method: Which estimator.
        status: `undefined` if the sample has no spread between its quartiles; `unconverged` if its
            tails are heavier than the table of the quantile fit has them, so that alpha is at most
            what is reported.
    """

    law: Stable
    stderr: Stable
    samples: int
    method: Method
    status: Literal["ok", "undefined", "unconverged"]


def sample(
    alpha: float,
    size: int | tuple[int, ...],
    rng: np.random.Generator,
    *,
    beta: float = 0.0,
    scale: float = 1.0,
    location: float = 0.0,
) -> Array:
    """Draw from a stable law (Chambers, Mallows, Stuck 1976), S0 form.

    Raises:
        ValueError: If alpha is not in (0, 2], beta not in [-1, 1], or the scale is negative.
    """
    if not (0 < alpha <= 2 and -1 <= beta <= 1 and scale >= 0):
        raise ValueError(f"no stable law has alpha {alpha}, beta {beta} and scale {scale}")
    angle = rng.uniform(-np.pi / 2, np.pi / 2, size)
    wait = rng.exponential(size=size)
    if alpha == 1:
        turned = np.pi / 2 + beta * angle
        inner = np.log(np.pi / 2 * wait * np.cos(angle) / turned)
        return scale * 2 / np.pi * (turned * np.tan(angle) - beta * inner) + location
    skew = beta * np.tan(np.pi * alpha / 2)
    shift = np.arctan(skew) / alpha
    turned = alpha * (angle + shift)
    draws = np.sin(turned) / np.cos(angle) ** (1 / alpha)
    draws *= (np.cos(angle - turned) / wait) ** ((1 - alpha) / alpha)
    return scale * ((1 + skew**2) ** (1 / (2 * alpha)) * draws - skew) + location


def density(x: ArrayLike, law: Stable) -> Array:
    """Return the density of a stable law at x (n,), by the inverse Fourier integral.

    For alpha below 0.9 the path of integration is turned by a right angle, where the integrand
    decays instead of oscillating: the wave of a far tail has no digits left on the real axis.

    Raises:
        ValueError: If alpha is below `LEAST_ALPHA`.
    """
    if not LEAST_ALPHA <= law.alpha <= 2:
        raise ValueError(f"densities need alpha in {LEAST_ALPHA}..2, not {law.alpha}")
    z = (finite(x, "x") - law.location) / law.scale
    if law.alpha < _TURNED:
        lean = np.tan(np.pi * law.alpha / 2)
        near = max(0.5, 2 * lean)  # up to here a skew law's integrand grows first, if turned
        y = z + law.beta * lean  # from where S1 counts
        values = [_near(one, law) if abs(one) < near else _far(one, law) for one in y]
        return np.maximum(np.array(values) / (np.pi * law.scale), 0.0)
    last = 30.0 ** (1 / law.alpha)
    count = int(np.clip(last * max(np.abs(z).max(), 1.0) * 4, 4000, 200_000))
    t = (np.arange(count) + 0.5) * (last / count)
    power = law.alpha if abs(law.alpha - 1) > 1e-4 else 1 + 1e-4
    skew = law.beta * np.tan(np.pi * power / 2) * (t - t**power)
    damping = np.exp(-(t**law.alpha))
    values = [float((damping * np.cos(one * t + skew)).sum()) for one in z]
    return np.maximum(np.array(values) * (last / count) / (np.pi * law.scale), 0.0)


def _near(y: float, law: Stable) -> float:
    """Integrate exp(-v) cos(y t - beta tan(pi alpha / 2) v) dt over t = v^(1 / alpha)."""
    step = 30.0 / _POINTS
    v = (np.arange(_POINTS) + 0.5) * step
    stretch = v ** (1 / law.alpha - 1) / law.alpha
    phase = y * v ** (1 / law.alpha) - law.beta * np.tan(np.pi * law.alpha / 2) * v
    return float((np.exp(-v) * np.cos(phase) * stretch).sum() * step)


def _far(y: float, law: Stable) -> float:
    """Integrate along t = -i s, on a grid of ln s."""
    beta = law.beta if y > 0 else -law.beta
    factor = (1 - 1j * beta * np.tan(np.pi * law.alpha / 2)) * np.exp(-0.5j * np.pi * law.alpha)
    logs = np.linspace(np.log(1e-12 / abs(y)), np.log(60 / abs(y)), _POINTS)
    s = np.exp(logs)
    values = np.exp(-abs(y) * s - factor * s**law.alpha).imag * s
    return float(values.sum() * (logs[1] - logs[0]))


def fit_by_quantiles(
    values: ArrayLike, rng: np.random.Generator | None = None, replicates: int = 100
) -> StableFit:
    """Fit by five quantiles and a table (J. H. McCulloch, Comm. Stat. Simul. 15, 1986).

    (q95 - q05) / (q75 - q25) and (q95 + q05 - 2 q50) / (q95 - q05) are looked up for alpha and
    beta; (q75 - q25) and the median then give scale and location. Fast and rough; the table starts
    at alpha 0.5, and heavier tails are reported as 0.5, `unconverged`.

    Args:
        values: (n,) sample.
        rng: For bootstrap errors; None: NaN errors.
        replicates: Bootstrap replicates.

    Raises:
        ValueError: If there are fewer than 50 values or one is not finite.
    """
    data = finite(values, "the sample", least=LEAST)
    found = _by_quantiles(data[None])
    drawn = np.empty((0, 4))
    if rng is not None:
        picks = rng.integers(0, len(data), (replicates, len(data)))
        drawn = _by_quantiles(data[picks])
    fit = _result(found[0], drawn, len(data), "quantile")
    return replace(fit, status="unconverged") if fit.law.alpha <= ALPHAS[0] else fit


def fit_by_characteristic(
    values: ArrayLike, rng: np.random.Generator | None = None, replicates: int = 100
) -> StableFit:
    """Fit by regression on the empirical characteristic function, after a fit by quantiles.

    On the sample standardised by the quantile fit, ln(-ln|phi(t)|^2 / 2) is a line in ln t with
    slope alpha, and arg phi(t) is linear in beta and the location, for t = 0.1 .. 1 (S. M. Kogon,
    D. B. Williams 1998, after I. A. Koutrouvelis 1980, in the S0 form).

    Args:
        values: (n,) sample.
        rng: For bootstrap errors (the standardisation is kept); None: NaN errors.
        replicates: Bootstrap replicates.

    Raises:
        ValueError: If there are fewer than 50 values or one is not finite.
    """
    data = finite(values, "the sample", least=LEAST)
    _, _, scale, location = _by_quantiles(data[None])[0]
    if not scale > 0:
        return _result(np.full(4, np.nan), np.empty((0, 4)), len(data), "characteristic")
    for _ in range(2):
        phases = FREQUENCIES[:, None] * ((data - location) / scale)
        waves = np.cos(phases) + 1j * np.sin(phases)
        found = _by_regression(waves.mean(axis=1)[:, None], scale, location)[0]
        if np.isfinite(found).all():
            scale, location = float(found[2]), float(found[3])
    drawn = np.empty((0, 4))
    if rng is not None:
        weights = rng.multinomial(len(data), np.full(len(data), 1 / len(data)), size=replicates)
        phases = FREQUENCIES[:, None] * ((data - location) / scale)
        weighted = (np.cos(phases) + 1j * np.sin(phases)) @ weights.T / len(data)
        drawn = _by_regression(weighted, scale, location)
    return _result(found, drawn, len(data), "characteristic")


def _by_quantiles(rows: Array) -> Array:
    """Return alpha, beta, scale, location (R, 4) of samples (R, n)."""
    q05, q25, q50, q75, q95 = np.quantile(rows, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = (q95 - q05) / (q75 - q25)
        lean = (q95 + q05 - 2 * q50) / (q95 - q05)
    alpha, beta = _invert(width, np.abs(lean))
    scale = (q75 - q25) / _interpolate(NU_SCALE, alpha, beta)
    sign = np.sign(lean)
    location = q50 + scale * sign * _interpolate(NU_SHIFT, alpha, beta)
    found = np.stack([alpha, sign * beta, scale, location], axis=1)
    found[~(q75 > q25)] = np.nan
    return found


def _invert(width: Array, lean: Array) -> tuple[Array, Array]:
    """Solve nu_alpha(alpha, beta) = width, nu_beta(alpha, beta) = lean on the table.

    nu_alpha depends on beta weakly, so that alternating the two one-dimensional lookups converges.
    """
    beta = np.zeros_like(width)
    alpha = np.full_like(width, np.nan)
    usable = np.isfinite(width) & np.isfinite(lean)
    for row in np.flatnonzero(usable):
        for _ in range(8):
            widths = [np.interp(beta[row], BETAS, line) for line in LOG_NU_ALPHA]
            alpha[row] = np.interp(-np.log(width[row]), -np.array(widths), ALPHAS)
            leans = [np.interp(alpha[row], ALPHAS, line) for line in NU_BETA.T]
            beta[row] = np.interp(lean[row], leans, BETAS) if leans[-1] > 1e-3 else 0.0
    return alpha, beta


def _interpolate(table: Array, alpha: Array, beta: Array) -> Array:
    """Return the table's value at (alpha, beta), linear in both."""
    row = np.clip(np.searchsorted(ALPHAS, alpha) - 1, 0, len(ALPHAS) - 2)
    column = np.clip(np.searchsorted(BETAS, beta) - 1, 0, len(BETAS) - 2)
    a = (alpha - ALPHAS[row]) / (ALPHAS[row + 1] - ALPHAS[row])
    b = (beta - BETAS[column]) / (BETAS[column + 1] - BETAS[column])
    low = table[row, column] * (1 - b) + table[row, column + 1] * b
    high = table[row + 1, column] * (1 - b) + table[row + 1, column + 1] * b
    return low * (1 - a) + high * a


def _by_regression(phi: Complex, scale: float, location: float) -> Array:
    """Return alpha, beta, scale, location (R, 4) from phi (frequencies, R) of standardised data."""
    t = FREQUENCIES
    with np.errstate(divide="ignore", invalid="ignore"):
        decay = np.log(-np.log(np.abs(phi)))
    logs = np.log(t) - np.log(t).mean()
    alpha = np.clip(logs @ decay / (logs @ logs), 1e-3, 2.0)
    spread_ = np.exp((decay.mean(axis=0) - alpha * np.log(t).mean()) / alpha)
    angle = np.unwrap(np.angle(phi), axis=0)
    scaled = spread_ * t[:, None]
    # tan(pi a / 2) (|st|^a - |st|) -> (2 / pi) |st| ln|st| as a -> 1
    near = np.abs(alpha - 1) < 1e-4
    power = np.where(near, 1.5, alpha)
    skew = np.tan(np.pi * power / 2) * (scaled**power - scaled)
    skew = np.where(near, -2 / np.pi * scaled * np.log(scaled), skew)
    tt, ss, ts = t @ t, (skew**2).sum(axis=0), t @ skew
    ta, sa = t @ angle, (skew * angle).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = (tt * sa - ts * ta) / (tt * ss - ts**2)
    beta = np.where(np.isfinite(beta) & (alpha < 2 - 1e-6), np.clip(beta, -1, 1), 0.0)
    shift = (ta - beta * ts) / tt
    return np.stack([alpha, beta, scale * spread_, location + scale * shift], axis=1)


def _result(found: Array, drawn: Array, size: int, method: Method) -> StableFit:
    errors = np.full(4, np.nan) if len(drawn) < 2 else drawn.std(axis=0, ddof=1)
    law, stderr = (Stable(*row) for row in np.stack([found, errors]).tolist())
    return StableFit(law, stderr, size, method, "ok" if np.isfinite(found).all() else "undefined")
