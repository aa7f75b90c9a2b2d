"""CKA between replicas on blended training images (Yang et al., 2021, section 2 and appendix A)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import betaincinv

from lossatlas.data.tensors import Inputs, Named
from lossatlas.errors import UserError
from lossatlas.progress import tracked
from lossatlas.similarity.alignment import Centred, centre, estimates
from lossatlas.similarity.features import features
from lossatlas.similarity.layers import matrices
from lossatlas.similarity.rows import scalar
from lossatlas.store import Array, Record
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator

if TYPE_CHECKING:
    from lossatlas.metrics.cka import Cka


def measure(
    networks: Networks, settings: Cka, pairs: Sequence[tuple[int, int]] | None = None
) -> Record:
    """Compare the features of every two replicas on the same blended training images.

    The authors' code draws new images for each of the 25
    ordered pairs, runs both networks for each, and keeps self-pairs; it reads 6 batches of 128
    (768 images) where the paper says 640. Mode 'paper' has as many, unless `samples` is set, and
    the authors' estimator, the biased one; the images stay shared in both modes.

    Args:
        networks: The replicas.
        settings: Of the metric. A training set smaller than `samples` is used whole.
        pairs: Seeds of the pairs to compare; default: all.

    Returns:
        A record with, per pair, `cka_biased` and `cka_unbiased` of the first layer, and `cka`,
        which equals the one that the mode picks; `cka_biased.<layer>` and `cka_unbiased.<layer>`
        of the others. NaN and `undefined` where features do not vary, as of a collapsed network.
        Table `cka_layers`: all layers of one with all layers of the other, on the first
        `layer_images` of the images; not of sequences, whose hidden features hold padding.
        Arrays: `images` (places of the images in the training set) and `blend` (lambdas). With
        fewer than two networks there are no pairs.

    Raises:
        UserError: If a layer does not exist or there are fewer than 4 training images.
    """
    train = networks.data.train
    places, images, blend = blended_images(train.images, settings)
    targets = (
        train.labels[torch.from_numpy(places).to(train.device)] if train.task.sequence else None
    )
    record = Record("cka", mode=settings.mode)
    record.arrays = {
        "images": Array(places, ("image",), description="places in the training set"),
        "blend": Array(blend, ("batch",), description="share of the image itself"),
    }
    if pairs is None:
        pairs = [(networks.seeds[i], networks.seeds[j]) for i, j in networks.pairs()]
    at = {seed: place for place, seed in enumerate(networks.seeds)}
    indices = [(at[one], at[other]) for one, other in pairs]
    layers = list(dict.fromkeys(settings.layers))
    if not train.task.classes:
        layers = [layer for layer in layers if layer != "softmax"] or ["output"]
    centred: dict[str, list[Centred]] = {layer: [] for layer in layers}
    for index in tracked(range(len(networks.seeds)), "features", "networks"):
        for layer, rows in features(networks, index, images, layers, targets).items():
            centred[layer].append(centre(rows))
    for layer in layers if pairs else []:
        found = estimates(centred[layer], indices)
        biased, unbiased = (matrix.tolist() for matrix in found)
        suffix = "" if layer == layers[0] else f".{layer}"
        named = {f"cka_biased{suffix}": biased, f"cka_unbiased{suffix}": unbiased}
        if layer == layers[0]:
            named["cka"] = biased if settings.mode == "paper" else unbiased
        for name, matrix in named.items():
            record.scalars += [
                scalar(name, matrix[i][j], replica=one, partner=other)
                for (one, other), (i, j) in zip(pairs, indices, strict=True)
            ]
    if not train.task.sequence and min(settings.layer_images, len(places)) >= 4:
        few = images[: settings.layer_images]
        record.tables = matrices(networks, few, pairs, unbiased=settings.mode != "paper")
    return record


def blended_images(images: Inputs, settings: Cka) -> tuple[np.ndarray, Inputs, np.ndarray]:
    """Draw training images and blend each batch with a permutation of itself (mixup).

    x' = lambda x + (1 - lambda) x[permutation], with one lambda ~ Beta(alpha, alpha) per batch
    (Zhang et al., 2018); no blend at alpha = 0, nor of tokens and of inputs by name.

    Args:
        images: Training images (M, C, H, W), or other inputs.
        settings: `samples`, `batch_size`, `mixup_alpha`, `seed`.

    Returns:
        Places in the training set (N,), blended images (N, C, H, W), and the lambda of each batch.

    Raises:
        UserError: If there are fewer than 4 images.
    """
    if len(images) < 4:
        what = f"needs at least 4 training images, not {len(images)}"
        raise UserError(what, where="cka: samples", fix="train on more images")
    order = torch.randperm(len(images), generator=generator("cka", settings.seed, "images"))
    places = order[: settings.samples]
    if isinstance(images, Named) or not images.is_floating_point():
        chosen = images[places.to(images.device)]
        return places.numpy(), chosen, np.ones(len(places.split(settings.batch_size)))
    batches, blend = [], []
    for number, chosen in enumerate(torch.split(places, settings.batch_size)):
        words = generator("cka", settings.seed, "blend", number)
        batch = images[chosen.to(images.device)]
        share = 1.0
        if settings.mixup_alpha > 0:
            level = torch.rand((), dtype=torch.float64, generator=words).item()
            share = float(betaincinv(settings.mixup_alpha, settings.mixup_alpha, level))
            other = batch[torch.randperm(len(batch), generator=words).to(images.device)]
            batch = share * batch + (1.0 - share) * other
        batches.append(batch)
        blend.append(share)
    return places.numpy(), torch.cat(batches), np.array(blend)
