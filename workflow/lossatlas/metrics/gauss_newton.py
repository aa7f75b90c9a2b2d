"""Curvature at the end of training, without that of the network itself."""

from __future__ import annotations

from lossatlas.metrics.base import Output
from lossatlas.metrics.hessian import Spectrum


class GaussNewton(Spectrum):
    """Top eigenvalues, trace and spectral density of the Gauss-Newton matrix of the mean loss.

    For cross entropy of a softmax, and for squares, it is the Fisher matrix, too. It has no
    negative eigenvalues: what the Hessian has beside it is the curvature of the network.
    """

    matrix = "gauss_newton"
    outputs = (
        Output(
            "gauss_newton_eigenvalue",
            "nats",
            "the largest; the others are `gauss_newton_eigenvalue_2` and so on",
        ),
        Output("gauss_newton_trace", "nats", "sum of all eigenvalues, estimated"),
    )
