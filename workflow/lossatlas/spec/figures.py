"""What each figure needs and how it is styled. No matplotlib here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from lossatlas.errors import nearest
from lossatlas.spec.parts import Strict


@dataclass(frozen=True)
class Drawing:
    """A built-in figure: its function, and the kinds of metric whose tables it reads."""

    target: str
    scalars: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    reference: bool = False  # drawn from the authors' published results, not from an experiment
    study: bool = False  # drawn from a study that has no cells


_ALL = ("performance", "hessian", "connectivity", "cka", "distance")
_PHASES = ("performance", "hessian", "connectivity", "cka")
_WALK = (("diffusion",), ("diffusion",))

FIGURES: dict[str, Drawing] = {
    "taxonomy_phase_diagram": Drawing("lossatlas.figures.taxonomy:phase_diagram", _ALL),
    "taxonomy_phases": Drawing("lossatlas.figures.taxonomy:phases", _PHASES),
    "taxonomy_curves": Drawing(
        "lossatlas.figures.taxonomy:curves", ("connectivity",), ("connectivity",)
    ),
    "taxonomy_spectra": Drawing("lossatlas.figures.taxonomy:spectra", ("hessian",), ("hessian",)),
    "taxonomy_reference_phase_diagram": Drawing(
        "lossatlas.figures.taxonomy:phase_diagram", _ALL, reference=True
    ),
    "taxonomy_reference_phases": Drawing(
        "lossatlas.figures.taxonomy:phases", _PHASES, reference=True
    ),
    "simplex_planes": Drawing("lossatlas.figures.simplex_landscape:planes", (), ("simplex",)),
    "simplex_complex_3d": Drawing(
        "lossatlas.figures.simplex_landscape:complex_3d", (), ("simplex",)
    ),
    "simplex_volume": Drawing(
        "lossatlas.figures.simplex_landscape:volume", (), ("simplex_volume",)
    ),
    "simplex_ensembles": Drawing("lossatlas.figures.simplex_ensembles:ensembles", (), ("espro",)),
    "simplex_calibration": Drawing(
        "lossatlas.figures.simplex_ensembles:calibration", (), ("espro",)
    ),
    "simplex_corruption": Drawing("lossatlas.figures.simplex_ensembles:corruption", (), ("espro",)),
    "simplex_two_spirals": Drawing(
        "lossatlas.figures.simplex_notebooks:two_spirals", (), ("two_spirals",), study=True
    ),
    "simplex_sampling_bias": Drawing(
        "lossatlas.figures.simplex_notebooks:sampling_bias", (), ("sampling_bias",), study=True
    ),
    "diffusion_fig2_msd": Drawing("lossatlas.figures.diffusion:displacement", *_WALK),
    "diffusion_fig3_trapping": Drawing("lossatlas.figures.diffusion:trapping", *_WALK),
    "diffusion_fig4_toy": Drawing(
        "lossatlas.figures.diffusion_more:toy", ("toy_walkers",), ("toy_walkers",), study=True
    ),
    "diffusion_fig5_gradients": Drawing("lossatlas.figures.diffusion:gradients", *_WALK),
    "diffusion_controls": Drawing("lossatlas.figures.diffusion:controls", *_WALK),
    "diffusion_landscape_fractal": Drawing(
        "lossatlas.figures.diffusion_more:fractal", ("landscape",), ("landscape",)
    ),
    "diffusion_s1_msd": Drawing("lossatlas.figures.diffusion_more:all_windows", *_WALK),
    "diffusion_s2_hessian": Drawing(
        "lossatlas.figures.diffusion_hessian:hessian", (), ("hessian_path",)
    ),
    "diffusion_s3_depth_batch": Drawing(
        "lossatlas.figures.diffusion_trends:depth_and_batch", *_WALK
    ),
    "diffusion_s4_learning_rate": Drawing(
        "lossatlas.figures.diffusion_trends:learning_rates", *_WALK
    ),
}


class Thresholds(Strict):
    """Where the phases part: rule R1, fitted to the boundaries drawn by Yang et al. (2021)."""

    log_hessian_trace: float = Field(5.25, description="at most this is flat (nats)")
    mode_connectivity: float = Field(-2.0, lt=0, description="below this is poorly connected (%)")
    cka: float = Field(0.71, description="from this up the replicas are similar")


class Figure(Strict):
    """Style of one figure, and the experiment that it shows."""

    draws: str = Field("", description="the built-in figure; default: the entry's own name")
    experiment: str = Field("", description="a name from `experiments`")
    limits: Literal["data", "paper"] = Field("data", description="colour limits")
    thresholds: Thresholds = Field(Thresholds(), description="of the phases")
    metrics: dict[str, str] = Field(
        {}, description="kind: named metric, if not the first of a kind"
    )
    dpi: int = Field(150, ge=50, le=1200, description="resolution of the PNG")

    @field_validator("draws")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in FIGURES:
            raise ValueError(f"unknown figure '{value}' ({nearest(value, FIGURES)})")
        return value
