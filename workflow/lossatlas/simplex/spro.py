"""Trains the vertices of a complex, one after another (SPRO: Benton et al., 2021, algorithm 1).

Vertices are vectors (P,). Only the newest has a gradient: at a point phi = c theta + sum c_i v_i it
is c times the gradient at phi, so any module serves, without layers of its own for simplexes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lossatlas.data.augment import augmented_batch
from lossatlas.data.tensors import Split, repeated
from lossatlas.errors import UserError
from lossatlas.metrics.spro import Spro
from lossatlas.models.functional import Functional, Tensors, unflatten
from lossatlas.models.layout import fast
from lossatlas.models.outputs import check_outputs, outputs_of
from lossatlas.progress import advance, counted
from lossatlas.simplex import sampling
from lossatlas.simplex.complexes import Complex, check_dimension
from lossatlas.simplex.points import group_size, named
from lossatlas.simplex.strength import strength
from lossatlas.simplex.volume_term import Heights, VolumeTerm
from lossatlas.training.optimisers import Plain, decay, optimiser_of
from lossatlas.training.seeds import generator, seed_default
from lossatlas.training.state import State


@dataclass
class Grown:
    """A trained complex.

    Attributes:
        vertices: (V, P): the modes, then the connectors that were trained.
        losses: Mean training loss of the last epoch of each connector, without the volume term.
        strengths: Strength of the volume term of each connector.
        diverged: Whether training a connector ended in numbers that are not finite; the connector
            and those after it are missing.
    """

    vertices: Tensor
    losses: list[float] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)
    diverged: bool = False


def grow(
    functional: Functional,
    buffers: Tensors,
    modes: Tensor,
    split: Split,
    plan: Complex,
    settings: Spro,
    state: State | None = None,
    words: Sequence[object] = (),
) -> Grown:
    """Train all connectors of a complex.

    Parameters that the module does not train stay at the mean of the vertices that a new one joins.
    A finished connector is never touched again: with the same words, a complex of more connectors
    begins with the same ones, and takes those that `state` keeps.

    Args:
        functional: The network.
        buffers: Of one network; training works on copies.
        modes: (m, P), in the order of `plan.modes`; never moved.
        split: Training images and labels, on the device to train on.
        plan: The complex.
        settings: How to train.
        state: Where unfinished work and finished vertices are kept and found.
        words: What the random numbers are named after, besides `settings.seed`.

    Raises:
        UserError: If two modes are the same point, a mode is not finite, a simplex has more
            dimensions than there are parameters, or outputs are not those of the task.
        Preempted: If a signal asked the job to leave; the state has been saved.
    """
    _check(functional, buffers, modes, split, plan)
    split = replace(split, images=fast(split.images, functional))
    grown, run = Grown(modes), state or State(None, "")
    key = _key(modes, settings, words)
    for connector in range(plan.connectors):
        key = _digest(f"{key}:{plan.around(connector)}")
        kept = run.finished(key)
        found = kept.load(modes.device)
        if found is None:
            name = (*words, settings.seed, connector)
            vertex = _Vertex(functional, buffers, grown, split, plan, connector, settings, name)
            vertex.resume(run.load(modes.device), key)
            vertex.train(run)
            if not torch.isfinite(vertex.theta).all():
                grown.diverged = True
                break
            found = {"theta": vertex.theta}, vertex.summary()
            kept.save(*found)
        tensors, numbers = found
        grown.vertices = torch.cat([grown.vertices, tensors["theta"][None]])
        grown.losses.append(numbers["loss"])
        grown.strengths.append(numbers["strength"])
    return grown


def _key(modes: Tensor, settings: Spro, words: Sequence[object]) -> str:
    """Name all that the vertices of a complex depend on, but for the complex."""
    asked = settings.model_dump(include=set(Spro.model_fields) - {"checkpoint"})
    points = hashlib.sha256(modes.cpu().numpy().tobytes()).hexdigest()
    return _digest(json.dumps([points, len(modes), asked, list(map(str, words))], sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check(
    functional: Functional, buffers: Tensors, modes: Tensor, split: Split, plan: Complex
) -> None:
    if len(modes) != len(plan.modes):
        raise ValueError(f"{len(modes)} modes for a complex of {len(plan.modes)}")
    check_dimension(plan, modes.shape[1])
    check_modes(modes, plan.modes)
    first = unflatten(modes[0], functional.shapes)
    check_outputs(functional, first, buffers, split, outputs_of(split), train=True)


def check_modes(modes: Tensor, seeds: Sequence[int]) -> None:
    """Refuse modes (m, P) that are not m finite points.

    Raises:
        UserError: If one is not finite, or two are the same point.
    """
    for i, seed in enumerate(seeds):
        if not torch.isfinite(modes[i]).all():
            raise UserError(f"mode w{seed} has diverged", where="simplex", fix="leave it out")
        for j in range(i):
            if torch.equal(modes[i], modes[j]):
                what = f"modes w{seeds[j]} and w{seed} are the same point"
                raise UserError(what, where="simplex", fix="use replicas of different seeds")


class _Vertex:
    """One connector while it is trained."""

    def __init__(
        self,
        functional: Functional,
        buffers: Tensors,
        grown: Grown,
        split: Split,
        plan: Complex,
        connector: int,
        settings: Spro,
        words: tuple[object, ...],
    ) -> None:
        self.functional, self.buffers, self.split = functional, buffers, split
        self.settings, self.words, self.key = settings, words, ""
        self.frozen = grown.vertices
        self.simplexes = plan.around(connector)
        self.still = functional.untrained(grown.vertices.device)
        self.theta = self._start()
        self.optimiser = optimiser_of(Plain.of(settings), self.theta)
        self.volume = VolumeTerm(
            self.frozen, self.simplexes, strength(functional, plan, connector, settings), settings
        )
        self.epoch, self.step, self.loss = 0, 0, math.nan
        self.total = torch.zeros((), dtype=torch.float64, device=self.theta.device)
        self.batch = min(settings.batch_size, len(split))
        self.steps, left = divmod(len(split), self.batch)
        if settings.mode == "paper" and left > 1:  # the authors keep an epoch's last batch
            self.steps += 1

    def _start(self) -> Tensor:
        """Return the mean of the vertices that the new one joins.

        Where all volumes are 0 there (as in a single simplex) log V has no gradient; mode "fixed"
        therefore starts a small random step aside.
        """
        joined = sorted({v for simplex in self.simplexes for v in simplex})
        mean = self.frozen[[v for v in joined if v < len(self.frozen)]].mean(0)
        if self.settings.mode == "paper" or not self.settings.jitter:
            return mean
        noise = torch.randn(mean.shape, generator=generator("jitter", *self.words)).to(mean.device)
        if self.still is not None:
            noise.masked_fill_(self.still, 0.0)
        length = self.settings.jitter * torch.linalg.vector_norm(mean)
        return mean + noise * (length / torch.linalg.vector_norm(noise))

    def train(self, state: State) -> None:
        """Train to the end, or until numbers are not finite."""
        settings, device = self.settings, self.theta.device
        what = f"connector {len(self.frozen)}"
        left = (settings.epochs - self.epoch) * self.steps - self.step
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), counted(what, left, "steps"):
            while self.epoch < settings.epochs and torch.isfinite(self.theta).all():
                share = self.epoch / settings.epochs
                self._epoch(settings.learning_rate * 0.5 * (1 + math.cos(math.pi * share)), state)
                self.loss = float(self.total) / self.steps
                self.epoch, self.step = self.epoch + 1, 0
                self.total.zero_()

    def _epoch(self, rate: float, state: State) -> None:
        draw = generator("spro", *self.words, self.epoch)
        order = torch.randperm(len(self.split), generator=draw).to(self.theta.device)
        for step, index in enumerate(order.split(self.batch)[: self.steps]):
            # The generator serves the epoch: draws come in order, used or not.
            past = step < self.step
            heights = [] if past else self.volume.heights(self.theta)
            weights = self._weights(draw, None if past else heights)
            if past:
                continue
            seed_default(self.theta.device, "noise", *self.words, self.epoch, step)  # for dropout
            name = ("spro", *self.words, self.epoch, step)
            batch = augmented_batch(self.split.take(index), name)
            self._move(weights, heights, batch, rate)
            self.step = step + 1
            advance("steps")
            if state.due():
                state.save(self._tensors(), self._values())

    def _weights(self, draw: torch.Generator, heights: Heights | None) -> Tensor:
        """Return barycentric weights (S, V) of a step's points; of a past step, any."""
        count = len(self.simplexes)
        equal = heights is None or count == 1 or self.settings.mode == "paper"
        logs = [0.0] * count if equal else self.volume.log_volumes(heights or [])
        return sampling.in_complex(
            self.simplexes,
            sampling.shares(logs),
            self.settings.samples,
            len(self.frozen) + 1,
            draw,
        )

    def _move(self, weights: Tensor, heights: Heights, batch: Split, rate: float) -> None:
        """One step of the optimiser, with L2, on the new vertex."""
        settings = self.settings
        loss, gradient = loss_and_gradient(
            self.functional, self.buffers, self.frozen, self.theta, weights, batch
        )
        if settings.mode == "paper":  # the authors' code sums where the paper averages
            gradient *= settings.samples
        gradient.add_(self.theta, alpha=decay(settings, self.optimiser))
        self.volume.add_gradient(heights, gradient)
        if self.still is not None:
            gradient.masked_fill_(self.still, 0.0)
        self.optimiser.step(self.theta, gradient, rate)
        self.total += loss  # the host reads it once in an epoch

    def _tensors(self) -> dict[str, Tensor]:
        return {"theta": self.theta, "total": self.total, **self.optimiser.state()}

    def _values(self) -> dict[str, object]:
        numbers = {"epoch": self.epoch, "step": self.step, "loss": self.loss}
        return {"vertex": self.key, **numbers}

    def summary(self) -> dict[str, float]:
        """Return the mean training loss of the last epoch, and the strength of the volume term."""
        return {"loss": self.loss, "strength": self.volume.strength}

    def resume(self, found: tuple[dict[str, Tensor], dict[str, Any]] | None, key: str) -> None:
        """Go on from a state, if it is that of the vertex named by `key`."""
        self.key = key
        tensors, values = found or ({}, {})
        if values.get("vertex") != key:
            return
        self.theta, self.total = tensors["theta"].clone(), tensors["total"].clone()
        self.optimiser.load(tensors)
        for name in ("epoch", "step", "loss"):
            setattr(self, name, values[name])


def loss_and_gradient(
    functional: Functional,
    buffers: Tensors,
    frozen: Tensor,
    theta: Tensor,
    weights: Tensor,
    batch: Split,
) -> tuple[Tensor, Tensor]:
    """Return the mean loss over points of a complex, and its gradient for the newest vertex.

    Points of a small network go through one vectorised pass, those of a large one follow each
    other, so that only one graph is held.

    Args:
        functional: The network; it is called in training mode.
        buffers: Of one network; BatchNorm statistics are updated in copies that are thrown away.
        frozen: (V, P) the vertices that do not move.
        theta: (P,) the one that does.
        weights: Barycentric (S, V + 1), the last column that of `theta`.
        batch: Examples.

    Returns:
        Mean loss, a scalar, float64, and the gradient (P,) of the mean over the S points.
    """
    with torch.no_grad():
        coefficients = weights.to(theta.device, theta.dtype)
        gradient = torch.zeros_like(theta)
        parts = gradient.split([shape.numel() for shape in functional.shapes.values()])
        losses: list[Tensor] = []
    size = group_size(functional, batch.images)
    for some in coefficients.split(size):
        with torch.no_grad():
            points = some[:, :-1] @ frozen
            points.addcmul_(some[:, -1:], theta[None])
        loss, slopes = _point_gradients(functional, buffers, points, batch)
        losses.append(loss)
        for part, slope in zip(parts, slopes, strict=True):
            part.addmv_(slope.T, some[:, -1])
    return torch.cat(losses).double().mean(), gradient.div_(len(weights))


def _point_gradients(
    functional: Functional, buffers: Tensors, points: Tensor, batch: Split
) -> tuple[Tensor, list[Tensor]]:
    """Return losses (G,) and, one (G, p) for each of the parameters, gradients at points (G, P)."""
    count = len(points)
    if count == 1:
        leaves = {n: t.requires_grad_() for n, t in unflatten(points[0], functional.shapes).items()}
        own = {name: b.clone() for name, b in buffers.items()}
        outputs = functional(leaves, own, batch.images, train=True)
        losses = batch.task.mean(outputs, batch.labels)[None]
    else:
        leaves = {n: t.requires_grad_() for n, t in named(points, functional.shapes).items()}
        own = {name: b.expand(count, *b.shape).clone() for name, b in buffers.items()}
        outputs = functional.many(leaves, own, repeated(batch.images, count), train=True)
        losses = batch.task.means(outputs, batch.labels.expand(count, *batch.labels.shape))
    pieces = torch.autograd.grad(
        losses.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    with torch.no_grad():
        return losses.detach(), [piece.reshape(count, -1) for piece in pieces]
