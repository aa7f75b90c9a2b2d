"""Learning rates and stopping rules, as functions of epoch and step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lossatlas.spec.parts import EarlyStop, Recipe


def learning_rate(recipe: Recipe, epoch: int, step: int = 0) -> float:
    """Return the learning rate of a step.

    Args:
        recipe: `learning_rate`, scaled by batch_size / rate_per_batch where that is set (linear
            scaling rule), times `decay_factor` at the start of each of `decay_epochs`, or cosine
            annealing to 0. With `warmup_steps` w it rises linearly over the first w steps; with
            `inverse_sqrt` it then falls as sqrt(w / step) (Vaswani et al., 2017, equation 3).
        epoch: From 0.
        step: Of the whole run, from 0.
    """
    rate = recipe.initial_rate
    if (steps := recipe.warmup_steps) > 0:
        rate *= min(1.0, (step + 1) / steps)
    if recipe.inverse_sqrt:
        return rate * math.sqrt(max(1, steps) / max(step + 1, steps, 1))
    if recipe.cosine:
        return rate * 0.5 * (1.0 + math.cos(math.pi * epoch / recipe.epochs))
    return rate * recipe.decay_factor ** sum(epoch >= start for start in recipe.decay_epochs)


def may_stop(history: Mapping[str, list[list[float]]], rule: EarlyStop) -> np.ndarray:
    """Say for which replicas a rule of early stopping holds.

    Args:
        history: "train_loss" and, where errors are counted, "train_accuracy": (epochs so far, G)
            running means in training mode, in the unit of the loss and in percent.
        rule: Of the recipe.

    Returns:
        Booleans (G,).
    """
    losses = np.array(history["train_loss"])
    if not rule.fits:
        return has_settled(losses, rule)
    held = np.full(losses.shape[1], len(losses) >= rule.first)
    if rule.loss is not None:
        held &= np.all(losses[-rule.epochs :] <= rule.loss, axis=0)
    if rule.accuracy is not None:
        right = np.array(history["train_accuracy"])
        held &= np.all(right[-rule.epochs :] >= rule.accuracy, axis=0)
    return held


def has_settled(losses: np.ndarray, rule: EarlyStop) -> np.ndarray:
    """Say which replicas' training losses have stopped changing.

    Args:
        losses: (epochs so far, G) mean training losses, in nats.
        rule: After `after` epochs, the last `epochs` changes must all be at most `tolerance`.

    Returns:
        Booleans (G,).
    """
    if len(losses) < rule.first:
        return np.zeros(losses.shape[1], dtype=bool)
    changes = np.abs(np.diff(losses[-rule.epochs - 1 :], axis=0))
    return np.all(changes <= rule.tolerance, axis=0)
