"""Sizes of a planned cell: parameters, multiply-adds, images, recorded points."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lossatlas.spec.catalogue import NETWORKS, data_source

if TYPE_CHECKING:
    from lossatlas.spec.cells import Cell
    from lossatlas.spec.counts import Counts
    from lossatlas.spec.plan import PlannedCell


def parameter_count(cell: Cell) -> int | None:
    """Return the number of parameters, or None where network or data are not known."""
    counts = _counts(cell)
    return None if counts is None else counts[0]


def multiplications(cell: Cell) -> int | None:
    """Return multiply-adds of one image's forward pass, or None where that is not known."""
    counts = _counts(cell)
    return None if counts is None else counts[1]


_known: dict[str, Counts] = {}


def network_key(cell: Cell) -> str:
    """Name a cell's network on its data: what parameters and multiply-adds depend on."""
    source = data_source(cell.data.source)
    name = source.stands_for or source.name
    words = [cell.model.builder, cell.model.arguments, name]
    return json.dumps(words, sort_keys=True, default=str)


def know(key: str, counts: Counts) -> None:
    """Make parameters and multiply-adds of a user's own network known, as they were counted."""
    _known[key] = counts


def _counts(cell: Cell) -> Counts | None:
    network, source = NETWORKS.get(cell.model.builder), data_source(cell.data.source)
    if network is None:
        return _known.get(network_key(cell))
    if not source.known:
        return None
    arguments = {**network.arguments, **cell.model.arguments}
    return network.cost(arguments, source.classes, source.channels, source.image_size)


def images_of(planned: PlannedCell) -> int:
    """Return the number of training images of a cell."""
    data = planned.cell.data
    return data.kept(data_source(data.source).train)


def path_floats(planned: PlannedCell) -> int:
    """Return how many numbers of 4 bytes are recorded of one replica's path beside its windows."""
    recipe, record = planned.cell.recipe, planned.cell.recipe.record
    if record is None:
        return 0
    depth = planned.cell.axis("depth")
    norms = 2 * (3 * (depth if isinstance(depth, int) else 20) + 60)  # of at most so many tensors
    of_steps = 2 * 8  # losses, lengths and sums
    per_step = record.projection + record.gradients + 2 * record.reservoir + norms + of_steps
    return recipe.steps(images_of(planned)) * per_step


def window_pairs(planned: PlannedCell) -> int:
    """Return the entries of the Gram matrices of all windows of one replica's path."""
    recipe, record = planned.cell.recipe, planned.cell.recipe.record
    if record is None:
        return 0
    return len(record.windows(recipe.steps(images_of(planned)))) * record.length**2


def kept(planned: PlannedCell) -> int:
    """Return how many copies of all weights along training a recipe keeps."""
    recipe = planned.cell.recipe
    return 0 if recipe.record is None else len(recipe.record.kept_epochs(recipe.epochs))
