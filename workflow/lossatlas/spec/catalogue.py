"""What the project ships: networks and data sets, by name. Neither torch nor torchvision here."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from lossatlas import paths
from lossatlas.errors import UserError, nearest
from lossatlas.spec import counts
from lossatlas.spec.counts import Counts

# (arguments, classes, channels, image size)
Cost = Callable[[Mapping[str, Any], int, int, int], Counts]


@dataclass(frozen=True)
class Network:
    """A built-in network: where its builder is, its arguments with their defaults, its cost."""

    target: str
    arguments: Mapping[str, Any]
    cost: Cost


def _resnet18(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    k = arguments["width"]
    parameters, work = 9 * channels * k + 2 * k, 9 * channels * k * size**2
    inputs = k
    for stage, outputs in enumerate((k, 2 * k, 4 * k, 8 * k)):
        size = size if stage == 0 else -(-size // 2)
        weights = 9 * inputs * outputs + 27 * outputs**2
        norms = 8 * outputs
        if inputs != outputs:
            weights, norms = weights + inputs * outputs, norms + 2 * outputs
        parameters, work = parameters + weights + norms, work + weights * size**2
        inputs = outputs
    return parameters + inputs * classes + classes, work + inputs * classes


def _mlp(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    width = arguments["width"]
    sizes = [channels * size**2, *[width] * arguments["depth"], classes]
    weights = sum(a * b for a, b in pairwise(sizes))
    return weights + sum(sizes[1:]), weights


NETWORKS: dict[str, Network] = {
    "resnet18": Network("lossatlas.models.resnet18:ResNet18", {"width": 64}, _resnet18),
    "mlp": Network("lossatlas.models.mlp:MLP", {"width": 64, "depth": 2}, _mlp),
    "convnet": Network("lossatlas.models.convnet:ConvNet", {"width": 16}, counts.convnet),
    "vgg16": Network("lossatlas.models.vgg16:VGG16", {"width": 64}, counts.vgg16),
    "vgg16_bn": Network("lossatlas.models.vgg16:VGG16BN", {"width": 64}, counts.vgg16_bn),
    "preresnet": Network(
        "lossatlas.models.preresnet:PreResNet", {"depth": 20, "width": 16}, counts.preresnet
    ),
    "resnet_cifar": Network(
        "lossatlas.models.resnet_cifar:ResNetCifar",
        {"depth": 14, "width": 1, "shortcut": True, "norm": "full", "linear_std": 0.0},
        counts.resnet_cifar,
    ),
    "fully_connected": Network(
        "lossatlas.models.mlp:FullyConnected", {"width": 100, "depth": 3}, counts.fully_connected
    ),
    "vit": Network(
        "lossatlas.models.vit:ViT", {"width": 16, "depth": 4, "heads": 4, "patch": 4}, counts.vit
    ),
}


@dataclass(frozen=True)
class DataSource:
    """One row of the datasets table."""

    name: str
    version: str
    file: str
    size: int
    sha256: str
    mirrors: tuple[str, ...]
    licence: str
    train: int
    test: int
    classes: int
    channels: int
    image_size: int

    @property
    def embedded(self) -> bool:
        """Whether the data come with an installed package, with nothing to download."""
        return not self.file


def _source(row: Mapping[str, str]) -> DataSource:
    return DataSource(
        name=row["name"],
        version=row["version"],
        file=row["file"],
        size=int(row["size"] or 0),
        sha256=row["sha256"],
        mirrors=tuple(row["mirrors"].split()),
        licence=row["licence"],
        train=int(row["train"] or 0),
        test=int(row["test"] or 0),
        classes=int(row["classes"] or 0),
        channels=int(row["channels"] or 0),
        image_size=int(row["image_size"] or 0),
    )


@cache
def data_sources() -> dict[str, DataSource]:
    """Read resources/datasets.tsv.

    Raises:
        UserError: If the table is damaged.
    """
    found = {}
    with paths.DATASETS_TABLE.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            try:
                found[row["name"]] = _source(row)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                where = f"{paths.DATASETS_TABLE.name}, row {row.get('name')}"
                raise UserError(f"damaged: {error}", where=where, fix="restore the file") from None
    return found


def data_source(name: str, where: str = "datasets") -> DataSource:
    """Return a row of the datasets table.

    Raises:
        UserError: If there is none of that name.
    """
    rows = {key: row for key, row in data_sources().items() if row.classes}
    if name not in rows:
        raise UserError(f"unknown data set '{name}'", where=where, fix=nearest(name, rows))
    return rows[name]
