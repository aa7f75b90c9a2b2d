"""What the training engine recorded of the path of a replica, read from training records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lossatlas import store
from lossatlas.diffusion.arrays import Array, Ints
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

    def path(self, index: int) -> Path | None:
        """Return the path in a window; None if the run diverged in it."""
        upper = self.gram[index]
        first, end = self.window[index]
        if finite_points(upper) < len(upper) or not np.isfinite(self.loss[first:end]).all():
            return None
        return path_of_gram(upper + np.triu(upper, 1).T, self.step[first : end - 1])

    def is_plain(self, first: int, end: int) -> bool:
        """Say whether steps are gradients times rate: no momentum, no weight decay."""
        steps = slice(first, end)
        expected = self.rate[steps] ** 2 * self.layer_gradient[steps].sum(axis=1)
        return bool(np.allclose(self.step[steps], expected, rtol=1e-2, atol=1e-12))


SHARED = ("rate", "window")  # by all replicas of a block


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
