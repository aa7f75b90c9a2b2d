"""Trace of a symmetric operator from its products with random vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossatlas import uncertainty
from lossatlas.curvature.lanczos import Lanczos, gaussian, project_out, rademacher
from lossatlas.curvature.operator import LinearOperator
from lossatlas.curvature.progress import Progress


@dataclass(frozen=True)
class Trace:
    """An estimate of a trace.

    Attributes:
        value: `exact` plus the mean of `probes`.
        stderr: Standard error: s.d. of the probes over the root of their number; NaN for one and
            for equal ones; 0 of a trace that is known exactly.
        df: Its degrees of freedom: one fewer than the probes; infinite if it is exact.
        exact: The part of the trace that is known exactly.
        probes: (n,) float64, the estimate of the rest by each random vector.
        converged: Whether it ended by its own rule rather than by the end of its budget.
        products: Hessian-vector products that were used.
    """

    value: float
    stderr: float
    df: float
    exact: float
    probes: Tensor
    converged: bool
    products: int


def trace(
    operator: LinearOperator,
    products: int = 40,
    *,
    generator: torch.Generator,
    lanczos: Lanczos | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Return an unbiased estimate of the trace from a given number of products.

    Half of the products build (or extend) a Krylov basis Q, which soon spans the few large
    eigenvalues of the Hessian of a trained network. tr(Q^T H Q) is then exact, and Hutchinson's
    estimator with Rademacher vectors is left with the remainder,

        tr H = tr(Q^T H Q) + E[z^T (I - QQ^T) H (I - QQ^T) z],

    whose variance is smaller (deflation as in Hutch++, Meyer et al., 2021, with a Krylov basis in
    place of a sketch). On dense Hessians of small trained networks its median error at 40 products
    was 5 to 10 times below Hutchinson's, below that of Hutch++ and about that of XTrace (Epperly
    et al., 2024); going on from the basis of the eigenvalue lowers it further.
    The standard error is honest because the basis does not depend on the probes; few products leave
    few probes, hence Student's t (`uncertainty.half_width`).

    Args:
        operator: The operator.
        products: How many to spend, at least 3; fewer are used if the basis spans everything.
        generator: For the start vector and the probes.
        lanczos: A basis to extend, such as that of the eigenvalues, with room for
            `products // 2` more vectors; default: a new one.
        progress: Where it notes its steps.

    Raises:
        ValueError: If `products` is below 3.
    """
    if products < 3:
        raise ValueError(f"products must be at least 3, got {products}")
    half = products // 2
    if lanczos is None:
        start = gaussian(operator, generator)
        note = "trace basis"  # not that of eigenvalues, which may be noted beside it
        lanczos = Lanczos(operator, start, half, generator, progress=progress, note=note)
    before = operator.products
    for _ in range(min(half, lanczos.capacity - lanczos.steps)):
        lanczos.step()
    left = products - (operator.products - before)
    if lanczos.steps == operator.size:
        left = 0
    progress = progress or Progress()
    estimates = _noted(progress)
    for number in range(left):
        probe = rademacher(operator, generator)
        if number < len(estimates):
            operator.products += 1
            continue
        probe = project_out(probe, lanczos.basis)
        estimates.append(torch.dot(probe, operator(probe)).item())
        progress.note("probes", {}, {"estimates": estimates})
    used = operator.products - before
    return _summary(lanczos.trace, estimates, converged=True, products=used)


def hutchinson_paper(
    operator: LinearOperator,
    probes: int = 100,
    *,
    tolerance: float = 1e-3,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Trace:
    """Return the trace as the code of Yang et al. (2021) does, by PyHessian's stopping rule.

    Hutchinson's estimator with Rademacher vectors stops when the running mean m changes by
    (|m_n - m_(n-1)|) / (m_(n-1) + 1e-6) < tolerance. The denominator is signed, so a negative mean
    stops it at once; and one small change is no convergence. `fixed` mode does neither.

    Args:
        operator: The operator.
        probes: Most products.
        tolerance: Relative change at which it stops.
        generator: For the probes.
        progress: Where it notes its steps.
    """
    progress = progress or Progress()
    estimates = _noted(progress)
    mean, converged, used = 0.0, False, 0
    while used < probes and not converged:
        probe = rademacher(operator, generator)
        if used < len(estimates):
            operator.products += 1
        else:
            estimates.append(torch.dot(operator(probe), probe).item())
            progress.note("probes", {}, {"estimates": estimates})
        used += 1
        latest = math.fsum(estimates[:used]) / used
        denominator = mean + 1e-6
        converged = denominator != 0 and abs(latest - mean) / denominator < tolerance
        mean = latest
    return _summary(0.0, estimates, converged=converged, products=used)


def _noted(progress: Progress) -> list[float]:
    """Return the estimates of a killed job."""
    _, values = progress.noted("probes") or ({}, {})
    estimates: list[float] = values.get("estimates", [])
    return estimates


def _summary(exact: float, estimates: list[float], *, converged: bool, products: int) -> Trace:
    probes = torch.tensor(estimates, dtype=torch.float64)
    if not estimates:
        return Trace(exact, 0.0, math.inf, exact, probes, converged, products)
    value = exact + probes.mean().item()
    rest = uncertainty.mean(estimates)
    return Trace(value, rest.stderr, rest.df, exact, probes, converged, products)
