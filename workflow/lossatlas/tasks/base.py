"""What a network is for: the loss of its outputs, and what counts as wrong.

A task of one's own is no more than this, named by `task: "module:MyTask"` in a config:

    import lossatlas as la

    class Poisson(la.Task):
        \"\"\"Counts, predicted by their logarithms.\"\"\"

        unit = "nats"
        values = True

        def per_example(self, outputs, targets):
            return (outputs.exp() - targets * outputs).flatten(1).sum(1)

This module imports no torch: the workflow reads tasks when it is parsed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from lossatlas.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from lossatlas.data.tensors import TensorData

IGNORED = -100  # a target that counts for nothing, as of padding: torch's own convention


class Task:
    """The loss of outputs against targets. A subclass writes `per_example`, and what is not so.

    A loss is a mean over units: examples, or the tokens or values of which an example has several.
    So `per_example` sums over the units of each example, and `counts` says how many these are.

    Attributes:
        name: In a config.
        unit: Of the loss.
        values: Whether targets are numbers (N, ...) of floating point; else whole numbers.
        sequence: Whether each example has a sequence of targets (N, L).
        classes: Whether the last axis of the outputs has logits of classes.
        scored: Whether `wrong` counts errors.
        needs_text: Whether it needs sentence pairs, of which it is known what tokens mean.
    """

    name: ClassVar[str] = ""
    unit: ClassVar[str] = "nats"
    values: ClassVar[bool] = False
    sequence: ClassVar[bool] = False
    classes: ClassVar[bool] = False
    scored: ClassVar[bool] = False
    needs_text: ClassVar[bool] = False

    # --- what a task says -----------------------------------------------------------------------
    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss (N,) of each example, summed over its units.

        Args:
            outputs: (N, ...), of the network.
            targets: (N, ...).
        """
        raise NotImplementedError(f"{type(self).__name__} defines no 'per_example'")

    def counts(self, targets: Tensor) -> Tensor | None:  # noqa: ARG002 -- of a subclass
        """Return how many units (N,) each example has; None: one each."""
        return None

    def wrong(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many units (N,) of each example are predicted wrongly, if `scored`."""
        raise NotImplementedError(f"{type(self).__name__} counts no errors")

    def smoothed(self, outputs: Tensor, targets: Tensor, amount: float) -> Tensor:
        """Return `per_example` with smoothed labels, which only tasks with classes have."""
        raise NotImplementedError(f"{type(self).__name__} has no labels to smooth")

    def scores(self, forward: Callable[[Any], Tensor], data: TensorData) -> dict[str, float]:  # noqa: ARG002
        """Return what else is measured of the held-out examples: name -> number.

        Args:
            forward: The trained network, on inputs of a few examples, without gradients.
            data: The two splits.
        """
        return {}

    def check(self, outputs: Tensor, targets: Tensor, size: int, where: str) -> None:  # noqa: ARG002
        """Refuse outputs of a wrong shape.

        Args:
            outputs: (N, ...), of the network.
            targets: (N, ...), of the same examples.
            size: Classes, or values per example.
            where: The network, for messages.

        Raises:
            UserError: With the shape that they should have.
        """
        if not outputs.is_floating_point() or len(outputs) != len(targets):
            what = f"forward returns {tuple(outputs.shape)} of {outputs.dtype}"
            fix = f"return a tensor of floating point with {len(targets)} rows, one per example"
            raise UserError(what, where=where, fix=fix)

    # --- what everything else asks --------------------------------------------------------------
    @property
    def ruler(self) -> str:
        """What paths are measured by: "error" if errors are counted, else "loss"."""
        return "error" if self.scored else "loss"

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over all units, a scalar."""
        each, counts = self.per_example(outputs, targets), self.counts(targets)
        return each.mean() if counts is None else each.sum() / counts.sum().clamp(min=1)

    def means(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the mean losses (G,) of G networks.

        Args:
            outputs: (G, N, ...).
            targets: (G, N, ...).
            smoothing: Of the labels, from 0 to 1.
        """
        flat, wanted = outputs.flatten(0, 1), targets.flatten(0, 1)
        each = (
            self.smoothed(flat, wanted, smoothing) if smoothing else self.per_example(flat, wanted)
        ).view(len(outputs), -1)
        counts = self.counts(wanted)
        return (
            each.mean(1)
            if counts is None
            else each.sum(1) / counts.view(each.shape).sum(1).clamp(min=1)
        )

    def units(self, targets: Tensor) -> Tensor:
        """Return how many units (G,) the targets (G, N, ...) of G networks have, float64."""
        counts = self.counts(targets.flatten(0, 1))
        if counts is None:
            return targets.new_full((len(targets),), targets.shape[1]).double()
        return counts.view(len(targets), -1).sum(1).double()

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many units (G,) of G networks' outputs (G, N, ...) are wrong.

        NaN where errors are not counted.
        """
        if not self.scored:
            return outputs.new_full((len(outputs),), math.nan)
        return (
            self.wrong(outputs.flatten(0, 1), targets.flatten(0, 1)).view(len(outputs), -1).sum(1)
        )

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return summed loss, summed errors (NaN: not counted) and units (3,), in float64."""
        loss = self.per_example(outputs, targets).double().sum()
        wrong = self.errors(outputs[None], targets[None])[0].double()
        import torch

        return torch.stack([loss, wrong, self.units(targets[None])[0]])
