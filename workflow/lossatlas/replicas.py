"""Replicas of the workflow's cells, read back: for scripts and for the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas import paths, store
from lossatlas.errors import UserError, nearest
from lossatlas.reading import Block, Inputs, blocks_of
from lossatlas.spec.cells import Cell, from_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from lossatlas.data.tensors import TensorData


@dataclass(frozen=True)
class Replica:
    """A replica of a cell.

    Attributes:
        module: The network with its weights, in evaluation mode, on the CPU.
        data: What it was trained on (the load put on), and the test set; on the CPU. Inputs by
            name are given as `module(**data.test.images.tensors)`.
        loss: Mean loss of outputs (N, ...) and targets (N, ...), of the task: of classes, the mean
            cross entropy in nats of logits (N, classes) and labels (N,).
        spec: The canonical specification of its cell.
        seed: Its seed.
        status: "ok" or "diverged".
    """

    module: nn.Module
    data: TensorData
    loss: Callable[[Tensor, Tensor], Tensor]
    spec: Mapping[str, Any]
    seed: int
    status: str


@dataclass(frozen=True)
class Stored:
    """What the workflow keeps of a cell.

    Attributes:
        cell: The cell.
        inputs: Its weights, training records and data set, as a metric reads them.
        blocks: Seed -> where it is read from, and how it ended.
    """

    cell: Cell
    inputs: Inputs
    blocks: dict[int, Block]

    def check(self, seeds: Iterable[int]) -> None:
        """Refuse seeds that it has no replica of.

        Raises:
            UserError: With the seeds that it has.
        """
        for seed in seeds:
            if seed not in self.blocks:
                fix = f"it has {', '.join(map(str, sorted(self.blocks)))}"
                raise UserError(f"no replica of seed {seed}", where=self.cell.id, fix=fix)


def load(cell: str | os.PathLike[str], seed: int = 0, checkpoint: str = "") -> Replica:
    """Return a replica that the workflow trained or adopted, as a torch module with its data.

    Call it in the folder in which you start Snakemake. The network's builder is called as by the
    workflow: a builder of your own is imported from that folder.

    Args:
        cell: The cell's name, a folder in `results/cells`, or a path to that folder or to a file
            in it.
        seed: Of the replica.
        checkpoint: "final", "best" or "early"; default: the first that the recipe keeps.

    Raises:
        UserError: If there is no such cell, replica or checkpoint, or its data are gone.

    Example:
        >>> one = lossatlas.load("digits-mlp-w8-b64-1a2b3c4d", seed=0)
        >>> one.loss(one.module(one.data.test.images), one.data.test.labels)
    """
    from lossatlas.data.loading import load as load_data
    from lossatlas.entry import find_user_modules
    from lossatlas.models.functional import Functional
    from lossatlas.training import checkpoints
    from lossatlas.training.job import builder_of

    stored = find(cell)
    stored.check([seed])
    block, own = stored.blocks[seed], stored.cell
    find_user_modules()
    data = load_data(dataset_of(stored), own.data)
    module = builder_of(own, data)()
    kind = checkpoint or own.recipe.checkpoints[0]
    read = checkpoints.read_weights([block.weights], [seed], kind, "pt", own.digest)
    params, buffers = read[seed]
    checkpoints.match(Functional(module), params, buffers, f"{block.weights} (seed {seed})")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        tensor.data.copy_({**params, **buffers}[name])
    return Replica(module.eval(), data, data.task.mean, own.spec, seed, block.status)


def find(cell: str | os.PathLike[str]) -> Stored:
    """Find what the workflow keeps of a cell.

    Args:
        cell: As in `load`.

    Raises:
        UserError: If there is no such cell, or nothing of it has been trained.
    """
    name = _name(cell)
    blocks = sorted(paths.blocks_on_disk(name))
    if not blocks:
        fix = nearest(name, known) if (known := paths.cells()) else f"start beside '{paths.ROOT}'"
        raise UserError(f"no cell '{name}' with replicas here", where=paths.cell(name), fix=fix)
    histories = [paths.history(name, block) for block in blocks]
    own = _cell(histories[0])
    weights = [paths.weights(name, block) for block in blocks]
    inputs = Inputs(weights, histories, paths.dataset(own.data.source))
    return Stored(own, inputs, blocks_of(inputs))


def _name(given: str | os.PathLike[str]) -> str:
    """Return the name of a cell, from that or from a path to its folder or to a file in it."""
    here, path = Path(paths.cell("")).resolve(), Path(given).resolve()
    if path.is_relative_to(here) and path != here:
        return path.relative_to(here).parts[0]
    return os.fspath(given)


def _cell(history: str) -> Cell:
    spec = store.read_about(history).spec
    try:
        return from_spec(spec)
    except (KeyError, TypeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        fix = "delete it and run the same command again: it will be made anew"
        raise UserError(f"has no specification of today: {first}", where=history, fix=fix) from None


def dataset_of(stored: Stored) -> str:
    """Return the data set of a cell.

    Raises:
        UserError: If it is not there; trained cells do not need it.
    """
    path = stored.inputs.dataset
    if not os.path.exists(path):
        name = stored.cell.data.source
        fix = f"make it with: snakemake {paths.dataset(name)}, and the config that has it"
        raise UserError("its data set is not there any more", where=path, fix=fix)
    return path
