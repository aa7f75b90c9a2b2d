"""Inner products of the gradients of a window, from those of its steps: no gradient is stored.

SGD makes each step from the gradients before it, linearly. Inverting that map gives the Gram matrix
of the gradients for any momentum, Nesterov's form and weight decay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lossatlas.diffusion.arrays import Array, Ints
from lossatlas.diffusion.gram import Path, increments

_FORGOTTEN = 60  # steps after which the first velocity has no digits left in Nesterov's recursion


@dataclass(frozen=True)
class Optimiser:
    """SGD as `torch.optim.SGD` defines it, without dampening."""

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0


def gradient_products(
    path: Path, rate: Array, optimiser: Optimiser, *, from_start: bool
) -> tuple[Array, int]:
    """Return K (m, m), K_st = <g_s + c, g_t + c>, and the first step whose gradient is known.

    With velocity v_t = momentum v_{t-1} + h_t, h_t = g_t + decay w_t, a step is -rate v_t, or
    -rate (h_t + momentum v_t) in Nesterov's form. The vector c is the same for all steps: decay
    times the first point of the window, which distances do not tell; 0 without weight decay.

    Args:
        path: T points.
        rate: (T - 1,) learning rate of each step.
        optimiser: What made the steps.
        from_start: Whether the velocity before the first step was 0. Otherwise the first gradient
            cannot be told with momentum, nor the first 60 in Nesterov's form.

    Raises:
        ValueError: If there is not one positive rate for each step.
    """
    size = len(path) - 1
    if np.shape(rate) != (size,) or not (np.asarray(rate) > 0).all():
        raise ValueError(f"{size} steps need {size} positive learning rates")
    momentum = optimiser.momentum
    before = np.eye(size, k=-1)
    step = np.diag(-1.0 / rate)  # times the increments: the velocity, or h + momentum v
    if optimiser.nesterov:
        mixed = (1 + momentum) * np.eye(size) - momentum * before
        velocity = np.linalg.solve(mixed, step)
        change = step - momentum * velocity
    else:
        change = step - momentum * before @ step
    moved = np.tri(size, k=-1)  # times the increments: w_t - w_first
    change -= optimiser.weight_decay * moved
    products = change @ increments(path) @ change.T
    known = 0
    if momentum and not from_start:
        known = min(_FORGOTTEN if optimiser.nesterov else 1, size)
    return products[known:, known:], known


def noise_norms(products: Array, epoch: Ints) -> Array:
    """Return |g_s - mean of g over the steps of the same epoch|; NaN for a step alone in its epoch.

    |g_s - mean|^2 = K_ss - 2 mean_r K_sr + mean K, whatever vector all g have in common.

    Args:
        products: (n, n) inner products of the gradients.
        epoch: (n,) epoch of each step.
    """
    norms = np.full(len(products), np.nan)
    for one in np.unique(epoch):
        own = np.flatnonzero(epoch == one)
        if len(own) < 2:
            continue
        block = products[np.ix_(own, own)]
        squares = np.diagonal(block) - 2 * block.mean(axis=1) + block.mean()
        norms[own] = np.sqrt(np.maximum(squares, 0.0))
    return norms
