"""Translations of a trained network, and their BLEU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from lossatlas.data.tensors import Named
    from lossatlas.data.texts import Texts

AT_ONCE = 64  # sentences that are translated together


def bleu_of(forward: Callable[[Any], Tensor], inputs: Named, texts: Texts) -> float:
    """Return BLEU, from 0 to 100, of greedy translations of held-out sentences.

    Args:
        forward: The network: inputs by name, "source" (N, S) and "before" (N, L), to logits
            (N, L, tokens).
        inputs: Of the held-out sentences; translations get as long as "before" at most.
        texts: What tokens mean, and the references.

    Returns:
        The number; NaN if the network's outputs are not finite.
    """
    found = greedy(forward, inputs)
    if found is None:
        return math.nan
    return corpus_bleu([texts.decode(row) for row in found], texts.references)


def greedy(forward: Callable[[Any], Tensor], inputs: Named) -> list[list[int]] | None:
    """Translate word by word, always taking the most probable next token.

    Sentences that have ended are padded. Nothing is kept from one token to the next: the network is
    called on all tokens so far.

    Args:
        forward: As in `bleu_of`.
        inputs: Likewise; of "before" only the first token and the length are used.

    Returns:
        Tokens of each sentence, after the first; None if an output is not finite.
    """
    import torch

    from lossatlas.data.tensors import Named
    from lossatlas.data.texts import END, PADDING

    rows: list[list[int]] = []
    for some in inputs.split(AT_ONCE):
        before = some.tensors["before"]
        tokens, most = before[:, :1], before.shape[1]
        ended = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        while tokens.shape[1] <= most and not bool(ended.all()):
            given = {"source": some.tensors["source"], "before": tokens}
            scores = forward(Named(given))[:, -1]
            if not bool(torch.isfinite(scores).all()):
                return None
            chosen = scores.argmax(-1).masked_fill(ended, PADDING)
            tokens = torch.cat([tokens, chosen[:, None]], 1)
            ended = ended | (chosen == END)
        rows += tokens[:, 1:].tolist()
    return rows


def corpus_bleu(found: Sequence[str], references: Sequence[str]) -> float:
    """Return BLEU of texts against one reference each (Papineni et al., 2002), by sacrebleu.

    On whole texts, with sacrebleu's own words ("13a") and exponential smoothing: its defaults.
    """
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU(tokenize="13a").corpus_score(list(found), [list(references)]).score)
