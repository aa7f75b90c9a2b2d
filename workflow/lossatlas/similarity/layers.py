"""CKA of all layers of two replicas with each other (Kornblith et al., 2019, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.data.tensors import Inputs
from lossatlas.similarity.alignment import Centred, centre, estimates
from lossatlas.similarity.features import features
from lossatlas.store import Table
from lossatlas.training.networks import Networks, evaluator

TABLE = "cka_layers"
MOST = 12  # layers: a matrix that is still read
_SOME = 6  # outermost layers that say enough, where there is no room for those inside
_FEW = 5  # inputs that show what each module gives: seldom the size of another axis


@torch.no_grad()
def layers_of(networks: Networks, inputs: Inputs, most: int = MOST) -> list[str]:
    """Return the modules whose outputs stand for the layers of a network, in the order they run.

    The outermost modules that hold others are replaced by them, level by level, as long as there
    are at most `most`; of a network with few outermost modules and many inside, as a VGG, evenly
    spaced ones are taken. Modules without parameters, such as activations, and those that do not
    give one tensor with a row per input are left out.

    Args:
        networks: The replicas, of one architecture.
        inputs: A few inputs (N, ...), N >= 2.
        most: How many at most.

    Returns:
        Names as in `named_modules`; [] for a network without modules inside.
    """
    module, ran = networks.functional.module, dict[str, bool]()
    handles = [
        one.register_forward_hook(partial(_note, ran, name, len(inputs)))
        for name, one in module.named_modules()
        if name
    ]
    try:
        evaluator(networks.functional, *networks.one(0))(inputs)
    finally:
        for handle in handles:
            handle.remove()
    order = {name: place for place, name in enumerate(ran)}
    chosen = _run(module, "", ran)
    while (deeper := _inside(module, chosen, ran)) != chosen:
        if len(deeper) > most and len(chosen) >= _SOME:
            break
        chosen = deeper
    chosen = sorted(chosen, key=order.__getitem__)
    spaced = np.linspace(0, len(chosen) - 1, min(most, len(chosen))).round().astype(int)
    return [chosen[place] for place in spaced]


def _note(
    ran: dict[str, bool], name: str, count: int, _module: nn.Module, _inputs: Any, output: Any
) -> None:
    whole = isinstance(output, Tensor) and output.ndim > 1 and len(output) == count
    ran.pop(name, None)  # a module that runs several times counts with its last output
    ran[name] = whole


def _run(module: nn.Module, name: str, ran: dict[str, bool]) -> list[str]:
    """Return the outermost modules inside one that gave features."""
    found = []
    start = module.get_submodule(name) if name else module
    for child, one in start.named_children():
        inner = f"{name}.{child}" if name else child
        if ran.get(inner, False) and next(one.parameters(), None) is not None:
            found.append(inner)
        else:  # as a ModuleList, which does not run itself
            found += _run(module, inner, ran)
    return found


def _inside(module: nn.Module, names: Sequence[str], ran: dict[str, bool]) -> list[str]:
    """Return the names with those that hold others replaced by them."""
    return [inner for name in names for inner in _run(module, name, ran) or [name]]


def _label(name: str) -> str:
    """Return how a table names a module: "[1]" for the "1" of a `Sequential`, which is a number."""
    try:
        float(name)
    except ValueError:
        return name
    return f"[{name}]"


def matrices(
    networks: Networks, inputs: Inputs, pairs: Sequence[tuple[int, int]], *, unbiased: bool
) -> list[Table]:
    """Return CKA of all layers of the two replicas of each pair.

    Args:
        networks: The replicas.
        inputs: Inputs (N, ...), N >= 4, in evaluation mode.
        pairs: Seeds.
        unbiased: Which estimator.

    Returns:
        For each pair and layer of its first replica (`layer`, in the order they run) a row per
        layer of the second: `other_layer`, its place from 0 on in the same order, and `cka`, NaN
        where features do not vary.
    """
    names = layers_of(networks, inputs[:_FEW])
    if not names or not pairs:
        return []
    places = {seed: place for place, seed in enumerate(networks.seeds)}
    wanted = sorted({places[seed] for pair in pairs for seed in pair})
    centred: list[Centred] = []
    at: dict[int, int] = {}
    for place in wanted:
        at[place] = len(centred)
        found = features(networks, place, inputs, names)
        centred += [centre(found.pop(name)) for name in names]
    compared = [
        (at[places[one]] + i, at[places[other]] + j)
        for one, other in pairs
        for i in range(len(names))
        for j in range(len(names))
    ]
    matrix = estimates(centred, compared)[1 if unbiased else 0].cpu().numpy()
    span = np.arange(len(names))
    return [
        Table(
            TABLE,
            {"other_layer": span, "cka": matrix[at[places[one]] + i, at[places[other]] + span]},
            replica=one,
            partner=other,
            index={"layer": _label(name)},
        )
        for one, other in pairs
        for i, name in enumerate(names)
    ]
