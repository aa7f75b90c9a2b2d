"""Which replicas a connectivity metric connects. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from lossatlas.errors import UserError

if TYPE_CHECKING:
    from lossatlas.metrics.connectivity import Connectivity

Pair = tuple[int, int]


def pairs_of(settings: Connectivity, seeds: Sequence[int]) -> list[Pair]:
    """Return the pairs of seeds to connect, the smaller seed first.

    Args:
        settings: `pairs`: "all" of them, the "first" two, the "chain" of neighbours (0, 1),
            (1, 2), ... without the last to the first, or a list. Mode "paper" takes the first two.
        seeds: All seeds of the cell, those of diverged replicas too: whether a replica diverged
            does not change who is connected with whom.

    Raises:
        UserError: If the list names a seed that the cell does not have.
    """
    ordered = sorted(seeds)
    if settings.mode == "paper" or settings.pairs == "first":
        return list(combinations(ordered[:2], 2))
    if settings.pairs == "all":
        return list(combinations(ordered, 2))
    if settings.pairs == "chain":
        return list(pairwise(ordered))
    for seed in (seed for pair in settings.pairs for seed in pair):
        if seed not in ordered:
            fix = f"seeds: {', '.join(map(str, ordered))}"
            raise UserError(f"there is no replica {seed}", where="connectivity: pairs", fix=fix)
    return [(min(a, b), max(a, b)) for a, b in settings.pairs]
