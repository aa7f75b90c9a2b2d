"""Which examples a step sees: indices in an order drawn for each epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.spec.parts import Recipe
from lossatlas.training.seeds import generator


def batches(split: Split, seeds: list[int], epoch: int, recipe: Recipe) -> Iterator[Tensor]:
    """Yield the indices (G, B) of an epoch's batches, in each replica's own order, or as they are.

    They lie where the examples do: the order of a whole epoch is sent once.
    The authors' "gauss" data are never shuffled: every epoch visits the same batches.

    Args:
        split: Training examples.
        seeds: Of the G replicas; one, where batches are counted by tokens.
        epoch: From 0.
        recipe: `batch_size`, `batch_tokens`, `shuffle`, `incomplete_batch`.

    Raises:
        UserError: If an example has more tokens than a batch.
    """
    orders = [torch.randperm(len(split), generator=generator("order", s, epoch)) for s in seeds]
    if not recipe.shuffle:
        orders = [torch.arange(len(split)) for _ in seeds]
    if recipe.batch_tokens is not None:
        yield from (batch[None] for batch in by_tokens(split, orders[0], recipe.batch_tokens))
        return
    together = torch.stack(orders).to(split.device)
    for chunk in together.split(recipe.batch_size, dim=1):
        if chunk.shape[1] == recipe.batch_size or recipe.incomplete_batch == "keep":
            yield chunk


def by_tokens(split: Split, order: Tensor, most: int) -> list[Tensor]:
    """Cut an order of examples into batches of at most `most` targets that count.

    Args:
        split: Examples of a task that counts tokens.
        order: (N,), a permutation.
        most: Tokens per batch.

    Raises:
        UserError: If an example has more.
    """
    counts = split.task.counts(split.labels)
    lengths = (torch.ones(len(split)) if counts is None else counts).cpu()[order]
    if int(lengths.max()) > most:
        what = f"an example has {int(lengths.max())} tokens, and a batch {most}"
        raise UserError(what, where="recipe: batch_tokens", fix="a larger number")
    there = order.to(split.device)
    found, first, tokens = [], 0, 0
    for place, length in enumerate(lengths.tolist()):
        if tokens + length > most:
            found.append(there[first:place])
            first, tokens = place, 0
        tokens += length
    return [*found, there[first:]]
