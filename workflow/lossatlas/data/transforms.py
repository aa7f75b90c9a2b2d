"""Load put on the training data: less of it, wrong labels, noisy pixels. Two ways of doing so.

`fixed` draws every number from a named seed. Subsets and noise are stratified over the classes and
nested: what a smaller setting keeps or changes, a larger one keeps or changes too, so neighbouring
cells of a grid differ by the load and not by the draw.

`paper` does what the code of Yang et al. (2021, arXiv 2107.11228) does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lossatlas.errors import UserError
from lossatlas.spec.parts import DataPart
from lossatlas.training.seeds import generator

PAPER_SEED = 12345
CHUNK = 1000  # images whose noise is drawn at once; part of what a seed means


def draws(count: int, *words: object) -> np.ndarray:
    """Return `count` numbers, uniform on [0, 1), float64, that depend on nothing but the words."""
    return torch.rand(count, generator=generator(*words), dtype=torch.float64).numpy()


def stratified_order(labels: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return an order of the images every prefix of which has the classes in proportion.

    Within a class the images stand by ascending key. The image of rank r in a class of n stands at
    (r + 1/2) / n of the whole: a prefix shares its places among the classes by the Sainte-Laguë
    rule, which never takes a place back when there is one more to give.

    Args:
        labels: (N,), integers from 0.
        keys: (N,), random numbers; they also break ties between classes.

    Returns:
        (N,) indices.
    """
    by_class = np.lexsort((keys, labels))
    counts = np.bincount(labels)
    first = np.cumsum(counts) - counts
    rank = np.empty(len(labels))
    rank[by_class] = np.arange(len(labels)) - first[labels[by_class]]
    return np.lexsort((keys, (rank + 0.5) / counts[labels]))


def fixed_subset(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return the places of round(fraction * N) images, ascending: stratified, nested in `fraction`.

    Raises:
        UserError: If no image would be left.
    """
    count = _at_least_one(round(fraction * len(labels)), fraction)
    order = stratified_order(labels, draws(len(labels), "subset", seed))
    return np.sort(order[:count])


def fixed_label_noise(
    labels: np.ndarray, kept: np.ndarray, share: float, classes: int, seed: int
) -> np.ndarray:
    """Draw exactly round(share * n) of the n kept labels anew, uniformly over all classes.

    A new label may equal the old one, so that on average share * (1 - 1/classes) of the labels are
    wrong, as with the paper's code. The images to change are stratified over the classes and nested
    in `share`; an image's new label is the same at every share and every fraction.

    Args:
        labels: (N,) clean labels of the whole training set.
        kept: (n,) places of the images that are used.
        share: Between 0 and 1.
        classes: Number of classes.
        seed: The load's seed.

    Returns:
        (n,) labels of the kept images.
    """
    result = labels[kept]
    keys = draws(len(labels), "label noise", "which", seed)[kept]
    new = np.floor(draws(len(labels), "label noise", "label", seed) * classes).astype(labels.dtype)
    chosen = stratified_order(result, keys)[: round(share * len(kept))]
    result[chosen] = new[kept][chosen]
    return result


def add_pixel_noise(images: Tensor, kept: np.ndarray, sigma: float, seed: int) -> None:
    """Add Gaussian noise of s.d. `sigma` in place; values are not clipped to [0, 1].

    The noise of an image depends on the seed and on its place in the whole training set only; it is
    drawn on the CPU, so that a seed means the same on every device.

    Args:
        images: (n, C, H, W), in units where the pixels' range is 1.
        kept: (n,) places of these images in the whole training set, ascending.
        sigma: In the same units.
        seed: The load's seed.
    """
    for first in range(0, int(kept[-1]) + 1, CHUNK):
        start, stop = np.searchsorted(kept, (first, first + CHUNK))
        source = generator("pixel noise", seed, first // CHUNK)
        noise = torch.randn(CHUNK, *images.shape[1:], generator=source)
        places = torch.from_numpy(kept[start:stop] - first)
        images[start:stop] += sigma * noise[places].to(images.device)


def paper_load(
    images: np.ndarray, labels: np.ndarray, classes: int, scale: float, part: DataPart
) -> tuple[np.ndarray, np.ndarray]:
    """Put on load as the authors' code did (CIFAR10RandomLabels, CIFAR10Subset).

    First the labels: each with probability p replaced by a uniform class, over all classes. Then
    pixels: uniform noise in [0, m), cut to whole steps and added to the bytes, where a sum beyond
    255 wraps round to a small value (their clipping comes too late to prevent it); here
    m = pixel_noise * scale, so in this mode `pixel_noise` is the largest noise and not its s.d.
    Last, the first int(N * fraction) images in the order of the file. Labels and noise come from
    NumPy's legacy generator with seed 12345, each afresh; the part's own seed is not used.

    Args:
        images: (N, H, W, C), uint8.
        labels: (N,), int64.
        classes: Number of classes.
        scale: The largest pixel value.
        part: The load.

    Returns:
        Images and labels that are used; the inputs are left as they are.

    Raises:
        UserError: If no image would be left; or, with noise, if the images are not bytes or the
            noise is larger than the pixels' range.
    """
    labels = labels.copy()
    if part.label_noise:
        random = np.random.RandomState(PAPER_SEED)  # the legacy stream is frozen: theirs
        mask = random.rand(len(labels)) <= part.label_noise
        labels[mask] = random.choice(classes, mask.sum())
    count = _at_least_one(int(len(images) * part.fraction), part.fraction)
    images = images[:count]
    if part.pixel_noise:
        images = _paper_noise(images, part.pixel_noise, scale)
    return images, labels[:count]


def _paper_noise(images: np.ndarray, magnitude: float, scale: float) -> np.ndarray:
    if images.dtype != np.uint8 or magnitude > 1:
        what = "pixel noise as in the paper needs images of bytes, and at most 1"
        raise UserError(what, where="pixel_noise", fix="use transforms: fixed")
    random = np.random.RandomState(PAPER_SEED)
    result = images.copy()
    for start in range(0, len(images), CHUNK):  # piece by piece it is the same stream
        part = result[start : start + CHUNK]
        part += (random.uniform(0, 1, size=part.shape) * (magnitude * scale)).astype(np.uint8)
    return result


def _at_least_one(count: int, fraction: float) -> int:
    if count < 1:
        fix = "use a larger fraction"
        raise UserError(f"{fraction} leaves no training image", where="fraction", fix=fix)
    return count
