"""What changes while G replicas train: a row of one matrix (G, P) each, and what goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lossatlas.models.functional import Functional, Tensors
from lossatlas.training.optimisers import Optimiser


@dataclass
class Run:
    """Everything that changes while G replicas train."""

    flat: Tensor
    optimiser: Optimiser
    buffers: Tensors
    kept: dict[str, tuple[Tensor, Tensors]]
    epoch_of: dict[str, Tensor]
    sums: Tensor  # (3, G): summed loss, wrong units and all units of the running epoch
    epoch: int = 0
    step: int = 0
    total: int = 0  # steps of all epochs
    history: dict[str, list[list[float]]] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """Name every tensor, for the resume state."""
        found = {"flat": self.flat, "sums": self.sums}
        found |= {f"optimiser/{name}": t for name, t in self.optimiser.state().items()}
        found |= {f"buffer/{name}": b for name, b in self.buffers.items()}
        for kind, (flat, buffers) in self.kept.items():
            found[f"{kind}/flat"] = flat
            found |= {f"{kind}/buffer/{name}": b for name, b in buffers.items()}
        return found | {f"epoch/{kind}": e for kind, e in self.epoch_of.items()}

    def values(self) -> dict[str, Any]:
        """Name every number, for the resume state."""
        return {name: getattr(self, name) for name in _NUMBERS}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Take numbers from a resume state."""
        for name in _NUMBERS:
            setattr(self, name, values[name])

    def early_or(self, other: tuple[Tensor, Tensors]) -> tuple[Tensor, Tensors]:
        """Return the early-stopped weights and buffers; of replicas that never settled, others."""
        never = torch.nonzero(self.epoch_of["early"] == 0).flatten()
        early, buffers = self.kept["early"]
        found = early.clone(), {name: buffer.clone() for name, buffer in buffers.items()}
        found[0][never] = other[0][never]
        for name, buffer in found[1].items():
            buffer[never] = other[1][name][never]
        return found


def named(functional: Functional, flat: Tensor, frozen: Tensors) -> Tensors:
    """Return the named parameters (G, ...) of rows (G, P), in the module's order.

    Args:
        functional: The network.
        flat: What it trains.
        frozen: Name -> (G, ...), what it does not.
    """
    shapes = {n: functional.shapes[n] for n in functional.trainable}
    pieces = flat.detach().split([shape.numel() for shape in shapes.values()], dim=1)
    found = {
        n: piece.reshape(len(flat), *shape)
        for (n, shape), piece in zip(shapes.items(), pieces, strict=True)
    }
    return {name: {**found, **frozen}[name] for name in functional.shapes}


_NUMBERS = ("epoch", "step", "total", "history", "rates")


@dataclass(frozen=True)
class Group:
    """Replicas that are computed together: rows of the matrix, and their named copies.

    The copies, which autograd sees as leaves, lie in memory of their own: as views of the matrix,
    whose rows are far apart, they make a step of several narrow networks 1.5 times as slow.
    """

    rows: slice
    views: list[Tensor]
    leaves: Tensors

    @classmethod
    def of(cls, flat: Tensor, shapes: dict[str, torch.Size], rows: slice) -> Group:
        """Make the group of these rows of the parameters (G, P)."""
        pieces = flat[rows].split([shape.numel() for shape in shapes.values()], dim=1)
        views = [p.view(-1, *shape) for p, shape in zip(pieces, shapes.values(), strict=True)]
        leaves = {
            name: torch.empty_like(view, memory_format=torch.contiguous_format).requires_grad_()
            for name, view in zip(shapes, views, strict=True)
        }
        return cls(rows, views, leaves)

    def refresh(self) -> None:
        """Copy the parameters into the leaves."""
        with torch.no_grad():
            torch._foreach_copy_(list(self.leaves.values()), self.views)
