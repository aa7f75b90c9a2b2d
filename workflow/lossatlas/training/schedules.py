"""Learning rates and stopping rules, as functions of the epoch."""

from __future__ import annotations

import math

import numpy as np

from lossatlas.spec.parts import EarlyStop, Recipe


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Return the learning rate of an epoch.

    Args:
        recipe: `learning_rate`, scaled by batch_size / rate_per_batch where that is set (linear
            scaling rule), times `decay_factor` at the start of each of `decay_epochs`, or cosine
            annealing to 0.
        epoch: From 0.
    """
    rate = recipe.initial_rate
    if recipe.cosine:
        return rate * 0.5 * (1.0 + math.cos(math.pi * epoch / recipe.epochs))
    return rate * recipe.decay_factor ** sum(epoch >= start for start in recipe.decay_epochs)


def has_settled(losses: np.ndarray, rule: EarlyStop) -> np.ndarray:
    """Say which replicas' training losses have stopped changing.

    Args:
        losses: (epochs so far, G) mean training losses, in nats.
        rule: After `after` epochs, the last `epochs` changes must all be at most `tolerance`.

    Returns:
        Booleans (G,).
    """
    if len(losses) < max(rule.after, rule.epochs + 1):
        return np.zeros(losses.shape[1], dtype=bool)
    changes = np.abs(np.diff(losses[-rule.epochs - 1 :], axis=0))
    return np.all(changes <= rule.tolerance, axis=0)
