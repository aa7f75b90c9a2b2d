"""Trains one network on from weights that it has, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lossatlas.data.augment import augmented_batch
from lossatlas.data.tensors import Split
from lossatlas.models.functional import Functional, Tensors
from lossatlas.simplex.spro import loss_and_gradient
from lossatlas.training.optimisers import Plain, Settings, decay, optimiser_of
from lossatlas.training.seeds import generator, seed_default


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Return how many batches an epoch has; an incomplete last one is left out."""
    return len(split) // min(batch_size, len(split))


def train_on(
    functional: Functional,
    buffers: Tensors,
    start: Tensor,
    split: Split,
    *,
    steps: int,
    rate: Callable[[int], float],
    batch_size: int,
    settings: Settings,
    words: tuple[object, ...],
) -> Iterator[Tensor]:
    """Yield the weights (P,) after each step; the next step overwrites them.

    Parameters that the module does not train stay as they are.

    Args:
        functional: The network.
        buffers: Of the network; not changed.
        start: (P,).
        split: Training images and labels.
        steps: How many.
        rate: Learning rate of a step, from 1.
        batch_size: Images per step.
        settings: `optimiser`, `momentum`, `weight_decay`.
        words: What the random numbers are named after.
    """
    theta = start.clone()
    optimiser = optimiser_of(Plain.of(settings), theta)
    size, every = min(batch_size, len(split)), steps_per_epoch(split, batch_size)
    alone, nothing = torch.ones(1, 1, dtype=torch.float64), start.new_zeros(0, len(start))
    device = start.device
    still = functional.untrained(device)
    order = torch.empty(0)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for step in range(steps):
            if step % every == 0:
                draw = generator(*words, step // every)
                order = torch.randperm(len(split), generator=draw).to(device)
            first = step % every * size
            seed_default(device, "noise", *words, step)  # for dropout
            batch = augmented_batch(split.take(order[first : first + size]), (*words, step))
            _, gradient = loss_and_gradient(functional, buffers, nothing, theta, alone, batch)
            gradient.add_(theta, alpha=decay(settings, optimiser))
            if still is not None:
                gradient.masked_fill_(still, 0.0)
            optimiser.step(theta, gradient, rate(step + 1))
            yield theta
