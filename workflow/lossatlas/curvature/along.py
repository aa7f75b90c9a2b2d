"""The metric 'hessian_path': the spectrum of the Hessian at weights kept along training.

The question of Fig. S2 of Chen et al. (2022): 20 largest eigenvalues every 5 epochs. Their code
(`compute_hessian_eig_GZ.py`) takes each product of a power iteration on the next batch of 128
images, so that no two products belong to one matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lossatlas.curvature.density import Density, density, ritz_series
from lossatlas.curvature.lanczos import Eigenvalues, power_iteration, top_eigenvalues
from lossatlas.curvature.operator import HessianOperator, hessian_at
from lossatlas.curvature.progress import Progress
from lossatlas.data.tensors import Split
from lossatlas.models.functional import flatten
from lossatlas.store import Record, Scalar, Series
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator

if TYPE_CHECKING:
    from lossatlas.metrics.hessian_path import HessianPath
    from lossatlas.training.state import State

NAN = float("nan")


@dataclass(frozen=True)
class _Spectrum:
    top: Eigenvalues
    density: Density | None


class NextBatch:
    """Hessians of successive batches as if they were one operator: what the authors iterate.

    Args:
        operators: One per batch, all of the same size.
    """

    def __init__(self, operators: list[HessianOperator]) -> None:
        first = operators[0]
        self.operators, self.products = operators, 0
        self.size, self.dtype, self.device = first.size, first.dtype, first.device

    def __call__(self, vector: Tensor) -> Tensor:
        """Multiply with the Hessian of the next batch."""
        chosen = self.operators[self.products % len(self.operators)]
        self.products += 1
        return chosen(vector)


def measure(
    stages: Mapping[int, Networks],
    settings: HessianPath,
    state: State | None = None,
    seeds: Sequence[int] | None = None,
) -> Record:
    """Measure the Hessian of the mean training loss after some epochs, replica by replica.

    Series per replica: `eigenvalue` and `residual` (|H x - lambda x|) against the epoch, by `rank`,
    1 being the largest in modulus; `distance`, |w - w_0|; `hessian_density` by `epoch`, and
    `hessian_ritz`, the weights of its quadratures against their nodes, by `epoch` and `probe`.
    Scalars: the largest eigenvalue at the start, at the end and at its peak. BatchNorm is in
    evaluation mode.

    Args:
        stages: Epoch -> the replicas then, ascending.
        settings: Settings.
        state: Where finished products are kept and found.
        seeds: Which replicas; default: all.

    Raises:
        ValueError: If there is no stage.
        Preempted: If a signal asked the job to leave; the state has been saved.
        UserError: If an operation of the network has no second derivative.
    """
    if not stages:
        raise ValueError("no weights along training")
    record = Record("hessian_path", mode=settings.mode)
    any_stage = next(iter(stages.values()))
    picked = torch.randperm(
        len(any_stage.data.train), generator=generator("hessian path", settings.seed)
    )[: settings.samples]
    split = any_stage.data.train.take(picked.to(any_stage.device))
    progress = Progress(state)
    for seed in any_stage.seeds if seeds is None else seeds:
        index = any_stage.seeds.index(seed)
        _measure_replica(record, stages, index, seed, split, settings, progress)
    return record


def _measure_replica(
    record: Record,
    stages: Mapping[int, Networks],
    index: int,
    seed: int,
    split: Split,
    settings: HessianPath,
    progress: Progress,
) -> None:
    epochs = np.array(list(stages), dtype=np.float64)
    values = np.full((len(stages), settings.eigenvalues), NAN)
    residuals, converged, moved = values.copy(), np.zeros(values.shape, bool), []
    start: Tensor | None = None
    for row, (epoch, networks) in enumerate(stages.items()):
        params, _ = networks.one(index)
        here = flatten(params)
        start = here if start is None else start
        moved.append(float(torch.linalg.vector_norm(here - start)))
        make = partial(_spectrum, networks, index, split, settings, progress, epoch)
        made = progress.piece(f"{seed}/{epoch}", _Spectrum, make)
        top, found = made.top, len(made.top.values)
        values[row, :found] = top.values.numpy()
        residuals[row, :found] = top.residuals.numpy()
        converged[row, :found] = top.converged.numpy()
        if made.density is not None:
            x, y = made.density.x.numpy(), made.density.y.numpy()
            state = "ok" if np.isfinite(y).all() else "undefined"
            about: Any = {"x_unit": "nats", "status": state, "index": {"epoch": epoch}}
            record.series.append(Series("hessian_density", x, y, "eigenvalue", seed, **about))
            record.series.extend(ritz_series(made.density, seed, epoch=epoch))
    for rank in range(settings.eigenvalues):
        state = "ok" if converged[:, rank].all() else "unconverged"
        for name, table in (("eigenvalue", values), ("residual", residuals)):
            good = np.isfinite(table[:, rank])
            record.series.append(
                Series(
                    name,
                    epochs[good],
                    table[good, rank],
                    "epoch",
                    seed,
                    y_unit="nats",
                    status=state,
                    index={"rank": rank + 1},
                )
            )
    record.series.append(Series("distance", epochs, np.array(moved), "epoch", seed))
    _scalars(record, values[:, 0], converged[:, 0], seed)


def _scalars(record: Record, top: np.ndarray, converged: np.ndarray, seed: int) -> None:
    known = np.isfinite(top)
    peak = int(np.nanargmax(top)) if known.any() else 0
    for when, row in (("start", 0), ("end", -1), ("peak", peak)):
        state = "undefined" if not known[row] else "ok" if converged[row] else "unconverged"
        value = float(top[row])
        record.scalars.append(Scalar(f"eigenvalue_{when}", value, seed, status=state, unit="nats"))


def _spectrum(
    networks: Networks,
    index: int,
    split: Split,
    settings: HessianPath,
    progress: Progress,
    epoch: int,
) -> _Spectrum:
    seed = networks.seeds[index]
    draws = partial(generator, "hessian path", settings.seed, seed, epoch)
    whole = hessian_at(networks, index, split, chunk=settings.chunk)
    top = _top(networks, index, split, settings, whole, draws, progress)
    spectrum = None
    if settings.density_probes:
        asked = (whole, settings.density_probes, settings.density_steps)
        spectrum = density(*asked, generator=draws("density"), progress=progress)
    return _Spectrum(top, spectrum)


def _top(
    networks: Networks,
    index: int,
    split: Split,
    settings: HessianPath,
    whole: HessianOperator,
    draws: partial[torch.Generator],
    progress: Progress,
) -> Eigenvalues:
    if settings.mode == "fixed":
        return top_eigenvalues(
            whole,
            settings.eigenvalues,
            iterations=settings.iterations,
            tolerance=settings.tolerance,
            generator=draws("start"),
            progress=progress,
        )
    places = torch.arange(len(split), device=split.device).split(settings.batch_size)
    batches = [hessian_at(networks, index, split.take(one), chunk=settings.chunk) for one in places]
    return power_iteration(
        NextBatch(batches),
        settings.eigenvalues,
        iterations=settings.iterations,
        tolerance=settings.tolerance,
        generator=draws("start"),
        progress=progress,
    )
