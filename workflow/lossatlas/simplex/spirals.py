"""Two spirals: one simplex grown from one mode, small enough to see (Benton et al., 2021, 5.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lossatlas.data.tensors import Split
from lossatlas.metrics.spro import Spro
from lossatlas.models.functional import Functional, Tensors, flatten, state_of
from lossatlas.models.mlp import MLP
from lossatlas.similarity import predictions
from lossatlas.simplex import ensembles, planes, sampling
from lossatlas.simplex.complexes import Vertex
from lossatlas.simplex.geometry import shape_of
from lossatlas.simplex.points import log_probs, loss_and_error
from lossatlas.simplex.spro import loss_and_gradient
from lossatlas.simplex.strength import random_squared_edge, rule
from lossatlas.simplex.volume_term import VolumeTerm
from lossatlas.store import Record, Rows, Table
from lossatlas.training.engine import initialise
from lossatlas.training.seeds import generator

SEEDS = 5
VERTICES = 3
BASE_STEPS, VERTEX_STEPS, RATE, WEIGHT_DECAY, SAMPLES = 200, 100, 0.01, 1e-4, 5
CONVERGED = 0.05  # training loss of a base that counts; others are replaced by the next seed
MEMBERS = 100
STRENGTHS = (0.0, 3.0)  # the notebook derives strengths from 3, and then trains with 0
FACES = ((0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3))


class Binary(MLP):
    """A network with one output z as one of two classes: cross entropy of logits (0, z)."""

    def __init__(self) -> None:
        super().__init__(num_classes=1, in_channels=2, image_size=1, width=25, depth=7)

    def forward(self, x: Tensor) -> Tensor:
        """Map points (N, 2, 1, 1) to logits (N, 2)."""
        z = super().forward(x)
        return torch.cat([torch.zeros_like(z), z], 1)


def spirals(count: int, draw: torch.Generator, noise: float = 1.0) -> Split:
    """Draw `count` points of each of two spirals; the second mirrors the first, noise and all."""
    r = torch.rand(count, generator=draw).sqrt() * 600 * 2 * math.pi / 360
    turns = torch.stack([-1.5 * r.cos() * r, 1.5 * r.sin() * r], 1)
    first = turns + noise * torch.randn(count, 2, generator=draw)
    labels = torch.arange(2).repeat_interleave(count)
    return Split(torch.cat([first, -first])[:, :, None, None], labels)


class Adam:
    """Adam (Kingma & Ba, 2015) with L2 on one vector, as torch.optim.Adam defines it."""

    def __init__(self, theta: Tensor) -> None:
        self.theta, self.first, self.second = theta, theta * 0, theta * 0
        self.step = 0

    def move(self, gradient: Tensor) -> None:
        """Take one step, in place."""
        gradient = gradient + WEIGHT_DECAY * self.theta
        self.step += 1
        self.first.lerp_(gradient, 0.1)
        self.second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        root = (self.second / (1 - 0.999**self.step)).sqrt_().add_(1e-8)
        self.theta.addcdiv_(self.first, root, value=-RATE / (1 - 0.9**self.step))


@dataclass(frozen=True)
class Toy:
    """The network and the data of one seed."""

    functional: Functional
    train: Split
    test: Split
    seed: int

    def base(self) -> Tensor:
        """Train the first vertex (P,)."""
        optimiser = Adam(flatten(state_of(initialise(Binary, self.seed))[0]))
        nothing, alone = optimiser.theta.new_zeros(0, len(optimiser.theta)), torch.ones(1, 1)
        for _ in range(BASE_STEPS):
            optimiser.move(self._gradient(nothing, optimiser.theta, alone))
        return optimiser.theta

    def grow(self, base: Tensor, regularisation: float) -> Tensor:
        """Train three more vertices; return all (4, P)."""
        vertices = base[None]
        for index in range(VERTICES):
            strength = 0.0
            if regularisation:
                edge = random_squared_edge(self.functional.module)
                strength = rule(regularisation, edge, len(vertices))
            simplex = tuple(range(len(vertices) + 1))
            term = VolumeTerm(vertices, [simplex], strength, Spro(mode="paper"))
            optimiser = Adam(vertices.mean(0))
            draw = generator("spirals", self.seed, index)
            for _ in range(VERTEX_STEPS):
                weights = sampling.uniform(SAMPLES, len(simplex), draw)
                gradient = self._gradient(vertices, optimiser.theta, weights) * SAMPLES
                term.add_gradient(term.heights(optimiser.theta), gradient)
                optimiser.move(gradient)
            vertices = torch.cat([vertices, optimiser.theta[None]])
        return vertices

    def _gradient(self, frozen: Tensor, theta: Tensor, weights: Tensor) -> Tensor:
        none: Tensors = {}
        return loss_and_gradient(self.functional, none, frozen, theta, weights, self.train)[1]

    def logs(self, points: Tensor, where: Tensor) -> np.ndarray:
        """Return log-probabilities (G, N, 2) of points (G, P) at places (N, 2, 1, 1)."""
        return log_probs(self.functional, points, [{} for _ in points], where).numpy()

    def losses(self, points: Tensor) -> Tensor:
        """Return mean training losses (G,) of points (G, P), in nats."""
        return loss_and_error(self.functional, points, [{} for _ in points], self.train)[0]


def study() -> Record:
    """Run the notebook over several seeds.

    Returns:
        A record with tables: `summary`, a row per seed and strength with the training
        loss of samples (nats; mean and largest of 100), test NLL of the base, of samples (mean), of
        the mean probability and of the softmax of the mean logit, accuracies (percent),
        disagreement (percent) and V^2 for 1, 2 and 3 dimensions. Of the first seed with strength 0
        also `data`, `fields` (class probability over the plane: five samples and the ensemble), and
        the four faces, as in the metric `simplex`.
    """
    record, summary = Record("two_spirals"), Rows()
    seed = found = 0
    while found < SEEDS:
        data = [spirals(n, generator("spirals", seed, n)) for n in (50, 100)]
        toy = Toy(Functional(Binary()), data[0], data[1], seed)
        base = toy.base()
        loss = float(toy.losses(base[None]))
        seed += 1
        if loss >= CONVERGED:
            continue
        for regularisation in STRENGTHS:
            vertices = toy.grow(base, regularisation)
            _summarise(summary, toy, vertices, regularisation)
            if not found and not regularisation:
                record.tables += _pictures(toy, vertices)
        found += 1
    record.tables += summary.tables("summary")
    return record


def _points(toy: Toy, vertices: Tensor, count: int) -> Tensor:
    draw = generator("spiral samples", toy.seed)
    return sampling.uniform(count, len(vertices), draw).float() @ vertices


def _summarise(summary: Rows, toy: Toy, vertices: Tensor, regularisation: float) -> None:
    points = _points(toy, vertices, MEMBERS)
    labels = toy.test.labels.numpy()
    train = toy.losses(points)
    base = toy.logs(vertices[:1], toy.test.tensor)[0]
    members = toy.logs(points, toy.test.tensor)
    mixed = ensembles.mixture(members)
    logits = predictions.log_softmax(members.astype(np.float64).mean(0))
    squared = [math.exp(2 * shape_of(vertices[:n]).log_volume) for n in (2, 3, 4)]
    summary.add(
        seed=toy.seed,
        regularisation=regularisation,
        train_loss=float(train.mean()),
        train_loss_max=float(train.max()),
        nll_base=predictions.nll(base, labels),
        nll_sample=float(np.mean([predictions.nll(one, labels) for one in members])),
        nll_ensemble=predictions.nll(mixed, labels),
        nll_logits=predictions.nll(logits, labels),
        accuracy_base=predictions.accuracy(base, labels),
        accuracy_ensemble=predictions.accuracy(mixed, labels),
        disagreement=ensembles.diversity(members),
        **{f"squared_volume_{n}": v for n, v in enumerate(squared, 1)},
    )


def _pictures(toy: Toy, vertices: Tensor) -> list[Table]:
    """Return data, decision fields and faces."""
    xy = toy.train.tensor[:, :, 0, 0].numpy()
    points = {"x": xy[:, 0], "y": xy[:, 1], "label": toy.train.labels.numpy()}
    edge = np.abs(xy).max() + 3.0
    line = np.linspace(-edge, edge, 61)
    x, y = (grid.ravel() for grid in np.meshgrid(line, line))
    places = torch.from_numpy(np.stack([x, y], 1)).float()[:, :, None, None]
    logs = toy.logs(_points(toy, vertices, MEMBERS), places)
    fields = {f"sample{i}": np.exp(logs[i, :, 1]) for i in range(5)}
    fields["ensemble"] = np.exp(ensembles.mixture(logs)[:, 1])
    found = [Table("data", points), Table("fields", {"x": x, "y": y, **fields})]
    for face in FACES:
        corners = vertices[list(face)]
        plane = planes.raster(corners, 21)
        loss, error = planes.evaluate(toy.functional, corners, plane.weights, {}, toy.train)
        found += planes.tables([Vertex(True, v) for v in face], plane, loss, error)
    return found
