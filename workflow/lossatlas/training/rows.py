"""What changes while G replicas train: a row of one matrix (G, P) each, and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lossatlas.models.functional import Tensors


@dataclass
class Run:
    """Everything that changes while G replicas train."""

    flat: Tensor
    velocity: Tensor
    buffers: Tensors
    kept: dict[str, tuple[Tensor, Tensors]]
    epoch_of: dict[str, Tensor]
    sums: Tensor  # (2, G): summed loss and number correct of the running epoch
    epoch: int = 0
    step: int = 0
    history: dict[str, list[list[float]]] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """Name every tensor, for the resume state."""
        found = {"flat": self.flat, "velocity": self.velocity, "sums": self.sums}
        found |= {f"buffer/{name}": b for name, b in self.buffers.items()}
        for kind, (flat, buffers) in self.kept.items():
            found[f"{kind}/flat"] = flat
            found |= {f"{kind}/buffer/{name}": b for name, b in buffers.items()}
        return found | {f"epoch/{kind}": e for kind, e in self.epoch_of.items()}


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
