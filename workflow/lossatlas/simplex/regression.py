"""Regression in one dimension: how sure ensembles are without data (Benton et al., 2021, 6.1).

Simplexes grown from several modes, the modes themselves, and the posterior in the plane of a curve
between two of them (subspace inference: Izmailov et al., 2020), over the same modes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lossatlas.connectivity.fit import CurveFit
from lossatlas.data.tensors import Split, repeated
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.metrics.spro import Spro
from lossatlas.models.functional import Functional, Tensors
from lossatlas.models.mlp import MLP
from lossatlas.simplex import sampling
from lossatlas.simplex.complexes import grown as grown_from
from lossatlas.simplex.points import named, rows
from lossatlas.simplex.spro import grow
from lossatlas.spec.parts import Recipe
from lossatlas.store import Record, Rows, Table
from lossatlas.tasks.values import Regression
from lossatlas.training.engine import Engine
from lossatlas.training.seeds import generator

REPEATS, MODES, VERTICES, DRAWS = 3, 4, 3, 20
CLUSTERS = ((-0.9, -0.5), (0.3, 0.8))  # where there are data
PER_CLUSTER, NOISE = 30, 0.05
ENDS, PLACES = 1.8, 181  # where predictions are looked at: -ENDS to ENDS
GRID, REACH = 41, 2.0  # points along each side of the plane of a curve; its half width, in lengths
ONCE = 2 * PER_CLUSTER  # all data are one batch
TEMPERATURE = ONCE / 2  # the plane has 2 dimensions
BASE = Recipe(
    epochs=1000,
    batch_size=ONCE,
    learning_rate=0.01,
    optimiser="adam",
    momentum=0.0,
    weight_decay=0.0,
    cosine=True,
)
GROW = Spro(
    epochs=200,
    batch_size=ONCE,
    learning_rate=0.01,
    optimiser="adam",
    weight_decay=0.0,
    regularisation=1e-3,
)
CURVE = Connectivity(
    epochs=400, batch_size=ONCE, learning_rate=0.01, optimiser="adam", weight_decay=0.0
)
METHODS = ("deep ensemble", "simplexes", "curve subspace")


def truth(x: np.ndarray) -> np.ndarray:
    """Return the function that the data are drawn from."""
    return np.asarray(x + 0.3 * np.sin(2 * np.pi * x) + 0.3 * np.sin(4 * np.pi * x))


def data(draw: torch.Generator) -> Split:
    """Draw (ONCE, 1) places in the clusters, and noisy values."""
    u = torch.rand(len(CLUSTERS), PER_CLUSTER, generator=draw, dtype=torch.float64)
    ends = torch.tensor(CLUSTERS, dtype=torch.float64)
    x = (ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * u).flatten()
    noise = NOISE * torch.randn(len(x), generator=draw, dtype=torch.float64)
    y = torch.from_numpy(truth(x.numpy())) + noise
    return Split(x.float()[:, None], y.float()[:, None], task=Regression())


@dataclass(frozen=True)
class Toy:
    """The data of one repeat and the modes trained on them."""

    repeat: int
    train: Split
    functional: Functional
    modes: Tensor
    states: list[tuple[Tensors, Tensors]]

    @classmethod
    def trained(cls, repeat: int) -> Toy:
        """Train the modes of a repeat."""
        train = data(generator("regression data", repeat))
        network = partial(MLP, num_classes=1, in_channels=1, image_size=1, width=32, depth=2)
        seeds = [repeat * MODES + number for number in range(MODES)]
        engine = Engine(network, BASE, seeds, train)
        params, buffers = engine.train().checkpoints["final"]
        states = [
            ({n: t[i] for n, t in params.items()}, {n: t[i] for n, t in buffers.items()})
            for i in range(MODES)
        ]
        points = rows(params, engine.functional.shapes)
        return cls(repeat, train, engine.functional, points, states)

    def predict(self, points: Tensor, x: np.ndarray) -> np.ndarray:
        """Return predictions (G, N) of points (G, P) at places (N,), float64."""
        places = torch.from_numpy(x).float()[:, None]
        params = named(points, self.functional.shapes)
        with torch.no_grad():
            outputs = self.functional.many(params, {}, repeated(places, len(points)), train=False)
        return outputs[:, :, 0].double().numpy()

    def simplexes(self) -> Tensor:
        """Return networks (MODES * DRAWS, P) drawn from a simplex grown from each mode."""
        found = []
        for index, mode in enumerate(self.modes):
            seed, none = self.repeat * MODES + index, self.states[index][1]
            plan = grown_from(seed, VERTICES)
            grown = grow(
                self.functional, none, mode[None], self.train, plan, GROW, None, ("toy", seed)
            )
            weights = sampling.uniform(DRAWS, VERTICES + 1, generator("toy draws", seed))
            found.append(weights.to(mode.dtype) @ grown.vertices)
        return torch.cat(found)

    def curve(self) -> Tensor:
        """Return the control points (3, P) of a curve between the first two modes."""
        one, other = self.states[:2]
        fit = CurveFit(self.functional, [one], [other], self.train, CURVE, [("toy", self.repeat)])
        return fit.run()[0].controls

    def plane(self) -> tuple[Tensor, np.ndarray]:
        """Return a grid of networks (G, P) in the plane of the curve, and their posterior (G,).

        The prior is the normal law of the curve's own size around its middle; the likelihood is
        that of the noise, at temperature `TEMPERATURE`.
        """
        controls = self.curve().double()
        middle = controls.mean(0)
        basis = torch.linalg.qr((controls[1:] - controls[0]).T).Q.T
        reach = float(((controls - middle) @ basis.T).abs().max())
        line = torch.linspace(-REACH, REACH, GRID, dtype=torch.float64)
        places = torch.cartesian_prod(line, line)
        points = (middle + reach * places @ basis).to(self.modes.dtype)
        x = self.train.tensor[:, 0].double().numpy()
        misses = self.predict(points, x) - self.train.labels[:, 0].double().numpy()
        likelihood = -np.square(misses).sum(axis=1) / (2 * NOISE**2 * TEMPERATURE)
        log = likelihood - 0.5 * places.square().sum(1).numpy()
        return points, np.exp(log - np.logaddexp.reduce(log))


def bands(predictions: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Return mean and standard deviation (N,) over networks (G, N), weighted (G,) or equally."""
    shares = np.full(len(predictions), 1 / len(predictions)) if weights is None else weights
    mean = shares @ predictions
    return mean, np.sqrt(shares @ np.square(predictions - mean))


def _nll(split: Split, mean: np.ndarray, sd: np.ndarray) -> float:
    """Return the mean NLL (nats) of values under normal laws with the noise added."""
    variance = sd**2 + NOISE**2
    misses = split.labels[:, 0].double().numpy() - mean
    return float(np.mean(0.5 * np.log(2 * math.pi * variance) + misses**2 / (2 * variance)))


def study() -> Record:
    """Train modes, simplexes and a curve on data of two clusters, several times.

    Returns:
        A record with tables: `summary`, a row per repeat and method (see `METHODS`): train_loss
        (mean squared error of its networks, weighted as the method does), test_nll (nats, of new
        data in the clusters), and the standard deviation of predictions in the clusters
        (sd_inside), between them (sd_between) and beyond them (sd_outside), means over places. Of
        the first repeat `data` (x, y), and `bands`: method, x, mean, sd and the true value.
    """
    record, summary, shown = Record("regression"), Rows(), Rows()
    x = np.linspace(-ENDS, ENDS, PLACES)
    for repeat in range(REPEATS):
        toy = Toy.trained(repeat)
        plane, posterior = toy.plane()
        for method, (points, weights) in enumerate(
            ((toy.modes, None), (toy.simplexes(), None), (plane, posterior))
        ):
            mean, sd = bands(toy.predict(points, x), weights)
            summary.add(
                repeat=float(repeat), method=float(method), **_says(toy, points, weights, x, sd)
            )
            if not repeat:
                for place, m, s, y in zip(x, mean, sd, truth(x), strict=True):
                    shown.add(method=float(method), x=place, mean=m, sd=s, truth=y)
        if not repeat:
            columns = {"x": toy.train.tensor[:, 0].numpy(), "y": toy.train.labels[:, 0].numpy()}
            record.tables.append(Table("data", columns))
    record.tables += [*summary.tables("summary"), *shown.tables("bands")]
    return record


def _says(
    toy: Toy, points: Tensor, weights: np.ndarray | None, x: np.ndarray, sd: np.ndarray
) -> dict[str, float]:
    """Return what `summary` has of a method."""
    own = toy.train.tensor[:, 0].double().numpy()
    misses = toy.predict(points, own) - toy.train.labels[:, 0].double().numpy()
    each = np.square(misses).mean(axis=1)
    test = data(generator("regression test data", toy.repeat))
    place = [(x >= low) & (x <= high) for low, high in CLUSTERS]
    between = (x > CLUSTERS[0][1]) & (x < CLUSTERS[1][0])
    outside = (x < CLUSTERS[0][0]) | (x > CLUSTERS[1][1])
    return {
        "train_loss": float(np.average(each, weights=weights)),
        "test_nll": _nll(
            test, *bands(toy.predict(points, test.tensor[:, 0].double().numpy()), weights)
        ),
        "sd_inside": float(sd[place[0] | place[1]].mean()),
        "sd_between": float(sd[between].mean()),
        "sd_outside": float(sd[outside].mean()),
    }
