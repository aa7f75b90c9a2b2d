"""What the project ships: networks and data sets, by name. Neither torch nor torchvision here."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

from lossatlas import paths
from lossatlas.errors import UserError, nearest
from lossatlas.spec import counts, depths
from lossatlas.spec.counts import Counts
from lossatlas.spec.depths import Depths

# (arguments, classes, channels, image size)
Cost = Callable[[Mapping[str, Any], int, int, int], Counts]


@dataclass(frozen=True)
class Network:
    """A built-in network.

    Attributes:
        target: Where its builder is.
        arguments: Its arguments with their defaults.
        cost: Counts its parameters and multiply-adds.
        depths: In which it exists.
        choices: Argument that is a text -> what it may be.
        smallest: Pixels of the smallest image that it takes.
        channels: Of the images that it takes; 0: any.
        activations: Numbers per image that a backward pass holds, as a multiple of
            multiply-adds / sqrt(parameters); a bound.
        norms: Whether it has BatchNorm.
    """

    target: str
    arguments: Mapping[str, Any]
    cost: Cost
    depths: Depths = depths.ANY
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    smallest: int = 1
    channels: int = 0
    activations: float = 20.0
    norms: bool = False


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


SMALL_STD = {"linear_std": 0.0}
HE_INIT = {"he_init": False}
NETWORKS: dict[str, Network] = {
    "resnet18": Network("lossatlas.models.resnet18:ResNet18", {"width": 64}, _resnet18, norms=True),
    "mlp": Network("lossatlas.models.mlp:MLP", {"width": 64, "depth": 2}, _mlp, depths=depths.MLP),
    "convnet": Network(
        "lossatlas.models.convnet:ConvNet", {"width": 16}, counts.convnet, smallest=4
    ),
    "vgg16": Network("lossatlas.models.vgg16:VGG16", {"width": 64, **HE_INIT}, counts.vgg16),
    "vgg16_bn": Network(
        "lossatlas.models.vgg16:VGG16BN", {"width": 64, **HE_INIT}, counts.vgg16_bn, norms=True
    ),
    "preresnet": Network(
        "lossatlas.models.preresnet:PreResNet",
        {"depth": 20, "width": 16, **HE_INIT},
        counts.preresnet,
        depths=depths.PREACTIVATION,
        activations=40.0,
        norms=True,
    ),
    "resnet_cifar": Network(
        "lossatlas.models.resnet_cifar:ResNetCifar",
        {"depth": 14, "width": 1, "shortcut": True, "norm": "full", **SMALL_STD},
        counts.resnet_cifar,
        depths=depths.BASIC,
        choices={"norm": ("full", "partial", "none")},
        norms=True,
    ),
    "resnet_imagenet": Network(
        "lossatlas.models.resnet_imagenet:ResNetImagenet",
        {"depth": 18, "width": 64, "shortcut": True, **SMALL_STD},
        counts.resnet_imagenet,
        depths=depths.IMAGENET,
        activations=40.0,
        norms=True,
    ),
    "vgg9": Network(
        "lossatlas.models.vgg9:VGG9",
        {"width": 64, **SMALL_STD},
        counts.vgg9,
        smallest=8,
        norms=True,
    ),
    "alexnet": Network(
        "lossatlas.models.alexnet:AlexNet", {"width": 64, **SMALL_STD}, counts.alexnet, smallest=28
    ),
    "densenet": Network(
        "lossatlas.models.densenet:DenseNet",
        {"depth": 121, "width": 32, **SMALL_STD},
        counts.densenet,
        depths=depths.DENSE,
        smallest=8,
        activations=40.0,
        norms=True,
    ),
    "mnist_net": Network(
        "lossatlas.models.mnist:MnistNet", {"width": 10, **SMALL_STD}, counts.mnist_net, smallest=16
    ),
    "resnet_mnist": Network(
        "lossatlas.models.mnist:ResNetMnist",
        {"width": 8},
        counts.resnet_mnist,
        smallest=2,
        channels=1,
        norms=True,
    ),
    "fully_connected": Network(
        "lossatlas.models.mlp:FullyConnected",
        {"width": 100, "depth": 3, **SMALL_STD},
        counts.fully_connected,
        depths=depths.FULLY_CONNECTED,
    ),
    "vit": Network(
        "lossatlas.models.vit:ViT", {"width": 16, "depth": 4, "heads": 4, "patch": 4}, counts.vit
    ),
    "vit_token": Network(
        "lossatlas.models.vit_token:ViTToken",
        {"width": 64, "depth": 6, "heads": 8, "patch": 2, "dropout": 0.1, **SMALL_STD},
        counts.vit_token,
        activations=80.0,
    ),
}


@dataclass(frozen=True)
class DataSource:
    """One row of the datasets table, or what was found of data of the user's own."""

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
    parts: tuple[str, ...] = ()
    target: str = ""  # of the user's own: the object that gives them
    targets: str = ""  # of examples of any task: "classes" or "values", and their axes
    inputs: str = ""  # of these: "numbers", "tokens", or "named"

    @property
    def own(self) -> bool:
        """Whether they are the user's: the file of this row is theirs, or an object gives them."""
        return self.version == "own"

    @property
    def known(self) -> bool:
        """Whether their shape is known: that of an object is not while plug-ins are off."""
        return self.classes > 0

    @property
    def embedded(self) -> bool:
        """Whether the data are made here or come with a package, with nothing to download."""
        return not (self.file or self.parts)

    @property
    def corrupted(self) -> bool:
        """Whether these are corrupted test images of another data set."""
        return bool(self.classes) and not self.train

    @property
    def trainable(self) -> bool:
        """Whether these are images to train on."""
        return bool(self.classes and self.train)


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
        parts=tuple((row["parts"] or "").split()),
    )


@cache
def data_sources() -> dict[str, DataSource]:
    """Read resources/datasets.tsv.

    Raises:
        UserError: If the table is damaged.
    """
    found = {}
    with paths.DATASETS_TABLE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            try:
                found[row["name"]] = _source(row)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                where = f"{paths.DATASETS_TABLE.name}, row {row.get('name')}"
                raise UserError(f"damaged: {error}", where=where, fix="restore the file") from None
    return found


def data_source(name: str, where: str = "datasets") -> DataSource:
    """Return a row of the datasets table, or what stands in its place for the user's own data.

    Raises:
        UserError: If there is none of that name.
    """
    if name in _own:
        return _own[name]
    rows = {key: row for key, row in data_sources().items() if row.trainable}
    if name not in rows:
        raise UserError(f"unknown data set '{name}'", where=where, fix=nearest(name, rows))
    return rows[name]


_own: dict[str, DataSource] = {}


def register(source: DataSource) -> None:
    """Make data of the user's own known under their name (`owndata.resolve`)."""
    _own[source.name] = source


def files_of(source: DataSource) -> list[DataSource]:
    """Return the rows of the files that a data set is read from; none if it is embedded."""
    if source.embedded or source.own:
        return []
    return [data_sources()[part] for part in source.parts] or [source]


def identity(source: DataSource) -> dict[str, Any]:
    """Return what a row says of its data: not where they come from, nor under which licence."""
    row = dataclasses.asdict(source)
    left = {"mirrors", "licence"} | {key for key in ("targets", "inputs") if not row[key]}
    return {key: value for key, value in row.items() if key not in left}


def corrupted_source(name: str, where: str = "corruptions") -> DataSource:
    """Return a row of corrupted test images.

    Raises:
        UserError: If there is none of that name.
    """
    rows = {key: row for key, row in data_sources().items() if row.corrupted}
    if name not in rows:
        what = f"unknown set of corrupted images '{name}'"
        raise UserError(what, where=where, fix=nearest(name, rows))
    return rows[name]
