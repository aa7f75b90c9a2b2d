"""What the training engine recorded of the path of a replica, read from training records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lossatlas import store
from lossatlas.diffusion.arrays import Array, Ints
from lossatlas.diffusion.gradient_gram import Optimiser, gradient_products, noise_norms
from lossatlas.diffusion.gram import Path, finite_points, path_of_gram
from lossatlas.errors import UserError


@dataclass(frozen=True)
class Recorded:
    """The path of one replica; see `training.recorder`.

    Attributes:
        loss: (S,) mini-batch loss before each step.
        step: (S,) squared step lengths.
        distance: (S + 1,) squared distance of each point from the first.
        layer_gradient: (S, tensors) squared norms of the gradients of each parameter tensor.
        gradient: (S, m) gradients of m parameters.
        projection: (S + 1, k) random projection of the path.
        rate: (S,) learning rate.
        window: (W, 2) first point and end of each window.
        gram: (W, T, T) upper triangles of the inner products in each window.
        layer_weight: (W, tensors) norms of the weights at the last point of each window.
        reservoir: (S, r) entries of the gradient, others at each step.
        reservoir_tensor: (S, r) the parameter tensor that each of them belongs to.
        size: (tensors,) parameters of each tensor.
        after: (A,) loss on its own batch after every `stride[0]`-th step.
        whole: (B,) loss on all training images at every `stride[1]`-th point.
        stride: (2,) see there; 0: none.
        sums: (S + 1, 3) sum, sum of squares and first of the weights.
        epoch: (S,) epoch of each step.
        optimiser: (3,) momentum, whether it is Nesterov's, weight decay.
    """

    loss: Array
    step: Array
    distance: Array
    layer_gradient: Array
    gradient: Array
    projection: Array
    rate: Array
    window: Ints
    gram: Array
    layer_weight: Array
    reservoir: Array
    reservoir_tensor: Ints
    size: Ints
    after: Array
    whole: Array
    stride: Ints
    sums: Array
    epoch: Ints
    optimiser: Array

    def path(self, index: int) -> Path | None:
        """Return the path in a window; None if the run diverged in it."""
        upper = self.gram[index]
        first, end = self.window[index]
        if finite_points(upper) < len(upper) or not np.isfinite(self.loss[first:end]).all():
            return None
        return path_of_gram(upper + np.triu(upper, 1).T, self.step[first : end - 1])

    def paper_from_start(self, first: int, end: int) -> Array:
        """Return `msd.paper_msd_from_start` of the points from `first` up to `end`.

        sum_p (x_p - x_0)^2 = |x|^2 - 2 x_0 sum_p x_p + P x_0^2, x_0 being the first parameter.
        """
        total, squares, one = self.sums[first:end].T
        return squares - 2 * one * total + self.size.sum() * one**2

    def noise_norms(self, index: int) -> Array:
        """Return the norms of gradient noise in a window; see `gradient_gram.noise_norms`.

        Steps whose gradient cannot be told from the path are left out; none is where the run
        diverged.
        """
        path = self.path(index)
        if path is None:
            return np.empty(0)
        first, end = self.window[index]
        steps = slice(first, end - 1)
        momentum, nesterov, decay = self.optimiser.tolist()
        optimiser = Optimiser(momentum, bool(nesterov), decay)
        products, known = gradient_products(
            path, self.rate[steps], optimiser, from_start=first == 0
        )
        norms = noise_norms(products, self.epoch[steps][known:])
        return norms[np.isfinite(norms)]


SHARED = (  # by all replicas of a block
    "rate",
    "window",
    "reservoir_tensor",
    "size",
    "stride",
    "epoch",
    "optimiser",
)


def read(paths: Iterable[str], seeds: Iterable[int]) -> dict[int, Recorded]:
    """Read the paths of the replicas from the training records of a cell's blocks.

    Raises:
        UserError: If a record is missing or damaged, or holds no path.
    """
    found = {}
    wanted = set(seeds)
    for file in paths:
        arrays = store.read(file, "training").arrays
        if "path_gram" not in arrays:
            fix = "give its recipe a 'record', such as {length: 1000, stride: 1000}"
            raise UserError("holds no path of training", where=file, fix=fix)
        for place, seed in enumerate(arrays["seeds"].values.tolist()):
            if seed in wanted:
                found[seed] = _one(arrays, place)
    return {seed: found[seed] for seed in sorted(found)}


def _one(arrays: Mapping[str, store.Array], place: int) -> Recorded:
    names = Recorded.__dataclass_fields__
    values = {name: arrays[f"path_{name}"].values for name in names}
    return Recorded(**{n: v if n in SHARED else v[:, place] for n, v in values.items()})


def seeded(*words: object) -> np.random.Generator:
    """Return a generator that depends on nothing but the words."""
    text = "\0".join(map(str, words))
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
