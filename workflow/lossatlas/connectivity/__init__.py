"""Are trained networks connected by paths of low loss? (Garipov et al., 2018; Yang et al., 2021).

For two checkpoints of your own:

    from lossatlas.connectivity import evaluate_path, fit_curve, linear_barrier
    from lossatlas.data.tensors import Split
    from lossatlas.models.functional import Functional, state_of
    from lossatlas.metrics.connectivity import Connectivity

    functional, start, end = Functional(one), state_of(one), state_of(other)
    train, test = Split(images, labels), Split(test_images, test_labels)
    barrier = linear_barrier(functional, start, end, train, test)
    curve = fit_curve(functional, start, end, train, Connectivity(epochs=30))
    path = evaluate_path(functional, curve, train, test, t=numpy.linspace(0, 1, 21))
    path.values("test_error")

The functions are imported on first use, so that importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossatlas.lazy import exported

if TYPE_CHECKING:
    from lossatlas.connectivity.curves import Curve, coefficients, straight_line
    from lossatlas.connectivity.evaluate import (
        evaluate_path,
        evaluate_point,
        linear_barrier,
        shuffled,
    )
    from lossatlas.connectivity.fit import CurveFit, fit_curve
    from lossatlas.connectivity.pairs import pairs_of
    from lossatlas.connectivity.summary import extremes, statistics
    from lossatlas.connectivity.together import fit_curves

_HOMES = {
    "Curve": "curves",
    "CurveFit": "fit",
    "coefficients": "curves",
    "evaluate_path": "evaluate",
    "evaluate_point": "evaluate",
    "extremes": "summary",
    "fit_curve": "fit",
    "fit_curves": "together",
    "linear_barrier": "evaluate",
    "pairs_of": "pairs",
    "shuffled": "evaluate",
    "statistics": "summary",
    "straight_line": "curves",
}

__all__ = [
    "Curve",
    "CurveFit",
    "coefficients",
    "evaluate_path",
    "evaluate_point",
    "extremes",
    "fit_curve",
    "fit_curves",
    "linear_barrier",
    "pairs_of",
    "shuffled",
    "statistics",
    "straight_line",
]

__getattr__, __dir__ = exported(__name__, _HOMES)
