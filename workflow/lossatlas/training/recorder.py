"""Records the path of training: what its analysis needs, and never the T x P weights on disk.

The last `length` weight vectors of each replica lie in a ring on the device. When a window is full
its float64 Gram matrix is kept and its weights are not; the whole run is kept as a random
projection. Point t is the weights before step t, and the loss and the gradient of step t are those
at point t.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lossatlas.spec.parts import Recording
from lossatlas.store import Array
from lossatlas.training.seeds import generator

Snapshot = tuple[dict[str, Tensor], dict[str, Any]]
PREFIX = "record/"  # of our tensors in the resume state
_CHUNK = 2**23  # numbers of a ring that are in float64 at a time


class Projection:
    """A balanced count sketch (Charikar, Chen, Farach-Colton 2002): signs, permutation, sums.

    Squared distances are unbiased, with a relative standard deviation of at most sqrt(2 / k), as
    for a dense Gaussian matrix, at the cost of one pass over the parameters.

    Args:
        size: P.
        dimension: k.
        seed: Of signs and permutation.
        device: Where.
    """

    def __init__(self, size: int, dimension: int, seed: int, device: torch.device) -> None:
        self.dimension, self.padding = dimension, -size % dimension
        draw = generator("projection", seed)
        self.order = torch.randperm(size + self.padding, generator=draw).to(device)
        self.signs = (torch.randint(0, 2, self.order.shape, generator=draw) * 2 - 1).to(device)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Map (G, P) to (G, k)."""
        mixed = F.pad(vectors, (0, self.padding))[:, self.order] * self.signs
        return mixed.view(len(vectors), -1, self.dimension).sum(1)


class Recorder:
    """Watches the weights of G replicas step by step.

    Args:
        plan: Which windows, and how much else.
        steps: Most steps of the run.
        flat: (G, P) initial weights, on the device.
        sizes: Parameters of each tensor, in the order of the columns.
        resumes: Whether the run may be saved and resumed.
    """

    def __init__(
        self, plan: Recording, steps: int, flat: Tensor, sizes: list[int], *, resumes: bool = True
    ) -> None:
        self.plan, self.sizes, self.resumes = plan, sizes, resumes
        count, size = flat.shape
        entries, device = min(plan.gradients, size), flat.device
        picked = torch.randperm(size, generator=generator("gradients", plan.seed))[:entries]
        self.picked = picked.sort().values.to(device)
        self.project = Projection(size, plan.projection or 1, plan.seed, device)
        self.ring = torch.zeros(plan.length, count, size, device=device, dtype=flat.dtype)
        self.windows = plan.windows(steps)

        def table(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.zeros(*shape, device=device, dtype=dtype)

        self.kept = {
            "start": flat.clone(),
            "last": flat.clone(),
            "loss": table(steps, count),
            "step": table(steps, count),
            "distance": table(steps + 1, count),
            "layer_gradient": table(steps, count, len(sizes)),
            "gradient": table(steps, count, entries, dtype=torch.float32),
            "projection": table(steps + 1, count, plan.projection, dtype=torch.float32),
            "layer_weight": table(len(self.windows), count, len(sizes)),
            "gram": table(len(self.windows), count, plan.length, plan.length),
        }
        self.time, self.done = 0, 0  # points seen; windows finished
        self.seen = 0  # points seen before the run was resumed: their steps are known
        self._snapshots: dict[int, Snapshot] = {}

    def begin(self, snapshot: Callable[[], Snapshot]) -> None:
        """Before a step: keep the run's state at some starts of windows.

        A run that is resumed goes back to the start of its oldest unfinished window, since the
        ring is not saved. Its steps do not depend on when it was saved, so that what it repeats is
        equal.
        """
        if not self.resumes or self.done == len(self.windows):
            return
        newest = max(self._snapshots, default=None)
        spaced = newest is None or self.time >= newest + max(self.plan.length // 4, 1)
        if spaced and any(first == self.time for first, _ in self.windows[self.done :]):
            self._snapshots[self.time] = copy.deepcopy(snapshot())

    def step(self, flat: Tensor, gradient: Tensor, loss: Tensor) -> None:
        """Record weights (G, P) before a step, and gradient (G, P) and loss (G,) there."""
        kept, time = self.kept, self.time
        kept["loss"][time] = loss
        squares = torch.square(gradient)
        kept["layer_gradient"][time] = _by_tensor(squares, self.sizes)
        kept["gradient"][time] = gradient[:, self.picked]
        self._point(flat)

    def finish(self, flat: Tensor) -> None:
        """Record the weights (G, P) after the last step."""
        self._point(flat)

    def _point(self, flat: Tensor) -> None:
        kept, time, length = self.kept, self.time, self.plan.length
        moved = flat - kept["start"]
        kept["distance"][time] = moved.double().square().sum(1)
        if self.plan.projection:
            kept["projection"][time] = self.project(moved)
        if time > max(self.seen - 1, 0):
            before = self.ring[(time - 1) % length]
            kept["step"][time - 1] = (flat.double() - before).square().sum(1)
        self.ring[time % length] = flat
        self.time += 1
        if self.done < len(self.windows) and self.time == self.windows[self.done][1]:
            self._close(flat)

    def _close(self, flat: Tensor) -> None:
        """Turn the ring into a Gram matrix, unless that was done before the run was resumed."""
        first, _ = self.windows[self.done]
        for replica in range(len(flat)):
            self.kept["gram"][self.done, replica] = gram_of_ring(self.ring[:, replica], first)
        squares = _by_tensor(flat.double().square(), self.sizes)
        self.kept["layer_weight"][self.done] = squares.sqrt()
        self.done += 1
        needed = self._snapshot_before(self._oldest())
        self._snapshots = {t: one for t, one in self._snapshots.items() if t >= needed}

    def _oldest(self) -> int:
        """Return the first point of the oldest window that has begun and is not finished."""
        starts = [first for first, _ in self.windows[self.done :] if first < self.time]
        return min(starts, default=self.time)

    def _snapshot_before(self, point: int) -> int:
        return max((time for time in self._snapshots if time <= point), default=0)

    def resumable(self, now: Snapshot) -> Snapshot:
        """Return what to save: the run at the latest snapshot that its open windows allow."""
        oldest = self._oldest()
        time = oldest if oldest == self.time else self._snapshot_before(oldest)
        tensors, values = now if time == self.time else self._snapshots[time]
        if self.time:
            self.kept["last"].copy_(self.ring[(self.time - 1) % self.plan.length])
        mine = {f"{PREFIX}{name}": tensor for name, tensor in self.kept.items()}
        seen = max(self.time, self.seen)
        return tensors | mine, values | {"recorded": [time, self.done, seen]}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        for name, tensor in self.kept.items():
            tensor.copy_(tensors[f"{PREFIX}{name}"])
        self.time, self.done, self.seen = values["recorded"]
        self.ring[(self.time - 1) % self.plan.length] = self.kept["last"]

    def arrays(self, rates: list[float]) -> dict[str, Array]:
        """Return what was recorded, for the training record.

        Args:
            rates: Learning rate of each epoch that was run.
        """
        steps = max(self.time - 1, 0)
        cut = {"projection": self.time, "distance": self.time}
        cut |= {"gram": self.done, "layer_weight": self.done}
        found = {
            name: tensor[: cut.get(name, steps)].cpu().numpy()
            for name, tensor in self.kept.items()
            if name in WHAT
        }
        found["gram"] = np.triu(found["gram"])
        found["rate"] = np.repeat(rates, steps // max(len(rates), 1))
        found["window"] = np.array(self.windows[: self.done], dtype=np.int64).reshape(-1, 2)
        return {f"path_{name}": Array(found[name], *WHAT[name]) for name in found}


# Name -> axes, unit and description of what is recorded.
WHAT: dict[str, tuple[tuple[str, ...], str, str]] = {
    "loss": (("step", "replica"), "nat", "mini-batch loss before each step"),
    "step": (("step", "replica"), "", "squared length of each step"),
    "distance": (("point", "replica"), "", "squared distance from the initial weights"),
    "layer_gradient": (("step", "replica", "tensor"), "", "squared norms of the gradient"),
    "gradient": (("step", "replica", "entry"), "", "some entries of the gradient"),
    "projection": (("point", "replica", "k"), "", "random projection of w_t - w_0"),
    "layer_weight": (("window", "replica", "tensor"), "", "norms at the last point of a window"),
    "gram": (
        ("window", "replica", "point", "point"),
        "",
        "upper triangle of <w_s - w_first, w_t - w_first>",
    ),
    "rate": (("step",), "", "learning rate"),
    "window": (("window", "first and end"), "point", "windows; the end is not included"),
}


def gram_of_ring(ring: Tensor, first: int) -> Tensor:
    """Return the inner products (T, T), float64, of the points of a ring relative to its first.

    Args:
        ring: (T, P); point t lies in row t mod T.
        first: The first point.
    """
    length, size = ring.shape
    order = (first + torch.arange(length, device=ring.device)) % length
    gram = torch.zeros(length, length, dtype=torch.float64, device=ring.device)
    width = max(_CHUNK // length, 1)
    for start in range(0, size, width):
        points = ring[:, start : start + width].double()
        points -= points[first % length].clone()
        gram.addmm_(points, points.T)
    return gram[order][:, order]


def _by_tensor(values: Tensor, sizes: list[int]) -> Tensor:
    """Sum (G, P) over each parameter tensor: (G, tensors)."""
    return torch.stack([part.sum(1) for part in values.split(sizes, dim=1)], 1)
