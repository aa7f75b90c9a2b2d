"""One class per example, or per token of a sequence: cross entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lossatlas.errors import UserError
from lossatlas.tasks.base import IGNORED, Task

if TYPE_CHECKING:
    from torch import Tensor

    from lossatlas.data.tensors import TensorData

_FIX = "wrap it in a module whose forward returns the logits alone"


class Classification(Task):
    """One class per example: outputs are logits (N, classes), targets whole numbers (N,)."""

    name = "classification"
    classes = True
    scored = True

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return cross entropies (N,), in nats."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, targets, reduction="none")

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, targets)

    def smoothed(self, outputs: Tensor, targets: Tensor, amount: float) -> Tensor:
        """Return cross entropies (N,) against (1 - amount) one-hot + amount / classes.

        Szegedy et al. (2016), section 7.
        """
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, targets, reduction="none", label_smoothing=amount)

    def wrong(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return which examples (N,) have another class than the largest logit; NaN is wrong."""
        return (outputs.argmax(1) != targets).long()

    def check(self, outputs: Tensor, targets: Tensor, size: int, where: str) -> None:
        """Refuse what are not logits (N, classes) or wider."""
        count = len(targets)
        if outputs.dim() != 2 or len(outputs) != count or not outputs.is_floating_point():
            kind = "" if outputs.is_floating_point() else f" of {outputs.dtype}"
            what = f"forward returns a tensor of shape {tuple(outputs.shape)}{kind} for {count}"
            raise UserError(f"{what} images, not (N, classes)", where=where, fix=_FIX)
        if outputs.shape[1] < size:
            what = f"forward returns {outputs.shape[1]} logits, and there are {size} classes"
            fix = "let its builder take `num_classes`, and have so many outputs"
            raise UserError(what, where=where, fix=fix)


class TokenClassification(Task):
    """One class per token: outputs are logits (N, L, classes), targets (N, L).

    Targets of -100 count for nothing: the loss is the mean over all others, whatever the padding.
    """

    name = "token_classification"
    sequence = True
    classes = True
    scored = True

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return cross entropies (N,) in nats, summed over the tokens of each example."""
        return self._summed(outputs, targets, 0.0)

    def smoothed(self, outputs: Tensor, targets: Tensor, amount: float) -> Tensor:
        """Return the same against smoothed labels, as `Classification.smoothed`."""
        return self._summed(outputs, targets, amount)

    def _summed(self, outputs: Tensor, targets: Tensor, amount: float) -> Tensor:
        from torch.nn.functional import cross_entropy

        each = cross_entropy(
            outputs.flatten(0, 1),
            targets.flatten(),
            reduction="none",
            ignore_index=IGNORED,
            label_smoothing=amount,
        )
        return each.view(targets.shape).sum(1)

    def counts(self, targets: Tensor) -> Tensor:
        """Return how many tokens (N,) of each example count."""
        return (targets != IGNORED).sum(1)

    def wrong(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many tokens (N,) have another class than the largest logit."""
        return ((outputs.argmax(-1) != targets) & (targets != IGNORED)).sum(1)

    def check(self, outputs: Tensor, targets: Tensor, size: int, where: str) -> None:
        """Refuse what are not logits (N, L, classes) or wider."""
        shape = tuple(targets.shape)
        if outputs.dim() != 3 or outputs.shape[:2] != targets.shape:
            what = f"forward returns a tensor of shape {tuple(outputs.shape)}"
            fix = f"logits are (N, L, classes), and targets have shape {shape}"
            raise UserError(what, where=where, fix=fix)
        if outputs.shape[2] < size or not outputs.is_floating_point():
            what = f"forward returns {outputs.shape[2]} logits, and there are {size} classes"
            fix = "let its builder take `num_classes`, and have so many outputs"
            raise UserError(what, where=where, fix=fix)


class LanguageModel(TokenClassification):
    """The next token at each place: token classification whose targets are the inputs, shifted."""

    name = "language_model"


class SequenceToSequence(TokenClassification):
    """The tokens of another sequence, given those before them (teacher forcing).

    The network takes what its forward names, such as the source and the shifted target.
    """

    name = "sequence_to_sequence"


class Translation(SequenceToSequence):
    """Sentences in another language: its tokens are subwords of text, and translations have BLEU.

    Of data that are sentence pairs (`text` of a data set).
    """

    name = "translation"
    needs_text = True

    def scores(self, forward: Callable[[Any], Tensor], data: TensorData) -> dict[str, float]:
        """Return BLEU of the test sentences, translated by the network."""
        from lossatlas.tasks.translation import bleu_of

        inputs: Any = data.test.images
        assert data.text is not None  # other data are refused
        return {"test_bleu": bleu_of(forward, inputs, data.text)}
