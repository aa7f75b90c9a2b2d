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

from lossatlas.spec.parts import Recipe, Recording
from lossatlas.store import Array
from lossatlas.training.seeds import generator

Snapshot = tuple[dict[str, Tensor], dict[str, Any]]
PREFIX = "record/"  # of our tensors in the resume state
_CHUNK = 2**23  # numbers of a ring that are in float64 at a time
_BLOCKS = 8  # of rows of a Gram matrix: 9/16 of its products are made


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
        epochs: Most epochs of the run.
        flat: (G, P) initial weights, on the device.
        buffers: Name -> (G, ...) initial buffers, which are kept beside the weights.
        sizes: Parameters of each tensor, in the order of the columns.
        resumes: Whether the run may be saved and resumed.
    """

    def __init__(
        self,
        plan: Recording,
        steps: int,
        epochs: int,
        flat: Tensor,
        buffers: Mapping[str, Tensor],
        sizes: list[int],
        *,
        resumes: bool = True,
    ) -> None:
        self.plan, self.sizes, self.resumes = plan, sizes, resumes
        count, size = flat.shape
        entries, device = min(plan.gradients, size), flat.device
        picked = torch.randperm(size, generator=generator("gradients", plan.seed))[:entries]
        self.picked = picked.sort().values.to(device)
        drawn = generator("reservoir", plan.seed)
        self.drawn = torch.randint(size, (steps, plan.reservoir), generator=drawn).to(device)
        self.epochs = plan.kept_epochs(epochs)
        self.extra = sum(buffer[0].numel() for buffer in buffers.values())
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
            "reservoir": table(steps, count, plan.reservoir, dtype=torch.float32),
            "after": table(_strided(steps, plan.after), count),
            "whole": table(_strided(steps + 1, plan.whole), count),
            "sums": table(steps + 1, count, 3),
            "projection": table(steps + 1, count, plan.projection, dtype=torch.float32),
            "layer_weight": table(len(self.windows), count, len(sizes)),
            # gigabytes that nothing is computed from here: not on the device
            "gram": torch.zeros(
                len(self.windows), count, plan.length, plan.length, dtype=torch.float64
            ),
            "weights": table(len(self.epochs), count, size, dtype=flat.dtype),
            "buffers": table(len(self.epochs), count, self.extra),
        }
        self.time, self.done = 0, 0  # points seen; windows finished
        self.reached = 0  # copies of all weights kept
        self.seen = 0  # points seen before the run was resumed: their steps are known
        self._snapshots: dict[int, Snapshot] = {}

    def begin(self, snapshot: Callable[[], Snapshot]) -> None:
        """Before a step: keep the run's state at some starts of windows.

        A run that is resumed goes back to the start of its oldest unfinished window, since the
        ring is not saved. Its steps do not depend on when it was saved, so that what it repeats is
        equal. Windows that this run is too short for count as well: a longer one may fill them.
        """
        since = self.time - self.plan.start
        if not self.resumes or since < 0 or since % self.plan.stride:
            return
        newest = max(self._snapshots, default=None)
        if newest is None or self.time >= newest + max(self.plan.length // 4, 1):
            self._snapshots[self.time] = copy.deepcopy(snapshot())

    def step(self, flat: Tensor, gradient: Tensor, loss: Tensor) -> None:
        """Record weights (G, P) before a step, and gradient (G, P) and loss (G,) there."""
        kept, time = self.kept, self.time
        kept["loss"][time] = loss
        squares = torch.square(gradient)
        kept["layer_gradient"][time] = _by_tensor(squares, self.sizes)
        kept["gradient"][time] = gradient[:, self.picked]
        kept["reservoir"][time] = gradient[:, self.drawn[time]]
        self._point(flat)

    def wants_whole(self) -> bool:
        """Say whether the loss on all images is wanted at the next point."""
        return self.plan.whole > 0 and self.time % self.plan.whole == 0

    def whole(self, loss: Tensor) -> None:
        """Record the loss (G,) on all training images at the next point."""
        self.kept["whole"][self.time // self.plan.whole] = loss

    def wants_after(self) -> bool:
        """Say whether the loss after the step that was made last is wanted."""
        return self.plan.after > 0 and (self.time - 1) % self.plan.after == 0

    def after(self, loss: Tensor) -> None:
        """Record the loss (G,) on its own batch after the step that was made last."""
        self.kept["after"][(self.time - 1) // self.plan.after] = loss

    def keep(self, epoch: int, flat: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Keep all weights and buffers after that many epochs, if they are wanted."""
        if epoch not in self.epochs:
            return
        row = self.epochs.index(epoch)
        self.reached = max(self.reached, row + 1)
        self.kept["weights"][row] = flat
        if self.extra:
            own = [buffer.reshape(len(flat), -1).double() for buffer in buffers.values()]
            self.kept["buffers"][row] = torch.cat(own, 1)

    def snapshots(
        self, epochs: int, buffers: Mapping[str, Tensor]
    ) -> dict[int, tuple[Tensor, dict[str, Tensor]]]:
        """Return epoch -> weights (G, P) and buffers, for the epochs that were reached.

        Args:
            epochs: Epochs that were run.
            buffers: Like those to return.
        """
        found = {}
        sizes = [buffer[0].numel() for buffer in buffers.values()]
        for row, epoch in enumerate(self.epochs):
            if epoch > epochs:
                break
            pieces = self.kept["buffers"][row].split(sizes, dim=1)
            named = zip(buffers.items(), pieces, strict=True)
            own = {name: piece.to(like.dtype).view_as(like) for (name, like), piece in named}
            found[epoch] = (self.kept["weights"][row], own)
        return found

    def finish(self, flat: Tensor) -> None:
        """Record the weights (G, P) after the last step."""
        self._point(flat)

    def _point(self, flat: Tensor) -> None:
        kept, time, length = self.kept, self.time, self.plan.length
        moved = flat - kept["start"]
        kept["distance"][time] = moved.double().square().sum(1)
        wide = flat.double()
        kept["sums"][time] = torch.stack([wide.sum(1), wide.square().sum(1), wide[:, 0]], 1)
        if self.plan.projection:
            kept["projection"][time] = self.project(moved)
        if time > max(self.seen - 1, 0):
            before = self.ring[(time - 1) % length]
            kept["step"][time - 1] = (wide - before).square().sum(1)
        self.ring[time % length] = flat
        self.time += 1
        if self.done < len(self.windows) and self.time == self.windows[self.done][1]:
            self._close(flat)

    def _close(self, flat: Tensor) -> None:
        """Turn the ring into a Gram matrix, unless that was done before the run was resumed."""
        first, _ = self.windows[self.done]
        for replica in range(len(flat)):
            gram = gram_of_ring(self.ring[:, replica], first)
            self.kept["gram"][self.done, replica] = gram.triu()
        squares = _by_tensor(flat.double().square(), self.sizes)
        self.kept["layer_weight"][self.done] = squares.sqrt()
        self.done += 1
        needed = self._snapshot_before(self._oldest(self.time))
        self._snapshots = {t: one for t, one in self._snapshots.items() if t >= needed}

    def _oldest(self, point: int) -> int:
        """Return the first point of the oldest window begun before a point and not finished."""
        return min(self.plan.start + self.done * self.plan.stride, point)

    def _snapshot_before(self, point: int) -> int:
        return max((time for time in self._snapshots if time <= point), default=0)

    def resumable(self, now: Snapshot) -> Snapshot:
        """Return what to save: the run at the latest snapshot that its open windows allow."""
        time, (tensors, values) = self._goes_on(self.time, now)
        if self.time:
            self.kept["last"].copy_(self.ring[(self.time - 1) % self.plan.length])
        seen = max(self.time, self.seen)
        filled = self._filled(seen)
        mine = {f"{PREFIX}{n}": tensor[: filled.get(n)] for n, tensor in self.kept.items()}
        return tensors | mine, values | {"recorded": [time, self.done, seen]}

    def _goes_on(self, point: int, now: Snapshot) -> tuple[int, Snapshot]:
        """Return the point at which a run goes on that has come to `point`, and the run there."""
        oldest = self._oldest(point)
        time = point if oldest == point else self._snapshot_before(oldest)
        return time, now if time == point else self._snapshots[time]

    def end(self, now: Snapshot) -> Snapshot:
        """Return where a longer run goes on, after `finish`; what was recorded is in `arrays`.

        The last point is recorded again by the step that a longer run makes there.
        """
        time, (tensors, values) = self._goes_on(self.time - 1, now)
        return tensors, values | {"recorded": [time, self.done, self.time]}

    def _filled(self, points: int) -> dict[str, int]:
        """Return how many rows of each table hold something after so many points."""
        made = dict.fromkeys(("weights", "buffers"), self.reached)
        made |= dict.fromkeys(("gram", "layer_weight"), self.done)
        strides = {"after": self.plan.after, "whole": self.plan.whole}
        made |= {name: _strided(points, stride) for name, stride in strides.items()}
        each = self.kept.keys() - made.keys() - {"start", "last"}
        return made | dict.fromkeys(each, points)

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from a saved state, or from the end of a shorter run."""
        for name, tensor in self.kept.items():
            saved = tensors.get(f"{PREFIX}{name}", tensor)  # no end has "start" and "last"
            tensor[: len(saved)].copy_(saved)
        self.reached = len(tensors[f"{PREFIX}weights"])
        self.time, self.done, self.seen = values["recorded"]
        self.ring[(self.time - 1) % self.plan.length] = self.kept["last"]

    def arrays(self, recipe: Recipe, rates: list[float]) -> dict[str, Array]:
        """Return what was recorded, for the training record.

        Args:
            recipe: How the run was trained.
            rates: Learning rate of each epoch that was run.
        """
        steps = max(self.time - 1, 0)
        cut = {"projection": self.time, "distance": self.time, "sums": self.time}
        cut |= {"after": _strided(steps, self.plan.after)}
        cut |= {"whole": _strided(self.time, self.plan.whole)}
        cut |= {"gram": self.done, "layer_weight": self.done}
        found = {
            name: tensor[: cut.get(name, steps)].cpu().numpy()
            for name, tensor in self.kept.items()
            if name in WHAT
        }
        ends = np.cumsum(self.sizes)
        drawn = np.searchsorted(ends, self.drawn[:steps].cpu().numpy(), side="right")
        found["reservoir_tensor"] = drawn.astype(np.int32)
        found["size"] = np.array(self.sizes, dtype=np.int64)
        found["rate"] = np.repeat(rates, steps // max(len(rates), 1))
        optimiser = [recipe.momentum, recipe.nesterov, recipe.weight_decay]
        found["optimiser"] = np.array(optimiser, dtype=np.float64)
        found["epoch"] = np.repeat(np.arange(len(rates)), steps // max(len(rates), 1))
        found["stride"] = np.array([self.plan.after, self.plan.whole], dtype=np.int64)
        found["window"] = np.array(self.windows[: self.done], dtype=np.int64).reshape(-1, 2)
        return {f"path_{name}": Array(found[name], *WHAT[name]) for name in found}


# Name -> axes, unit and description of what is recorded.
WHAT: dict[str, tuple[tuple[str, ...], str, str]] = {
    "loss": (("step", "replica"), "nats", "mini-batch loss before each step"),
    "step": (("step", "replica"), "", "squared length of each step"),
    "distance": (("point", "replica"), "", "squared distance from the initial weights"),
    "layer_gradient": (("step", "replica", "tensor"), "", "squared norms of the gradient"),
    "gradient": (("step", "replica", "entry"), "", "some entries of the gradient"),
    "reservoir": (("step", "replica", "entry"), "", "entries of the gradient, others each step"),
    "reservoir_tensor": (("step", "entry"), "", "parameter tensor of each of these entries"),
    "after": (("strided step", "replica"), "nats", "loss after the step, on the same batch"),
    "whole": (("strided point", "replica"), "nats", "loss on all training images, evaluation mode"),
    "stride": (("after and whole",), "step", "from one of these losses to the next; 0: none"),
    "sums": (("point", "replica", "of"), "", "sum, sum of squares and first of the weights"),
    "size": (("tensor",), "", "parameters of each tensor"),
    "projection": (("point", "replica", "k"), "", "random projection of w_t - w_0"),
    "layer_weight": (("window", "replica", "tensor"), "", "norms at the last point of a window"),
    "gram": (
        ("window", "replica", "point", "point"),
        "",
        "upper triangle of <w_s - w_first, w_t - w_first>",
    ),
    "rate": (("step",), "", "learning rate"),
    "epoch": (("step",), "", "epochs done before"),
    "optimiser": (("momentum, nesterov and weight decay",), "", "of SGD"),
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
    width, rows = max(_CHUNK // length, 1), -(-length // _BLOCKS)
    for start in range(0, size, width):
        points = ring[:, start : start + width].double()
        points -= points[first % length].clone()
        for top in range(0, length, rows):  # what is on and above the diagonal
            gram[top : top + rows, top:].addmm_(points[top : top + rows], points[top:].T)
    gram = gram.triu() + gram.triu(1).T
    return gram[order][:, order]


def _strided(count: int, stride: int) -> int:
    """Return how many of `count` places are at multiples of a stride; none at stride 0."""
    return -(-count // stride) if stride else 0


def _by_tensor(values: Tensor, sizes: list[int]) -> Tensor:
    """Sum (G, P) over each parameter tensor: (G, tensors)."""
    return torch.stack([part.sum(1) for part in values.split(sizes, dim=1)], 1)
