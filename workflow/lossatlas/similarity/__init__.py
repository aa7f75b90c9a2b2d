"""How alike replicas are: their loss, predictions, features and weights.

The plain functions below are imported on first use, so that importing this package (and the
modules of it that need NumPy alone) does not import torch:

    from lossatlas.similarity import cka

    cka(features_of_one, features_of_another, unbiased=True)  # (N, d) and (N, e), any float type

The package itself can be called: `lossatlas.similarity(models, data)` compares modules, as
`notebook.measures.similarity` says.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lossatlas.lazy import exported

if TYPE_CHECKING:
    from lossatlas.similarity.alignment import cka, cka_matrix
    from lossatlas.similarity.predictions import (
        accuracy,
        brier,
        disagreement,
        ece,
        ensemble_log_probs,
        js_divergence,
        log_softmax,
        logit_cosine,
        nll,
    )

_HOMES = {
    "accuracy": "predictions",
    "brier": "predictions",
    "cka": "alignment",
    "cka_matrix": "alignment",
    "disagreement": "predictions",
    "ece": "predictions",
    "ensemble_log_probs": "predictions",
    "js_divergence": "predictions",
    "log_softmax": "predictions",
    "logit_cosine": "predictions",
    "nll": "predictions",
}

__all__ = [
    "accuracy",
    "brier",
    "cka",
    "cka_matrix",
    "disagreement",
    "ece",
    "ensemble_log_probs",
    "js_divergence",
    "log_softmax",
    "logit_cosine",
    "nll",
]

__getattr__, __dir__ = exported(__name__, _HOMES)


class _Callable(ModuleType):
    """This package: modules of it are imported from here, and it is a function for notebooks."""

    def __call__(self, *given: Any, **settings: Any) -> Any:
        """Compare networks: `notebook.measures.similarity`."""
        from lossatlas.notebook.measures import similarity

        return similarity(*given, **settings)


sys.modules[__name__].__class__ = _Callable
