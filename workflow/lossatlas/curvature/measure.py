"""Eigenvalues, trace and spectral density of each replica: of the Hessian, or of Gauss-Newton."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from lossatlas.curvature.density import Density, density, ritz_series
from lossatlas.curvature.gauss_newton import GaussNewtonOperator
from lossatlas.curvature.lanczos import (
    Eigenvalues,
    Lanczos,
    gaussian,
    power_iteration,
    run_lanczos,
    with_copies,
)
from lossatlas.curvature.operator import HessianOperator, hessian_at
from lossatlas.curvature.progress import Progress
from lossatlas.curvature.trace import Trace, hutchinson_paper, trace
from lossatlas.progress import counted
from lossatlas.store import Array, Record, Scalar, Series
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossatlas.metrics.hessian import Spectrum
    from lossatlas.training.state import State


_NAMES = {"hessian": "Hessian", "gauss_newton": "Gauss-Newton"}
_KINDS = {"hessian": HessianOperator, "gauss_newton": GaussNewtonOperator}


@dataclass(frozen=True)
class _Extremes:
    top: Eigenvalues
    trace: Trace


@dataclass(frozen=True)
class _Replica:
    seed: int
    images: torch.Tensor
    top: Eigenvalues
    trace: Trace
    density: Density | None

    @property
    def products(self) -> int:
        last = 0 if self.density is None else self.density.products
        return self.top.products + self.trace.products + last


def measure(
    networks: Networks,
    settings: Spectrum,
    state: State | None = None,
    seeds: Sequence[int] | None = None,
) -> Record:
    """Measure a matrix of the mean loss on training images, replica by replica.

    In `fixed` mode all replicas see the same images, the eigenvalues come from Lanczos and the
    trace from `trace.trace`, which goes on from that basis. In `paper` mode each replica has its
    own images, as in the authors' code, with power iteration and `hutchinson_paper`. The density
    is the same in both. BatchNorm is in evaluation mode, and weight decay is not part of the loss.

    The matrix is the Hessian, or that of Gauss-Newton, whose numbers are named accordingly.

    Scalars, per replica: `hessian_eigenvalue` (the largest in modulus, with its sign),
    `hessian_eigenvalue_2` and so on, and `hessian_trace` with its standard error. Series: a
    `hessian_density` per replica, and `hessian_ritz`, the weights of each quadrature against its
    nodes, by `probe`. Arrays: everything that is needed to judge or redo them.

    Args:
        networks: The replicas that ended well.
        settings: Settings.
        state: Where finished products are kept and found.
        seeds: Which replicas; default: all.

    Raises:
        UserError: If no parameter is picked, or an operation has no second derivative.
        Preempted: If a signal asked the job to leave; the state has been saved.
    """
    progress = Progress(state)
    places = [networks.seeds.index(seed) for seed in (networks.seeds if seeds is None else seeds)]
    replicas = []
    for index in places:
        with counted(_NAMES[settings.matrix], settings.products, "products"):
            replicas.append(_one(networks, index, settings, progress))
    scalars = [row for replica in replicas for row in _scalars(replica, settings)]
    series = [row for one in replicas for row in _spectrum(one, settings.matrix)]
    arrays = _arrays(replicas, settings) if replicas else {}
    return Record(
        settings.kind, scalars, series, arrays, mode="paper" if settings.as_paper else "fixed"
    )


def _one(networks: Networks, index: int, settings: Spectrum, progress: Progress) -> _Replica:
    seed = networks.seeds[index]
    picked = images_of(len(networks.data.train), seed, settings)
    split = networks.data.train.take(picked.to(networks.device))
    operator = hessian_at(
        networks,
        index,
        split,
        parameters=settings.parameters,
        chunk=settings.chunk,
        differences=settings.by_differences,
        kind=_KINDS[settings.matrix],
    )
    draws = partial(generator, "hessian", settings.seed, seed)
    way = _paper if settings.as_paper else _fixed
    found = progress.piece(
        f"{seed}/extremes", _Extremes, partial(way, operator, settings, draws, progress)
    )
    spectrum = None
    if settings.density_probes:
        asked = (operator, settings.density_probes, settings.density_steps)
        make = partial(density, *asked, generator=draws("density"), progress=progress)
        spectrum = progress.piece(f"{seed}/density", Density, make)
    return _Replica(seed, picked, found.top, found.trace, spectrum)


def _paper(
    operator: HessianOperator,
    settings: Spectrum,
    draws: partial[torch.Generator],
    progress: Progress,
) -> _Extremes:
    top = power_iteration(
        operator,
        settings.eigenvalues,
        iterations=settings.iterations,
        tolerance=settings.tolerance,
        generator=draws("start"),
        progress=progress,
    )
    total = hutchinson_paper(
        operator,
        settings.probes,
        tolerance=settings.tolerance,
        generator=draws("probes"),
        progress=progress,
    )
    return _Extremes(top, total)


def _fixed(
    operator: HessianOperator,
    settings: Spectrum,
    draws: partial[torch.Generator],
    progress: Progress,
) -> _Extremes:
    random = draws("start")
    capacity = settings.iterations + settings.probes // 2
    lanczos = Lanczos(operator, gaussian(operator, random), capacity, random, progress=progress)
    limits = settings.iterations, settings.tolerance
    top = run_lanczos(lanczos, settings.eigenvalues, *limits)
    top = with_copies(lanczos, top, *limits, draws("copies"), progress)
    total = trace(
        operator, settings.probes, generator=draws("probes"), lanczos=lanczos, progress=progress
    )
    return _Extremes(top, total)


def images_of(count: int, replica: int, settings: Spectrum) -> torch.Tensor:
    """Return which of `count` training images the loss is taken on: indices, ascending.

    All of them where there are fewer than `settings.samples`.
    """
    words: list[object] = ["hessian", settings.seed, "images"]
    if settings.as_paper:
        words.append(replica)
    return torch.randperm(count, generator=generator(*words))[: settings.samples].sort().values


def _scalar(
    name: str,
    value: float,
    seed: int,
    stderr: float = math.nan,
    df: float = math.nan,
    *,
    converged: bool = True,
) -> Scalar:
    if not math.isfinite(value):
        return Scalar(name, math.nan, seed, status="undefined", unit="nats")
    status = "ok" if converged else "unconverged"
    return Scalar(name, value, seed, stderr=stderr, df=df, status=status, unit="nats")


def _scalars(replica: _Replica, settings: Spectrum) -> list[Scalar]:
    rows = []
    top = replica.top
    for place in range(settings.eigenvalues):
        name = f"{settings.matrix}_eigenvalue" + (f"_{place + 1}" if place else "")
        exists = place < len(top.values)  # else: more eigenvalues asked for than parameters
        value = top.values[place].item() if exists else math.nan
        converged = exists and bool(top.converged[place])
        rows.append(_scalar(name, value, replica.seed, converged=converged))
    total = replica.trace
    seed, done = replica.seed, total.converged
    row = _scalar(
        f"{settings.matrix}_trace", total.value, seed, total.stderr, total.df, converged=done
    )
    return [*rows, row]


def _spectrum(replica: _Replica, matrix: str) -> list[Series]:
    if replica.density is None:
        return []
    x, y = replica.density.x.numpy(), replica.density.y.numpy()
    status = "ok" if np.isfinite(y).all() else "undefined"
    curve = Series(
        f"{matrix}_density",
        x,
        y,
        "eigenvalue",
        replica.seed,
        x_unit="nats",
        y_unit="1 / nats",
        status=status,
    )
    return [curve, *ritz_series(replica.density, replica.seed, matrix)]


def _arrays(replicas: list[_Replica], settings: Spectrum) -> dict[str, Array]:
    """Return what the numbers came from; rows of different lengths are filled up with NaN."""
    wide, one = ("replica", "eigenvalue"), ("replica",)
    count = settings.eigenvalues
    residuals = [_padded(r.top.residuals, count) for r in replicas]
    flags = [_padded(r.top.converged.double(), count) for r in replicas]
    most = max(len(r.trace.probes) for r in replicas)
    probes = [_padded(r.trace.probes, most) for r in replicas]
    images = np.stack([r.images.numpy() for r in replicas])
    arrays = {
        "seeds": Array(np.array([r.seed for r in replicas]), one),
        "images": Array(images, ("replica", "image"), "", "places in the training set"),
        "residuals": Array(np.stack(residuals), wide, "nats", "|H x - λ x| at |x| = 1"),
        "converged": Array(np.stack(flags), wide, "", "1 where the eigenvalue converged"),
        "iterations": Array(
            np.array([r.top.products for r in replicas]), one, "", "products for the eigenvalues"
        ),
        "trace_exact": Array(
            np.array([r.trace.exact for r in replicas]), one, "nats", "trace inside the basis"
        ),
        "trace_probes": Array(
            np.stack(probes), ("replica", "probe"), "nats", "trace outside of it, by each probe"
        ),
        "trace_converged": Array(
            np.array([r.trace.converged for r in replicas]), one, "", "ended by its own rule"
        ),
        "products": Array(np.array([r.products for r in replicas]), one, "", "all products"),
    }
    spectra = [r.density for r in replicas if r.density is not None]
    if spectra:
        axes = ("replica", "probe", "node")
        nodes, weights = (torch.stack([getattr(s, k) for s in spectra]) for k in _QUADRATURE)
        arrays["density_nodes"] = Array(nodes.numpy(), axes, "nats", "eigenvalues of quadratures")
        arrays["density_weights"] = Array(weights.numpy(), axes, "", "their weights")
        widths = np.array([s.width for s in spectra])
        arrays["density_width"] = Array(widths, one, "nats", "s.d. of the Gaussians of the curve")
    return arrays


_QUADRATURE = ("nodes", "weights")


def _padded(values: torch.Tensor, length: int) -> np.ndarray:
    row = np.full(length, np.nan)
    row[: len(values)] = values.numpy()
    return row
