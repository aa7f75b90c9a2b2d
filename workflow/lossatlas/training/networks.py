"""The trained replicas of a cell, as every metric sees them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from lossatlas.data.tensors import TensorData
from lossatlas.models.functional import Functional, Tensors, one_of


@dataclass(frozen=True)
class Networks:
    """G trained replicas with their data, all on one device.

    Attributes:
        functional: The network as a function of its parameters.
        params: Name -> (G, ...), of the replicas that ended well.
        buffers: Name -> (G, ...).
        seeds: The G seeds, ascending.
        data: What they were trained on (load transforms applied) and the test set.
        diverged: Seeds of the replicas that diverged; they have no place in `params`.
    """

    functional: Functional
    params: Tensors
    buffers: Tensors
    seeds: list[int]
    data: TensorData
    diverged: list[int] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where everything lies."""
        return self.data.train.images.device

    def one(self, index: int) -> tuple[Tensors, Tensors]:
        """Return parameters and buffers of the replica at `index` (views)."""
        return one_of(self.params, index), one_of(self.buffers, index)

    def pairs(self) -> list[tuple[int, int]]:
        """Return all unordered pairs of indices."""
        count = len(self.seeds)
        return [(i, j) for i in range(count) for j in range(i + 1, count)]


@torch.no_grad()
def logits(networks: Networks, index: int, images: torch.Tensor, chunk: int = 1024) -> torch.Tensor:
    """Return logits (N, classes) of one replica in evaluation mode, computed chunk by chunk."""
    params, buffers = networks.one(index)
    parts = [networks.functional(params, buffers, x, train=False) for x in images.split(chunk)]
    return torch.cat(parts)
