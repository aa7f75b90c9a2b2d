"""How rough is the loss around a trained network? Planes of random filter-normalised directions.

The directions are those of Li et al. (NeurIPS 2018): Gaussian, each filter as long as the network's
own, zero for biases and norms. The roughness of generated surfaces of the same side is written
beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lossatlas.data.tensors import Split
from lossatlas.diffusion import roughness, surfaces
from lossatlas.diffusion.arrays import Array
from lossatlas.diffusion.recorded import seeded
from lossatlas.models.functional import Tensors, flatten
from lossatlas.simplex.planes import evaluate
from lossatlas.store import Record, Scalar, Series
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator

if TYPE_CHECKING:
    from lossatlas.spec.metrics import Landscape


def filter_normalised(params: Mapping[str, Tensor], draw: torch.Generator) -> Tensors:
    """Draw a direction whose filters are as long as those of the network.

    Args:
        params: Name -> tensor of one network; a filter is a row of the first axis.
        draw: Draws it.
    """
    found = {}
    for name, own in params.items():
        random = torch.randn(own.shape, generator=draw).to(own)
        if own.dim() < 2:
            found[name] = torch.zeros_like(own)
            continue
        rows = random.flatten(1)
        length = own.flatten(1).norm(dim=1) / rows.norm(dim=1).clamp_min(1e-12)
        found[name] = (rows * length[:, None]).view_as(own)
    return found


def measure(networks: Networks, settings: Landscape) -> Record:
    """Map the loss on a plane around each replica and measure how rough it is.

    Returns:
        A record with, per replica, the exponent of the structure function of the loss and of its
        logarithm (2: smooth), the box dimension (2: smooth), and their curves; for generated
        surfaces the curves alone, as series "<curve>:<kind>" without a replica.
    """
    record = Record("landscape")
    chosen = torch.randperm(len(networks.data.train), generator=generator("plane", settings.seed))
    images = networks.data.train.take(chosen[: settings.samples].to(networks.device))
    for index, seed in enumerate(networks.seeds):
        loss = plane(networks, index, images, settings)
        if not np.isfinite(loss).all():
            names = ("roughness_exponent", "log_roughness_exponent", "box_dimension")
            nan = float("nan")
            record.scalars += [Scalar(n, nan, seed, status="undefined") for n in names]
            continue
        _surface(record, "loss", loss, seed)
        logs = np.log(np.maximum(loss, 1e-12))
        structure = roughness.structure_function(logs)
        exponent = float(structure.local.mean())
        record.scalars.append(Scalar("log_roughness_exponent", exponent, seed))
        if index == 0:
            nodes = np.arange(loss.size)
            record.series.append(Series("plane:loss", nodes, loss.ravel(), "node", seed))
    side = settings.side
    fractal = surfaces.diamond_square(side, seeded("fractal", 0))
    for kind, z in {
        "fractal": fractal,
        "shuffled": surfaces.shuffled(fractal, seeded("shuffle", 0), sigma=side / 128),
        "quadratic": surfaces.quadratic(side),
    }.items():
        _surface(record, kind, z, None)
    return record


def plane(networks: Networks, index: int, images: Split, settings: Landscape) -> Array:
    """Return the loss (side, side) over two random directions from a replica."""
    params, buffers = networks.one(index)
    words = ("direction", settings.seed, networks.seeds[index])
    directions = [filter_normalised(params, generator(*words, axis)) for axis in "uv"]
    centre = flatten(params)
    corners = torch.stack([centre, *(centre + flatten(d) for d in directions)])
    places = np.linspace(-settings.extent, settings.extent, settings.side)
    u, v = np.meshgrid(places, places)
    weights = np.stack([1 - u - v, u, v], axis=2)
    loss, _ = evaluate(networks.functional, corners, weights, buffers, images)
    return loss


def _surface(record: Record, kind: str, z: Array, seed: int | None) -> None:
    structure = roughness.structure_function(z)
    boxes = roughness.box_counting(z)
    spectrum = roughness.radial_spectrum(z)
    scale = float(z.var())
    power = spectrum.power / scale if scale > 0 else spectrum.power
    value = structure.value / scale if scale > 0 else structure.value
    share = structure.lag / (len(z) - 1)
    record.series += [
        Series(f"structure:{kind}", share, value, "share of the side", seed),
        Series(f"boxes:{kind}", boxes.size, boxes.count, "share of the side", seed),
        Series(f"spectrum:{kind}", spectrum.frequency, power, "cycles per side", seed),
    ]
    if seed is not None:
        exponent = float(structure.local.mean())
        record.scalars += [
            Scalar("roughness_exponent", exponent, seed),
            Scalar("box_dimension", boxes.dimension, seed, stderr=boxes.stderr),
        ]
