"""What training leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lossatlas.models.functional import Functional, Tensors, one_of
from lossatlas.store import Array
from lossatlas.training.recorder import Snapshot


@dataclass
class Trained:
    """What training left behind.

    Attributes:
        functional: The network without weights.
        seeds: The G seeds.
        checkpoints: "final", "best", "early", and "epoch-5" and the like where the recipe keeps
            weights along the way -> (parameters, buffers), stacked (G, ...).
        history: name -> (epochs run, G): "train_loss" in the unit of the task and, where it counts
            errors, "train_accuracy" in percent, both running means in training mode.
        rates: Learning rate of each epoch.
        diverged: Booleans (G,).
        epoch_of: "best", "early" -> epoch (G,), from 1; 0 where there is none.
        ends: Epochs (G,) that each replica ran before it stopped; its history ends there.
        path: What the recipe's `record` asked for.
        end: Where a longer run could go on, if the recipe records and the run could be resumed.
    """

    functional: Functional
    seeds: list[int]
    checkpoints: dict[str, tuple[Tensors, Tensors]]
    history: dict[str, np.ndarray]
    rates: list[float]
    diverged: np.ndarray
    epoch_of: dict[str, np.ndarray]
    ends: np.ndarray
    path: dict[str, Array] = field(default_factory=dict)
    end: Snapshot | None = None


def replica(trained: Trained, checkpoint: str, index: int) -> tuple[Tensors, Tensors]:
    """Return parameters and buffers of one replica."""
    params, buffers = trained.checkpoints[checkpoint]
    return one_of(params, index), one_of(buffers, index)
