"""Recorded runs that go on: a run starts where one that is its beginning has ended.

Where a recipe records windows, the state in which a block of replicas ended is kept in the cell's
`ends/`: weights, momentum, buffers and history at the last point from which a longer run can go on.
That is the end itself, or the start of the oldest window that was too long for the run (which is
then gone through once more, because the weights of a window are never kept). What was recorded up
to there stands in the training record, and weights along the way beside the checkpoints: they are
taken from there.

An end is used by a run of the same code, data, seeds, versions and processor alone, so that the
longer run equals one that was never interrupted bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch
from torch import Tensor

from lossatlas import device, made, paths, store
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, Tensors
from lossatlas.spec.cells import Cell
from lossatlas.spec.plan import block_name
from lossatlas.training.checkpoints import kept_epochs, read_weights
from lossatlas.training.recorder import PREFIX, Snapshot
from lossatlas.training.state import State


def shorter(cell: Cell) -> Iterator[Cell]:
    """Yield the cells whose runs are the beginning of this cell's, the longest first.

    All that differs is the number of epochs, and decays of the rate that come later. An annealed
    rate depends on the number of epochs: such a run is the beginning of no other.
    """
    recipe = cell.recipe
    if recipe.cosine:
        return
    for epochs in range(recipe.epochs - 1, 0, -1):
        decays = [epoch for epoch in recipe.decay_epochs if epoch < epochs]
        fewer = recipe.model_copy(update={"epochs": epochs, "decay_epochs": decays})
        yield Cell(cell.data, cell.model, fewer)


def save(cell: Cell, seeds: list[int], rest: str, end: Snapshot) -> None:
    """Keep where a block of replicas ended; its record and weights have been written.

    Args:
        cell: The cell.
        seeds: Of the block.
        rest: Names what else the run depends on: code, seeds, data.
        end: Of the engine.

    Raises:
        UserError: If it cannot be written.
    """
    tensors, values = end
    files = _checksums(cell, block_name(seeds))
    _state(cell, seeds, rest).save(tensors, {**values, "files": files})


def find(
    cell: Cell, seeds: list[int], rest: str, functional: Functional, buffers: Tensors
) -> Snapshot | None:
    """Return where the longest run ended that is the beginning of this one; None if none is there.

    Args:
        cell: To train.
        seeds: Of the block; an end is that of a block of the same seeds.
        rest: As in `save`.
        functional: The network.
        buffers: Its buffers, in their order.
    """
    for fewer in shorter(cell):
        loaded = _state(fewer, seeds, rest).load(device.choose())
        if loaded is None:
            continue
        tensors, values = loaded
        try:
            if values["files"] != _checksums(fewer, block_name(seeds)):
                continue
            tensors |= _recorded(fewer, seeds, functional, buffers)
        except (OSError, UserError):  # they are gone, or damaged
            continue
        print(json.dumps({"goes on from": fewer.id, "epochs": fewer.recipe.epochs}), flush=True)
        return tensors, values
    return None


def _state(cell: Cell, seeds: list[int], rest: str) -> State:
    path = paths.end(cell.id, block_name(seeds))
    made_on = json.dumps(device.provenance(), sort_keys=True)
    return State(path, f"{cell.digest}:{rest}:{made_on}")


def _checksums(cell: Cell, block: str) -> list[str]:
    """Return what tells that the files beside an end are those of the same run."""
    files = paths.weights(cell.id, block), paths.history(cell.id, block)
    return [made.checksum(path) for path in files]


def _recorded(
    cell: Cell, seeds: list[int], functional: Functional, buffers: Tensors
) -> dict[str, Tensor]:
    """Return what was recorded, as the recorder's saved state names it."""
    block = block_name(seeds)
    arrays = store.read(paths.history(cell.id, block), "training").arrays
    found = {
        f"{PREFIX}{name.removeprefix('path_')}": torch.from_numpy(array.values)
        for name, array in arrays.items()
        if name.startswith("path_")
    }
    files, rows = [paths.weights(cell.id, block)], []
    for epoch in kept_epochs(files):
        kept = read_weights(files, seeds, f"epoch-{epoch}", "pt", cell.digest, frozen=False)
        both = [kept[seed] for seed in seeds]
        flat = [_row([params[name] for name in functional.trainable]) for params, _ in both]
        own = [_row([each[name].double() for name in buffers]) for _, each in both]
        rows.append((torch.stack(flat), torch.stack(own)))
    found[f"{PREFIX}weights"] = torch.stack([flat for flat, _ in rows])
    found[f"{PREFIX}buffers"] = torch.stack([own for _, own in rows])
    return found


def _row(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors]) if tensors else torch.empty(0)
