"""Anomalous diffusion of SGD: trajectories, their noise, and walkers on fractal landscapes.

Pure functions on NumPy arrays. For weights of your own, one row per step:

    from lossatlas.diffusion import (
        fit_exponent, path_of_points, squared_distances, time_averaged_msd, without_drift
    )

    path = path_of_points(weights)  # (T, P), or `path_of_chunks` if they do not fit into memory
    msd = time_averaged_msd(squared_distances(path), rng=numpy.random.default_rng(0))
    exponent = fit_exponent(msd, 10, 100)
    print(exponent.value, exponent.stderr)
    steady = time_averaged_msd(squared_distances(without_drift(path)))

Source: G. Chen, C. K. Qu, P. Gong, "Anomalous diffusion dynamics of learning in deep neural
networks", Neural Networks 149 (2022), arXiv:2009.10588. The functions are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossatlas.lazy import exported

if TYPE_CHECKING:
    from lossatlas.diffusion.contour import (
        mean_contour_length,
        msd_against_contour,
        msl_against_contour,
        msl_against_distance,
    )
    from lossatlas.diffusion.excursions import transverse_excursions
    from lossatlas.diffusion.exponents import fit_exponent, local_exponents, two_segments
    from lossatlas.diffusion.gram import (
        Path,
        path_of_chunks,
        path_of_gram,
        path_of_points,
        squared_distances,
        without_drift,
    )
    from lossatlas.diffusion.msd import time_averaged_msd, velocity_autocorrelation
    from lossatlas.diffusion.roughness import box_counting, radial_spectrum, structure_function
    from lossatlas.diffusion.stable import fit_by_characteristic, fit_by_quantiles
    from lossatlas.diffusion.surfaces import diamond_square
    from lossatlas.diffusion.surrogates import surrogate
    from lossatlas.diffusion.tails import fit_power_law
    from lossatlas.diffusion.walker import Rules, walk

_HOMES = {
    "Path": "gram",
    "Rules": "walker",
    "box_counting": "roughness",
    "diamond_square": "surfaces",
    "fit_by_characteristic": "stable",
    "fit_by_quantiles": "stable",
    "fit_exponent": "exponents",
    "fit_power_law": "tails",
    "local_exponents": "exponents",
    "mean_contour_length": "contour",
    "msd_against_contour": "contour",
    "msl_against_contour": "contour",
    "msl_against_distance": "contour",
    "path_of_chunks": "gram",
    "path_of_gram": "gram",
    "path_of_points": "gram",
    "radial_spectrum": "roughness",
    "squared_distances": "gram",
    "structure_function": "roughness",
    "surrogate": "surrogates",
    "time_averaged_msd": "msd",
    "transverse_excursions": "excursions",
    "two_segments": "exponents",
    "velocity_autocorrelation": "msd",
    "walk": "walker",
    "without_drift": "gram",
}

__all__ = [
    "Path",
    "Rules",
    "box_counting",
    "diamond_square",
    "fit_by_characteristic",
    "fit_by_quantiles",
    "fit_exponent",
    "fit_power_law",
    "local_exponents",
    "mean_contour_length",
    "msd_against_contour",
    "msl_against_contour",
    "msl_against_distance",
    "path_of_chunks",
    "path_of_gram",
    "path_of_points",
    "radial_spectrum",
    "squared_distances",
    "structure_function",
    "surrogate",
    "time_averaged_msd",
    "transverse_excursions",
    "two_segments",
    "velocity_autocorrelation",
    "walk",
    "without_drift",
]

__getattr__, __dir__ = exported(__name__, _HOMES)
