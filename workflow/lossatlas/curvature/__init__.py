"""Curvature of the loss: Hessian-vector products, eigenvalues, trace and spectral density.

For any module of your own, at its present weights:

    from lossatlas.curvature import density, hessian_of, top_eigenvalues, trace
    from lossatlas.training.seeds import generator

    hessian = hessian_of(module, images, labels, parameters="head")  # of the mean cross entropy
    top = top_eigenvalues(hessian, 3, generator=generator("start", 0))
    print(top.values, top.residuals, top.converged)
    total = trace(hessian, 40, generator=generator("probes", 0))
    print(total.value, total.stderr)
    spectrum = density(hessian, generator=generator("density", 0))  # spectrum.x, spectrum.y
"""

from __future__ import annotations

from lossatlas.curvature.density import Density, density
from lossatlas.curvature.gauss_newton import GaussNewtonOperator
from lossatlas.curvature.lanczos import Eigenvalues, Lanczos, power_iteration, top_eigenvalues
from lossatlas.curvature.operator import HessianOperator, LinearOperator, hessian_of
from lossatlas.curvature.trace import Trace, hutchinson_paper, trace

__all__ = [
    "Density",
    "Eigenvalues",
    "GaussNewtonOperator",
    "HessianOperator",
    "Lanczos",
    "LinearOperator",
    "Trace",
    "density",
    "hessian_of",
    "hutchinson_paper",
    "power_iteration",
    "top_eigenvalues",
    "trace",
]
