"""The figures of Yang et al., Taxonomizing local versus global structure (NeurIPS 2021)."""

from __future__ import annotations

from lossatlas.figures.diagram import phase_diagram
from lossatlas.figures.multiples import curves, spectra
from lossatlas.figures.phase_map import phases

__all__ = ["curves", "phase_diagram", "phases", "spectra"]
