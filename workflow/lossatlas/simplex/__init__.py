"""Simplexes of low loss and fast ensembles in them (Benton et al., ICML 2021).

For two networks of your own, trained alike:

    from lossatlas.data.tensors import Split
    from lossatlas.models.functional import Functional, flatten, state_of
    from lossatlas.simplex import evaluate, grow, raster, shape_of, shared
    from lossatlas.metrics.spro import Spro

    functional, (start, buffers), (end, _) = Functional(one), state_of(one), state_of(other)
    train, test = Split(images, labels), Split(test_images, test_labels)
    modes = torch.stack([flatten(start), flatten(end)])
    found = grow(functional, buffers, modes, train, shared([0, 1], connectors=2), Spro(epochs=20))
    volume = shape_of(found.vertices[[0, 2, 3]]).log_volume  # of the first mode's simplex
    plane = raster(found.vertices[:3], 21)
    loss, error = evaluate(
        functional, found.vertices[:3], plane.weights, buffers, test, norm_images=train.images
    )

The functions are imported on first use, so that importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossatlas.lazy import exported

if TYPE_CHECKING:
    from lossatlas.simplex.complexes import Complex, grown, listed, shared
    from lossatlas.simplex.ensembles import mixture, scaled, temperature
    from lossatlas.simplex.geometry import Shape, cayley_menger, shape_of
    from lossatlas.simplex.planes import Plane, evaluate, raster
    from lossatlas.simplex.points import log_probs
    from lossatlas.simplex.sampling import in_complex, uniform
    from lossatlas.simplex.spro import Grown, grow

_HOMES = {
    "Complex": "complexes",
    "Grown": "spro",
    "Plane": "planes",
    "Shape": "geometry",
    "cayley_menger": "geometry",
    "evaluate": "planes",
    "grow": "spro",
    "grown": "complexes",
    "in_complex": "sampling",
    "listed": "complexes",
    "log_probs": "points",
    "mixture": "ensembles",
    "raster": "planes",
    "scaled": "ensembles",
    "shape_of": "geometry",
    "shared": "complexes",
    "temperature": "ensembles",
    "uniform": "sampling",
}

__all__ = [
    "Complex",
    "Grown",
    "Plane",
    "Shape",
    "cayley_menger",
    "evaluate",
    "grow",
    "grown",
    "in_complex",
    "listed",
    "log_probs",
    "mixture",
    "raster",
    "scaled",
    "shape_of",
    "shared",
    "temperature",
    "uniform",
]

__getattr__, __dir__ = exported(__name__, _HOMES)
