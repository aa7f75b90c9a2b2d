"""Trains several curves, those of a small network together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from lossatlas.connectivity.curves import Curve, Network
from lossatlas.connectivity.fit import CurveFit, Words
from lossatlas.data.tensors import Split
from lossatlas.models.functional import Functional
from lossatlas.models.layout import is_small

if TYPE_CHECKING:
    from lossatlas.spec.metrics import Connectivity
    from lossatlas.training.state import State

TOGETHER = 4  # curves of a small network that are trained together


def fit_curves(
    functional: Functional,
    pairs: Sequence[tuple[Network, Network]],
    split: Split,
    settings: Connectivity,
    words: Sequence[Words],
    state: State | None = None,
) -> list[Curve]:
    """Train curves, those of a small network together.

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
    found = None if state is None else state.load(split.images.device)
    resumed, kept = found[0] if found else {}, dict[str, Tensor]()
    curves: list[Curve] = []
    size = TOGETHER if is_small(functional, split.images) else 1
    for first in range(0, len(pairs), size):
        starts, ends = zip(*pairs[first : first + size], strict=True)
        fit = CurveFit(functional, starts, ends, split, settings, words[first : first + size])
        mine = {f"{first}/{name}": name for name in fit.state()}
        if mine.keys() <= resumed.keys():
            fit.load({name: resumed[key] for key, name in mine.items()})
        curves += fit.run(None if state is None else partial(_save, state, kept, mine))
        kept |= _named(fit, mine)
    return curves


def _named(fit: CurveFit, names: dict[str, str]) -> dict[str, Tensor]:
    state = fit.state()
    return {key: state[name] for key, name in names.items()}


def _save(state: State, kept: dict[str, Tensor], names: dict[str, str], fit: CurveFit) -> None:
    if state.due():
        state.save(kept | _named(fit, names), {})
