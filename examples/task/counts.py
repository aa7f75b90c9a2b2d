"""Counts: data, a task and an optimiser of one's own."""

import numpy as np
import torch

import lossatlas as la


def counts() -> dict[str, np.ndarray]:
    """Return rows of three numbers, and counts whose logarithm is linear in them."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(400, 3))
    drawn = draw.poisson(np.exp(rows @ [0.5, -0.3, 0.2])).astype(np.float32)
    return {
        "train_inputs": rows[:300],
        "train_targets": drawn[:300],
        "test_inputs": rows[300:],
        "test_targets": drawn[300:],
    }


class Poisson(la.Task):
    """Counts, of which the network gives the logarithm of the mean."""

    unit = "nats"
    values = True

    def per_example(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return negative log-likelihoods (N,), without the term of the targets alone."""
        return (outputs.exp() - targets * outputs).flatten(1).sum(1)


class SignDescent(la.Optimiser):
    """A step of the same length in each parameter."""

    def step(self, params: torch.Tensor, gradient: torch.Tensor, rate: float) -> None:
        """Move against the sign of the gradient."""
        params.sub_(gradient.sign(), alpha=rate)
