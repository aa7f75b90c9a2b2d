"""Reads what a metric wants of the replicas of a cell, and says what that is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lossatlas import made, paths, store
from lossatlas.errors import UserError
from lossatlas.metrics.base import Given, Metric, Unit
from lossatlas.spec.catalogue import corrupted_source
from lossatlas.spec.cells import Cell
from lossatlas.training import checkpoints

if TYPE_CHECKING:
    from lossatlas.training.networks import Networks


@dataclass(frozen=True)
class Inputs:
    """Paths that a metric job reads, and the folder in which it keeps what it measured.

    Attributes:
        weights: Checkpoints of the cell's blocks; may be empty where only `histories` are read.
        histories: Training records of the same blocks, in the same order.
        dataset: The converted data set.
        performance: Record of the metric `performance`, where its predictions are read.
        parts: Folder of measured units; "" keeps none.
    """

    weights: Sequence[str]
    histories: Sequence[str]
    dataset: str
    performance: str = ""
    parts: str = ""


@dataclass(frozen=True)
class Block:
    """Where a replica is read from, and how it ended."""

    weights: str
    history: str
    status: str


def blocks_of(inputs: Inputs) -> dict[int, Block]:
    """Return seed -> its block."""
    weights = inputs.weights or [""] * len(inputs.histories)
    return {
        seed: Block(own, history, status)
        for own, history in zip(weights, inputs.histories, strict=True)
        for seed, status in checkpoints.statuses([history]).items()
    }


@dataclass
class Reader:
    """Reads the inputs of one metric on one cell.

    Attributes:
        metric: With its settings.
        cell: The cell.
        inputs: Paths.
        blocks: Seed -> where it is read from.
        lost: Seeds of diverged replicas.
    """

    metric: Metric
    cell: Cell
    inputs: Inputs
    blocks: dict[int, Block]
    lost: list[int]
    _stamps: dict[str, str] = field(default_factory=dict)
    _logits: dict[int, Any] = field(default_factory=dict)

    def stamps(self, unit: Unit) -> list[Any]:
        """Return checksums of all that is read of a unit."""
        if self.metric.reads == "path":
            return [self.stamp(self.blocks[seed].history) for seed in unit]
        read: list[Any] = [self.stamp(self.blocks[seed].weights) for seed in unit]
        if self.metric.reads == "arrays":  # the record holds the time of its job as well
            return read + [_digest(self.logits()[seed]) for seed in unit]
        read.append(self.stamp(self.inputs.dataset))
        if corruptions := getattr(self.metric, "corruptions", ""):
            read.append(self.stamp(paths.download(corrupted_source(corruptions).file)))
        return read

    def stamp(self, path: str) -> str:
        """Return the checksum of an input.

        Raises:
            UserError: If it cannot be read.
        """
        if path not in self._stamps:
            try:
                self._stamps[path] = made.checksum(path)
            except OSError as error:
                what, fix = f"cannot be read: {error.strerror}", "run the command that makes it"
                raise UserError(what, where=str(error.filename), fix=fix) from None
        return self._stamps[path]

    def logits(self) -> dict[int, Any]:
        """Return seed -> predictions of the test images."""
        if not self._logits:
            arrays = store.read(self.inputs.performance, "performance").arrays
            name = "test_logits" if "test_logits" in arrays else "test_outputs"
            seeds, tables = arrays["seeds"].values.tolist(), arrays[name].values
            self._logits = dict(zip(seeds, tables, strict=True))
        return self._logits

    def given(self, seeds: list[int]) -> Given:
        """Load what the metric reads of some replicas."""
        reads, cell = self.metric.reads, self.cell
        files = self._files(seeds)
        if reads == "path":
            from lossatlas.diffusion.recorded import read

            histories = dict.fromkeys(self.blocks[seed].history for seed in seeds)
            return Given(paths=read(histories, seeds), task=cell.task)
        if reads == "arrays":
            found = checkpoints.read_weights(
                files, seeds, self._checkpoint, "np", cell.digest, frozen=False
            )
            weights = {seed: params for seed, (params, _) in found.items()}
            chosen = {seed: self.logits()[seed] for seed in seeds}
            return Given(weights=weights, logits=chosen, task=cell.task)
        if reads == "snapshots":
            return Given(snapshots=self._snapshots(seeds, files), task=cell.task)
        networks = self.networks(seeds)
        if reads == "networks and snapshots" and cell.recipe.record is not None:
            return Given(networks, self._snapshots(seeds, files), task=cell.task)
        return Given(networks, task=cell.task)

    def networks(self, seeds: list[int]) -> Networks:
        """Load some replicas and their data."""
        return self._networks(seeds, self._files(seeds), self._checkpoint)

    @property
    def _checkpoint(self) -> str:
        return self.metric.checkpoint or self.cell.recipe.checkpoints[0]

    def _files(self, seeds: list[int]) -> list[str]:
        return list(dict.fromkeys(self.blocks[seed].weights for seed in seeds))

    def _networks(self, seeds: list[int], files: list[str], checkpoint: str) -> Networks:
        from lossatlas import device
        from lossatlas.data.augment import augmented
        from lossatlas.data.loading import load
        from lossatlas.models.functional import Functional
        from lossatlas.training.job import builder_of

        cell = self.cell
        data = load(self.inputs.dataset, cell.data, device.choose())
        data = augmented(data, cell.recipe.augment)
        functional = Functional(builder_of(cell, data)())
        weights = checkpoints.read_weights(files, seeds, checkpoint, "pt", cell.digest)
        where = ", ".join(files)
        networks = checkpoints.assemble(
            functional, weights, data, device.choose(), self.lost, where
        )
        return replace(networks, epochs=cell.epochs)

    def _snapshots(self, seeds: list[int], files: list[str]) -> dict[int, Networks]:
        """Return epoch -> the replicas with the weights that were kept then."""
        epochs = checkpoints.kept_epochs(files)
        if not epochs:
            fix = "give its recipe a 'record' with 'snapshots: 5'"
            raise UserError("holds no weights along training", where=files[0], fix=fix)
        last = self._networks(seeds, files, f"epoch-{epochs[-1]}")
        found = {}
        for epoch in epochs:
            kind = f"epoch-{epoch}"
            read = checkpoints.read_weights(files, seeds, kind, "pt", self.cell.digest)
            found[epoch] = checkpoints.assemble(
                last.functional, read, last.data, last.device, self.lost, files[0]
            )
        return found


def _digest(array: Any) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def arrays_of(networks: Networks) -> Given:
    """Return trained parameters and predictions of networks in memory, as arrays."""
    from lossatlas.similarity.performance import kept
    from lossatlas.training.networks import outputs

    test = networks.data.test
    weights, predictions = {}, {}
    for index, seed in enumerate(networks.seeds):
        params, _ = networks.one(index)
        names = networks.functional.trainable
        weights[seed] = {name: params[name].cpu().numpy() for name in names}
        predictions[seed] = kept(outputs(networks, index, test.images), test)
    return Given(weights=weights, logits=predictions, task=networks.data.task)
