"""Trains several curves, those of a small network together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from lossatlas.connectivity.curves import Curve, Network
from lossatlas.connectivity.fit import CurveFit, Words
from lossatlas.data.tensors import Split
from lossatlas.models.functional import Functional
from lossatlas.models.layout import is_small

if TYPE_CHECKING:
    from lossatlas.metrics.connectivity import Connectivity
    from lossatlas.training.state import State

# Curves of a small network that are trained together. On a CPU two, and a last one beside a copy of
# itself: a curve's bits are then the same whatever its partner is, which those of three ResNet18 of
# width 8 were not. More of them gain little (1.0 to 1.5 times for four).
TOGETHER, ON_GPU = 2, 4


def fit_curves(
    functional: Functional,
    pairs: Sequence[tuple[Network, Network]],
    split: Split,
    settings: Connectivity,
    words: Sequence[Words],
    state: State | None = None,
) -> list[Curve]:
    """Train curves, those of a small network together.

    On a CPU each curve comes out the same, bit for bit, whichever others are trained with it.

    Args:
        functional: The network.
        pairs: Both ends of each curve.
        split: Training images and labels.
        settings: As in `CurveFit`.
        words: As in `CurveFit`, for each curve.
        state: Where unfinished work is kept and found.

    Raises:
        ValueError: As `CurveFit`.
        Preempted: If a signal asked the job to leave; the state has been saved.
    """
    found = None if state is None else state.load(split.device)
    resumed, kept = found[0] if found else {}, dict[str, Tensor]()
    curves: list[Curve] = []
    size = _size(functional, split, settings)
    for first in range(0, len(pairs), size):
        count = min(size, len(pairs) - first)
        places = [*range(first, first + count)]
        if split.device.type == "cpu":
            places += places[-1:] * (size - count)
        starts, ends = zip(*(pairs[place] for place in places), strict=True)
        fit = CurveFit(functional, starts, ends, split, settings, [words[p] for p in places])
        mine = {f"{first}/{name}": name for name in fit.state()}
        if mine.keys() <= resumed.keys():
            fit.load({name: resumed[key] for key, name in mine.items()})
        curves += fit.run(None if state is None else partial(_save, state, kept, mine))[:count]
        kept |= _named(fit, mine)
    return curves


def _size(functional: Functional, split: Split, settings: Connectivity) -> int:
    """Return how many curves are trained together."""
    drops = any(isinstance(m, _DropoutNd) and m.p > 0 for m in functional.module.modules())
    if drops or settings.pairs == "first" or not is_small(functional, split.images):
        return 1  # what is dropped depends on the others; and one curve has no others
    return TOGETHER if split.device.type == "cpu" else ON_GPU


def _named(fit: CurveFit, names: dict[str, str]) -> dict[str, Tensor]:
    state = fit.state()
    return {key: state[name] for key, name in names.items()}


def _save(state: State, kept: dict[str, Tensor], names: dict[str, str], fit: CurveFit) -> None:
    if state.due():
        state.save(kept | _named(fit, names), {})
