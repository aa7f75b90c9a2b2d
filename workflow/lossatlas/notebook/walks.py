"""Training as a random walk, from weights along it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.diffusion.arrays import log_lags
from lossatlas.diffusion.gram import Path, path_of_chunks
from lossatlas.diffusion.measure import Sheet, displacement
from lossatlas.errors import UserTypeError, UserValueError
from lossatlas.metrics.diffusion import LEAST_WINDOW, RELIABLE, Diffusion
from lossatlas.metrics.registry import with_settings
from lossatlas.notebook.results import Result, about
from lossatlas.progress import shown, tracked
from lossatlas.store import Record, Scalar

_COLUMNS = 2**16  # parameters at a time
_STATISTICS = ("running_mean", "running_var")  # of norms: no parameters


def msd(
    weights: Any,
    *,
    fit: Sequence[float] | None = None,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Result:
    """Measure the mean squared displacement of weights along training, and its exponents.

    Source: Chen et al. (2022); formulas: `lossatlas.diffusion`.

    Args:
        weights: A point after each step: an array or tensor (T, P) or, of one parameter, (T,); or T
            modules, or T state dicts, of which the parameters of floating point count, without the
            statistics of BatchNorm.
        fit: Smallest and largest lag of the exponents, in steps; default: 10 to 100 or, of fewer
            than 400 points, T / 40 to T / 4: slopes beyond T / 4 are biased.
        seed: Of bootstrap and reordered steps.
        progress: Whether to show progress, on a terminal or in a notebook.
        settings: Of the metric `diffusion`: bootstrap, surrogates, last_lag.

    Returns:
        Numbers `exponent` (1: random walk, 2: straight line), `still_exponent` (without drift),
        `surrogate_exponent` (of reordered steps), `early_exponent`, `late_exponent`, `crossover`,
        `msd_long`, `velocity_correlation`; curves `msd`, `still_msd`, `surrogate_msd` over the lag,
        and the fitted lines of their exponents, `msd_fit` and so on.

    Raises:
        UserError: If the weights are no such points, are not finite, or are too few.
    """
    with shown(wanted=progress):
        path = _path(weights)
        chosen = _fit(len(path), fit)
        metric = with_settings(Diffusion, {**settings, "fit": chosen}, seed=seed, mode="fixed")
        sheet = Sheet(0, metric)
        displacement(sheet, path, 0)
    record = Record("msd", series=sheet.record.series)
    for name, (number,) in ((key, found.values()) for key, found in sheet.numbers.items()):
        unit = "steps" if name == "crossover" else ""
        record.scalars.append(Scalar(name, unit=unit, **number._asdict()))
    return Result(about(record, metric.model_dump()), "displacement")


def _path(weights: Any) -> Path:
    """Return the path of points, gone through by pieces of their parameters."""
    points = _points(weights)
    least = LEAST_WINDOW["fixed"]
    if len(points) < least:
        what = f"{len(points)} points are too few for exponents"
        raise UserValueError(what, where="weights", fix=f"give {least} or more")
    if (points == points[0]).all():
        fix = "keep copies: optimisers change tensors in place (.detach().clone() after each step)"
        raise UserValueError(f"all {len(points)} points are equal", where="weights", fix=fix)
    starts = range(0, points.shape[1], _COLUMNS)
    try:
        return path_of_chunks(
            points[:, first : first + _COLUMNS] for first in tracked(starts, "distances", "pieces")
        )
    except ValueError as error:
        raise UserValueError(str(error), where="weights", fix="leave out what diverged") from None


def _points(weights: Any) -> np.ndarray[Any, Any]:
    """Return points (T, P) as an array."""
    if isinstance(weights, list | tuple) and weights:
        weights = _stacked(weights)
    if isinstance(weights, Tensor):
        weights = weights.detach().cpu().numpy()
    if not isinstance(weights, np.ndarray) or weights.dtype.kind not in "iuf":
        what = f"is a {type(weights).__name__}, not points of a path"
        fix = "give (T, P), a row for each step; or a list of T modules or state dicts"
        raise UserTypeError(what, where="weights", fix=fix)
    if weights.ndim not in (1, 2) or not weights.size:
        what = f"has the shape {weights.shape}"
        raise UserValueError(what, where="weights", fix="give (T, P), a row for each step")
    return weights[:, None] if weights.ndim == 1 else weights


def _stacked(given: Sequence[Any]) -> Any:
    """Return a list of modules, state dicts, tensors or arrays as points (T, P)."""
    rows = [_row(one, place) for place, one in enumerate(given)]
    sizes = [len(row) for row in rows]
    if len(set(sizes)) > 1:
        odd = next(place for place, size in enumerate(sizes) if size != sizes[0])
        what = f"point {odd} has {sizes[odd]} parameters, and point 0 has {sizes[0]}"
        raise UserValueError(what, where="weights", fix="give points of one network")
    return torch.stack(rows)


def _row(one: Any, place: int) -> Tensor:
    if isinstance(one, nn.Module):
        one = dict(one.named_parameters())
    if isinstance(one, Mapping):
        tensors = [
            tensor
            for name, tensor in one.items()
            if isinstance(tensor, Tensor) and tensor.is_floating_point()
            if str(name).rpartition(".")[2] not in _STATISTICS
        ]
        if not tensors:
            fix = "give state dicts"
            raise UserTypeError("holds no tensors", where=f"weights: point {place}", fix=fix)
        one = torch.cat([tensor.reshape(-1) for tensor in tensors])
    if isinstance(one, np.ndarray | int | float):
        one = torch.as_tensor(one)
    if not isinstance(one, Tensor):
        fix = "give modules, state dicts, tensors or arrays"
        what = f"is a {type(one).__name__}"
        raise UserTypeError(what, where=f"weights: point {place}", fix=fix)
    return one.detach().cpu().reshape(-1)


def _fit(points: int, fit: Iterable[float] | None) -> list[float]:
    """Return the lags of the fit, those that are asked for or those that fit the path."""
    if fit is None:
        if points >= 400:
            return [10, 100]
        return [float(max(1, points // 40)), float(points // RELIABLE)]
    found = [float(one) for one in fit]
    if len(found) == 2 and found[0] < found[1] <= points - 1:
        lags = log_lags(1, math.floor(found[1]))
        if ((lags >= found[0]) & (lags <= found[1])).sum() > 1:
            return found
    what = f"{found} is not two lags with others between them, within {points} points"
    raise UserValueError(what, where="fit", fix=f"such as [1, {points // RELIABLE}]")
