"""The volume term of SPRO: -strength x log V, as a gradient for the newest vertex.

V = V_face h / n with h the height of the newest vertex over the fixed face, so the gradient of
log V is that of log h: the unit vector along h, divided by h. That takes O(k P) per step, where
a differentiated Cayley-Menger determinant takes O(k^2 P).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from lossatlas.simplex.geometry import Face, face_of, heights
from lossatlas.simplex.sampling import shares

if TYPE_CHECKING:
    from lossatlas.metrics.spro import Spro

Heights = Sequence[tuple[float, Tensor]]  # one per face: height, and its direction (P,)
PAPER_EPSILON = 1e-4  # the authors' code adds it to the squared volume inside the logarithm


class VolumeTerm:
    """The term for one vertex.

    Mode "fixed": log of the summed volumes V of all simplexes that contain the vertex, or half of
    log(V^2 + epsilon). Mode "paper": log(V^2 + 1e-4) of the first simplex alone. With an epsilon,
    the gradient dies once V^2 is far below it.

    Args:
        frozen: (V, P) the vertices that do not move; the moving one has index V.
        simplexes: Those that contain the moving vertex.
        strength: Of the term; 0 switches it off.
        settings: Of the training.
    """

    def __init__(
        self,
        frozen: Tensor,
        simplexes: Sequence[Sequence[int]],
        strength: float,
        settings: Spro,
    ) -> None:
        paper = settings.mode == "paper"
        self.strength, self.factor = strength, 2.0 if paper else 1.0
        usual = PAPER_EPSILON if paper else 0.0
        self.epsilon = usual if settings.epsilon is None else settings.epsilon
        chosen = simplexes[:1] if paper else simplexes
        needed = strength > 0 or (len(simplexes) > 1 and not paper)
        self.faces: list[Face] = []
        if needed:
            index = len(frozen)
            self.faces = [face_of(frozen[[v for v in s if v < index]]) for s in chosen]

    def heights(self, theta: Tensor) -> Heights:
        """Return the height, and its direction, of the vertex at `theta` (P,) over each face."""
        return heights(self.faces, theta)

    def log_volumes(self, found: Heights) -> list[float]:
        """Return log V of each simplex, of the vertex's heights."""
        return [f.log_volume_at(height) for f, (height, _) in zip(self.faces, found, strict=True)]

    def add_gradient(self, found: Heights, gradient: Tensor) -> None:
        """Add the term's gradient to `gradient` (P,), in place, of the vertex's heights."""
        if not self.strength:
            return
        logs = self.log_volumes(found)
        portions = shares(logs).tolist()
        force = self.strength * self.factor * self._share(logs)
        for portion, (height, direction) in zip(portions, found, strict=True):
            if height:
                gradient.add_(direction.to(gradient.dtype), alpha=-force * portion / height)

    def _share(self, logs: list[float]) -> float:
        """Return V^2 / (V^2 + epsilon): d log(V^2 + epsilon) is so much of d log V^2."""
        if not self.epsilon:
            return 1.0
        largest = max(logs)
        if math.isinf(largest):
            return 0.0
        log_volume = largest + math.log(sum(math.exp(one - largest) for one in logs))
        return _logistic(2.0 * log_volume - math.log(self.epsilon))


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700 else 0.0
