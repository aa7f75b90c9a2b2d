"""The trained replicas of a cell, as every metric sees them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from lossatlas.data.tensors import Inputs, TensorData, places
from lossatlas.models.functional import Functional, Tensors, one_of
from lossatlas.models.layout import fast


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
        epochs: Passes over the data that training a replica took; 0 if that is not known.
    """

    functional: Functional
    params: Tensors
    buffers: Tensors
    seeds: list[int]
    data: TensorData
    diverged: list[int] = field(default_factory=list)
    epochs: int = 0

    @property
    def device(self) -> torch.device:
        """Where everything lies."""
        return self.data.train.device

    def one(self, index: int) -> tuple[Tensors, Tensors]:
        """Return parameters and buffers of the replica at `index` (views)."""
        return one_of(self.params, index), one_of(self.buffers, index)

    def pairs(self) -> list[tuple[int, int]]:
        """Return all unordered pairs of indices."""
        count = len(self.seeds)
        return [(i, j) for i in range(count) for j in range(i + 1, count)]


def not_estimated(networks: Networks) -> list[str]:
    """Return buffers that differ between replicas and are not statistics of torch's own norms.

    Between replicas, statistics of `torch.nn.BatchNorm` and `InstanceNorm` are estimated anew. What
    else a module keeps, such as those of a norm written by hand or the vectors of a spectral norm,
    stays that of one end.
    """
    functional = networks.functional
    norms = {name for name, part in functional.module.named_modules() if part in functional.norms}
    return [
        name
        for name, buffer in networks.buffers.items()
        if name.rpartition(".")[0] not in norms and not bool((buffer == buffer[:1]).all())
    ]


def tell_of_buffers(networks: Networks) -> None:
    """Say, in the log or at the terminal, which buffers of one end are taken all along a path."""
    if names := not_estimated(networks):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        what = f"buffers {', '.join(names[:3])}{more} differ between replicas, and are those of one"
        fix = "use torch.nn.BatchNorm for statistics, which are estimated anew at every point"
        print(f"lossatlas: {what} along a whole path ({fix})", file=sys.stderr, flush=True)


def chunk_of(images: Inputs) -> int:
    """Return how many examples to send through a network at once without gradients.

    A CPU is fastest while activations stay in its cache (128 images of 32 x 32 took a third of the
    time per image of 1024), a GPU when it has much to do.
    """
    pixels = 2**17 if images.device.type == "cpu" else 2**21
    return max(1, pixels // places(images))


def evaluator(
    functional: Functional, params: Tensors, buffers: Tensors
) -> Callable[[Inputs], torch.Tensor]:
    """Return one network in evaluation mode, without gradients: inputs (N, ...) to outputs."""

    @torch.no_grad()
    def forward(images: Inputs) -> torch.Tensor:
        return functional(params, buffers, fast(images, functional), train=False)

    return forward


def outputs(networks: Networks, index: int, images: Inputs) -> torch.Tensor:
    """Return outputs (N, ...) of one replica in evaluation mode, computed chunk by chunk."""
    forward = evaluator(networks.functional, *networks.one(index))
    return torch.cat([forward(x) for x in images.split(chunk_of(images))])
