"""Fast geometric ensembles: members along a cyclic learning rate (Garipov et al., 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from lossatlas.data.augment import augmented_batch
from lossatlas.data.tensors import Split
from lossatlas.models.functional import Functional, Tensors
from lossatlas.simplex.spro import loss_and_gradient
from lossatlas.training.optimisers import Plain, Settings, decay, optimiser_of
from lossatlas.training.seeds import generator, seed_default


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
    theta, found = start.clone(), list[Tensor]()
    optimiser = optimiser_of(Plain.of(settings), theta)
    size = min(batch_size, len(split))
    steps = len(split) // size
    cycle = cycle_epochs * steps
    alone, nothing = torch.ones(1, 1, dtype=torch.float64), start.new_zeros(0, len(start))
    device = start.device
    still = functional.untrained(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # The last member is complete half a cycle before the end of the last cycle.
        for step in range(count * cycle - cycle // 2):
            if step % steps == 0:
                draw = generator("fge", *words, step // steps)
                order = torch.randperm(len(split), generator=draw).to(device)
            first = step % steps * size
            seed_default(device, "noise", "fge", *words, step)  # for dropout
            name = ("fge", *words, step)
            batch = augmented_batch(split.take(order[first : first + size]), name)
            _, gradient = loss_and_gradient(functional, buffers, nothing, theta, alone, batch)
            gradient.add_(theta, alpha=decay(settings, optimiser))
            if still is not None:
                gradient.masked_fill_(still, 0.0)
            optimiser.step(theta, gradient, cyclic_rate(step + 1, cycle, *rates))
            if (step + 1) % cycle == cycle // 2:
                found.append(theta.clone())
    return torch.stack(found)
