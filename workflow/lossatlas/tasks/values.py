"""Numbers to be met, and labels of which an example may have several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossatlas.errors import UserError
from lossatlas.tasks.base import Task

if TYPE_CHECKING:
    from torch import Tensor


class _PerValue(Task):
    """A loss that is a mean over the values of the targets, of which an example may have many."""

    values = True

    def counts(self, targets: Tensor) -> Tensor:
        """Return how many values (N,) each example has."""
        return targets.new_full((len(targets),), targets[0].numel())

    def check(self, outputs: Tensor, targets: Tensor, size: int, where: str) -> None:
        """Refuse outputs of another shape than the targets, which would be broadcast."""
        if outputs.shape != targets.shape or not outputs.is_floating_point():
            what = f"forward returns a tensor of shape {tuple(outputs.shape)} of {outputs.dtype}"
            fix = f"targets have shape {tuple(targets.shape)}; `num_classes` is {size} here"
            raise UserError(what, where=where, fix=fix)


class Regression(_PerValue):
    """Numbers: the loss is the mean squared error over all values of outputs and targets."""

    name = "regression"
    unit = "squared"

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return squared errors (N,), summed over the values of each example."""
        return (outputs - targets).square().flatten(1).sum(1)


class MultiLabel(_PerValue):
    """Labels that hold or not, each by itself: binary cross entropy of logits, per label.

    Targets are (N, labels), 0 or 1; a label is predicted where its logit is above 0.
    """

    name = "multi_label"
    scored = True

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return binary cross entropies (N,) in nats, summed over the labels of each example."""
        from torch.nn.functional import binary_cross_entropy_with_logits as loss

        return loss(outputs, targets, reduction="none").flatten(1).sum(1)

    def wrong(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many labels (N,) are predicted wrongly."""
        return ((outputs > 0) != (targets > 0.5)).flatten(1).sum(1)
