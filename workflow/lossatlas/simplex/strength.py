"""How strong the volume term is: the setting itself, or the rule of the authors' code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from lossatlas.models.functional import Functional
from lossatlas.simplex.complexes import Complex
from lossatlas.simplex.geometry import regular_log_volume
from lossatlas.simplex.volume_term import PAPER_EPSILON

if TYPE_CHECKING:
    from lossatlas.metrics.spro import Spro

FLOOR = 1e-8


def strength(functional: Functional, plan: Complex, connector: int, settings: Spro) -> float:
    """Return the strength of the volume term while a connector is trained.

    Mode "fixed": the setting. Mode "paper": `rule` for the dimension of the first simplex; between
    several modes 0 for the first connector, and for the others `rule` for one dimension more: the
    authors' list of strengths then begins with that of four vertices, where there are three.
    """
    if settings.mode == "fixed":
        return settings.regularisation
    dimension = len(plan.around(connector)[0]) - 1
    if len(plan.modes) > 1:
        if not connector:
            return 0.0
        dimension += 1
    return rule(settings.regularisation, random_squared_edge(functional.module), dimension)


def rule(regularisation: float, squared_edge: float, dimension: int) -> float:
    """Return max(regularisation / log(V^2 + 1e-4), 1e-8) with V of a random simplex.

    Randomly initialised networks span an almost regular simplex, so V is known in closed form (to
    1%). Where V^2 + 1e-4 is below 1 the quotient is negative and the floor wins.
    """
    doubled = 2.0 * regular_log_volume(squared_edge, dimension)
    log = float(np.logaddexp(doubled, math.log(PAPER_EPSILON)))
    return max(regularisation / log, FLOOR) if log else FLOOR


def random_squared_edge(module: nn.Module) -> float:
    """Return the expected squared distance of two networks drawn from U(-1, 1) / sqrt(fan-in).

    Weights and biases of layers with a weight matrix or kernel, as the authors' layers draw both:
    2/3 of the sum over layers of out (1 + 1 / fan-in). Other parameters start equal.
    """
    total = 0.0
    for layer in module.modules():
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if isinstance(weight, Tensor) and weight.dim() >= 2:
            fan_in = weight[0].numel()
            count = weight.numel() + (bias.numel() if isinstance(bias, Tensor) else 0)
            total += count * 2.0 / (3.0 * fan_in)
    return total
