"""Networks modulo permutations of their units: what can be permuted, and how two networks match.

    from lossatlas.models.functional import Functional, state_of
    from lossatlas.permutation import find, match_weights, permuted

    functional, a, b = Functional(one), state_of(one), state_of(other)
    symmetries = find(functional, a, images)
    found = match_weights(a[0], b[0], symmetries.groups)
    weights = permuted(b[0], symmetries.groups, found.permutations)  # the same function as other

The functions are imported on first use, so that importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossatlas.lazy import exported

if TYPE_CHECKING:
    from lossatlas.permutation.activations import match_activations
    from lossatlas.permutation.atoms import Group
    from lossatlas.permutation.matching import Matching, match_weights
    from lossatlas.permutation.repair import Repair
    from lossatlas.permutation.trace import Symmetries, find, permuted

_HOMES = {
    "Group": "atoms",
    "Matching": "matching",
    "Repair": "repair",
    "Symmetries": "trace",
    "find": "trace",
    "match_activations": "activations",
    "match_weights": "matching",
    "permuted": "trace",
}

__all__ = [
    "Group",
    "Matching",
    "Repair",
    "Symmetries",
    "find",
    "match_activations",
    "match_weights",
    "permuted",
]

__getattr__, __dir__ = exported(__name__, _HOMES)
