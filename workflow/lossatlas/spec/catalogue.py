"""What the project ships: networks and data sets, by name. Neither torch nor torchvision here."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lossatlas import paths
from lossatlas.errors import UserError, nearest
from lossatlas.spec.networks import Network, built_in

NETWORKS: dict[str, Network] = built_in()
REHEARSED = "_rehearsal"  # ends the names of data that stand for others in a rehearsal
REHEARSED_TRAIN, REHEARSED_TEST = 160, 60  # examples, and at least two and one of each class
REHEARSED_SUBWORDS = 64  # tokens of made sentences
REHEARSED_CORRUPTIONS = ("blur", "contrast")  # each at five severities
_SPARSE = ("targets", "inputs", "text", "stands_for")  # left out of an identity where empty


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
    repacked: tuple[str, ...] = ()  # SHA-256 of files of other bytes and the same content
    target: str = ""  # of the user's own: the object that gives them
    targets: str = ""  # of examples of any task: "classes" or "values", and their axes
    inputs: str = ""  # of these: "numbers", "tokens", or "named"
    text: str = ""  # of sentence pairs: how they become tokens, as JSON (`textdata`)
    stands_for: str = ""  # of data of a rehearsal: those that are in the config

    @property
    def sums(self) -> tuple[str, ...]:
        """The SHA-256 of every file that is taken for this row's; first that of the mirrors."""
        return (self.sha256, *self.repacked)

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

    @property
    def parallel(self) -> bool:
        """Whether the file holds sentence pairs, whose vocabulary is yet to be made."""
        return bool(self.train and not self.classes)


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
        repacked=tuple((row.get("repacked") or "").split()),
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
    _check_files(found)
    return found


def _check_files(rows: Mapping[str, DataSource]) -> None:
    """Refuse two rows with one file and other contents: downloads are kept by the file's name.

    Raises:
        UserError: With both rows.
    """
    owners: dict[str, DataSource] = {}
    for row in rows.values():
        if row.file and row.sha256:
            other = owners.setdefault(row.file.lower(), row)
            if other.sha256 != row.sha256:
                what = f"'{other.name}' and '{row.name}' are both '{row.file}', with other contents"
                fix = "give one of the files another name in the column 'file'"
                raise UserError(what, where=paths.DATASETS_TABLE.name, fix=fix)


def data_source(name: str, where: str = "datasets") -> DataSource:
    """Return a row of the datasets table, or what stands in its place for the user's own data.

    Raises:
        UserError: If there is none of that name.
    """
    if name in _own:
        return _own[name]
    if name.endswith(REHEARSED):
        return rehearsal_of(data_source(name.removesuffix(REHEARSED), where))
    rows = {key: row for key, row in data_sources().items() if row.trainable}
    if name not in rows:
        pairs = [key for key, row in data_sources().items() if row.parallel]
        raise UserError(
            f"unknown data set '{name}'", where=where, fix=nearest(name, [*rows, *pairs])
        )
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


def rehearsal_of(source: DataSource) -> DataSource:
    """Return the row of the few examples that stand for a data set in a rehearsal.

    Those of a row of the table are made, in its shape and with its classes, and so are all sentence
    pairs; of the user's own data they are the first ones.
    """
    train = min(source.train, max(REHEARSED_TRAIN, 2 * source.classes))
    test = min(source.test, max(REHEARSED_TEST, source.classes))
    named = dataclasses.replace(source, name=source.name + REHEARSED, stands_for=source.name)
    if source.own and not source.text:
        return dataclasses.replace(named, train=train, test=test)
    made = dataclasses.replace(named, version="rehearsal", sha256="", size=0, mirrors=(), parts=())
    if source.corrupted:
        count = 5 * len(REHEARSED_CORRUPTIONS) * test
        return dataclasses.replace(made, file=f"rehearsal-{source.file}", test=count)
    if source.text:
        train, test = REHEARSED_TRAIN, REHEARSED_TEST
        longest = min(source.image_size, REHEARSED_SUBWORDS // 2)
        made = dataclasses.replace(made, classes=REHEARSED_SUBWORDS, image_size=longest)
    return dataclasses.replace(made, file="", train=train, test=test)


def identity(source: DataSource) -> dict[str, Any]:
    """Return what a row says of its data: not where they come from, nor under which licence."""
    row = dataclasses.asdict(source)
    left = {"mirrors", "licence", "repacked"} | {key for key in _SPARSE if not row[key]}
    return {key: value for key, value in row.items() if key not in left}


def corrupted_source(name: str, where: str = "corruptions") -> DataSource:
    """Return a row of corrupted test images.

    Raises:
        UserError: If there is none of that name.
    """
    if name.endswith(REHEARSED):
        return rehearsal_of(corrupted_source(name.removesuffix(REHEARSED), where))
    rows = {key: row for key, row in data_sources().items() if row.corrupted}
    if name not in rows:
        what = f"unknown set of corrupted images '{name}'"
        raise UserError(what, where=where, fix=nearest(name, rows))
    return rows[name]
