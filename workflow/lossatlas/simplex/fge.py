"""Fast geometric ensembles: members along a cyclic learning rate (Garipov et al., 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from lossatlas.data.tensors import Split
from lossatlas.models.functional import Functional, Tensors
from lossatlas.simplex.onward import steps_per_epoch, train_on
from lossatlas.training.optimisers import Settings


def cyclic_rate(step: float, cycle: float, largest: float, smallest: float) -> float:
    """Return the rate at a step: linear from the largest to the smallest at mid-cycle, and back."""
    t = (step % cycle) / cycle
    share = 2.0 * t if t <= 0.5 else 2.0 - 2.0 * t
    return (1.0 - share) * largest + share * smallest


def members(
    functional: Functional,
    buffers: Tensors,
    start: Tensor,
    split: Split,
    *,
    count: int,
    cycle_epochs: int,
    rates: tuple[float, float],
    batch_size: int = 128,
    settings: Settings,
    words: tuple[object, ...] = (),
) -> Tensor:
    """Train on from a network and keep its weights at the lowest rate of each cycle.

    Parameters that the module does not train stay as they are.

    Args:
        functional: The network.
        buffers: Of the network; not changed.
        start: (P,).
        split: Training images and labels.
        count: Cycles, a member each.
        cycle_epochs: Passes over the data per cycle.
        rates: Largest and smallest learning rate.
        batch_size: Images per step; an incomplete last batch is left out.
        settings: `optimiser`, `momentum`, `weight_decay`.
        words: What the random numbers are named after.

    Returns:
        (count, P).
    """
    cycle = cycle_epochs * steps_per_epoch(split, batch_size)
    walk = train_on(
        functional,
        buffers,
        start,
        split,
        # The last member is complete half a cycle before the end of the last cycle.
        steps=count * cycle - cycle // 2,
        rate=lambda step: cyclic_rate(step, cycle, *rates),
        batch_size=batch_size,
        settings=settings,
        words=("fge", *words),
    )
    found = [w.clone() for step, w in enumerate(walk, 1) if step % cycle == cycle // 2]
    return torch.stack(found)
