"""How rough is the loss around a trained network? Planes of random and of principal directions.

Both are those of Li et al. (NeurIPS 2018). Random directions are Gaussian, each filter as long as
the network's own, zero for biases and norms. Principal directions are those along which the weights
kept during training differ most from the final ones. The roughness of generated surfaces of the
same side is written beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lossatlas.data.tensors import Split
from lossatlas.diffusion import roughness, surfaces
from lossatlas.diffusion.arrays import Array
from lossatlas.diffusion.recorded import seeded
from lossatlas.models.functional import Tensors, flatten
from lossatlas.simplex.planes import evaluate
from lossatlas.store import Record, Scalar, Series, Table
from lossatlas.training.networks import Networks
from lossatlas.training.seeds import generator

if TYPE_CHECKING:
    from lossatlas.metrics.landscape import Landscape


PCA = ("pca_roughness_exponent", "pca_box_dimension", "pca_share")


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


def measure_replicas(
    networks: Networks, settings: Landscape, stages: Mapping[int, Networks], seeds: Sequence[int]
) -> Record:
    """Map the loss on planes around each replica and measure how rough it is.

    Args:
        networks: The replicas.
        settings: Settings.
        stages: Epoch -> the same replicas with the weights kept then, for principal directions; may
            be empty.
        seeds: Which replicas.

    Returns:
        A record with, per replica, the exponent of the structure function of the loss and of its
        logarithm (2: smooth), the box dimension (2: smooth), and their curves; the same for the
        plane of principal directions, `undefined` without three kept weights, and the share of the
        path's variance in it. Series `structure`, `boxes` and `spectrum` by `surface`; the tables
        `plane` (coordinates u and v from -1 to 1, loss), by `surface`, and `plane_path` (epoch, u,
        v).
    """
    record = Record("landscape")
    images = images_of(networks.data.train, settings.samples, settings.seed)
    for seed in seeds:
        index = networks.seeds.index(seed)
        loss = plane(networks, index, images, settings.side, settings.extent, settings.seed)
        if not np.isfinite(loss).all():
            names = ("roughness_exponent", "log_roughness_exponent", "box_dimension", *PCA)
            _undefined(record, names, seed)
            continue
        _pca(record, networks, index, images, settings, stages)
        _surface(record, "loss", loss, seed)
        logs = np.log(np.maximum(loss, 1e-12))
        structure = roughness.structure_function(logs)
        _number(record, "log_roughness_exponent", float(structure.local.mean()), seed)
        record.tables.append(_plane_table("loss", loss, seed))
    return record


def complete(record: Record, settings: Landscape) -> Record:
    """Keep the planes of the first replica alone, and add the roughness of generated surfaces.

    Returns:
        The record with the curves of each surface, without a replica.
    """
    first = min((row.replica for row in record.scalars if row.replica is not None), default=None)
    record.tables = [table for table in record.tables if table.replica == first]
    side = settings.side
    fractal = surfaces.diamond_square(side, seeded("fractal", 0))
    for kind, z in {
        "fractal": fractal,
        "shuffled": surfaces.shuffled(fractal, seeded("shuffle", 0), sigma=side / 128),
        "quadratic": surfaces.quadratic(side),
    }.items():
        _surface(record, kind, z, None)
    return record


@dataclass(frozen=True)
class Principal:
    """A plane of the directions along which a path differs most from its end.

    Attributes:
        directions: (2, P), orthonormal.
        path: (n, 2) coordinates of the kept weights, the end being 0.
        share: Share of the squared distances from the end that lies in the plane.
    """

    directions: Tensor
    path: Array
    share: float


def principal(points: Tensor, end: Tensor) -> Principal | None:
    """Return the two principal directions of w_t - w_end; None if these span no plane.

    Args:
        points: (n, P) weights along training.
        end: (P,) final weights.
    """
    moved = points.double() - end.double()
    values, vectors = torch.linalg.eigh(moved @ moved.T)
    if len(points) < 2 or not values[-2] > 1e-9 * values[-1]:
        return None
    lengths = values[-2:].flip(0).sqrt()
    directions = (vectors[:, -2:].flip(1) / lengths).T @ moved
    share = float(values[-2:].sum() / values.clamp_min(0).sum())
    return Principal(directions, (moved @ directions.T).cpu().numpy(), share)


def _pca(
    record: Record,
    networks: Networks,
    index: int,
    images: Split,
    settings: Landscape,
    stages: Mapping[int, Networks],
) -> None:
    """Map the loss on the plane of principal directions, just large enough for the path."""
    seed, params = networks.seeds[index], networks.one(index)[0]
    points = [flatten(stage.one(index)[0]) for stage in stages.values()]
    found = principal(torch.stack(points), flatten(params)) if points else None
    if found is None:
        _undefined(record, PCA, seed)
        return
    half = 1.1 * float(np.abs(found.path).max())
    loss = _mapped(networks, index, images, found.directions * half, settings.side, 1.0)
    if not np.isfinite(loss).all():
        _undefined(record, PCA, seed)
        return
    _surface(record, "pca", loss, seed, "pca_")
    record.scalars.append(Scalar("pca_share", found.share, seed))
    record.tables.append(_plane_table("pca", loss, seed))
    u, v = found.path.T / half
    columns = {"epoch": list(stages), "u": u, "v": v}
    record.tables.append(Table("plane_path", columns, seed, index={"surface": "pca"}))


def _plane_table(surface: str, loss: Array, seed: int) -> Table:
    """Return a loss (side, side), rows along v, as a table; the square reaches from -1 to 1."""
    places = np.linspace(-1, 1, len(loss))
    u, v = np.meshgrid(places, places)
    columns = {"u": u.ravel(), "v": v.ravel(), "loss": loss.ravel()}
    return Table("plane", columns, seed, index={"surface": surface}, units={"loss": "nats"})


def _undefined(record: Record, names: Iterable[str], seed: int) -> None:
    nan = float("nan")
    record.scalars += [Scalar(name, nan, seed, status="undefined") for name in names]


def images_of(train: Split, count: int, seed: int) -> Split:
    """Return the training images that the loss of planes is taken on; all if there are fewer."""
    chosen = torch.randperm(len(train), generator=generator("plane", seed))
    return train.take(chosen[:count].to(train.device))


def plane(
    networks: Networks, index: int, images: Split, side: int, extent: float, seed: int
) -> Array:
    """Return the loss (side, side) over two random directions from a replica.

    Args:
        networks: The replicas.
        index: Which one.
        images: Of the loss.
        side: Nodes along each side.
        extent: Half the side, in lengths of the directions.
        seed: Of the directions.
    """
    params, _ = networks.one(index)
    words = ("direction", seed, networks.seeds[index])
    directions = [flatten(filter_normalised(params, generator(*words, axis))) for axis in "uv"]
    return _mapped(networks, index, images, torch.stack(directions), side, extent)


def _mapped(
    networks: Networks, index: int, images: Split, directions: Tensor, side: int, extent: float
) -> Array:
    """Return the loss (side, side) on a square around a replica; directions are (2, P)."""
    params, buffers = networks.one(index)
    centre = flatten(params)
    corners = torch.stack([centre, *(centre + directions.to(centre))])
    places = np.linspace(-extent, extent, side)
    u, v = np.meshgrid(places, places)
    weights = np.stack([1 - u - v, u, v], axis=2)
    loss, _ = evaluate(networks.functional, corners, weights, buffers, images)
    return loss


def _surface(record: Record, kind: str, z: Array, seed: int | None, prefix: str = "") -> None:
    structure = roughness.structure_function(z)
    boxes = roughness.box_counting(z)
    spectrum = roughness.radial_spectrum(z)
    scale = float(z.var())
    power = spectrum.power / scale if scale > 0 else spectrum.power
    value = structure.value / scale if scale > 0 else structure.value
    share = structure.lag / (len(z) - 1)
    about: Any = {"replica": seed, "index": {"surface": kind}}
    record.series += [
        Series("structure", share, value, "share of the side", **about),
        Series("boxes", boxes.size, boxes.count, "share of the side", **about),
        Series("spectrum", spectrum.frequency, power, "cycles per side", **about),
    ]
    if seed is not None:
        _number(record, f"{prefix}roughness_exponent", float(structure.local.mean()), seed)
        _number(record, f"{prefix}box_dimension", boxes.dimension, seed)


def _number(record: Record, name: str, value: float, seed: int) -> None:
    """Note a number; `undefined` if there is none, as for the exponent of a flat plane."""
    status = "ok" if np.isfinite(value) else "undefined"
    record.scalars.append(Scalar(name, value, seed, status=status))
