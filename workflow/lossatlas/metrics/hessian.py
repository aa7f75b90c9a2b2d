"""Curvature at the end of training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from lossatlas.metrics.base import IMAGES, Given, Memory, Metric, Mode, Output, Passes, Unit

if TYPE_CHECKING:
    from lossatlas.spec.plan import PlannedCell
    from lossatlas.store import Record
    from lossatlas.training.state import State


class Spectrum(Metric):
    """Top eigenvalues, trace and spectral density of a symmetric matrix of the mean loss.

    Attributes:
        matrix: Begins the names of its numbers and curves.
    """

    matrix: ClassVar[str] = ""
    resumes = True
    costs_only = ("chunk",)

    samples: int = Field(512, ge=1, description="training images in the loss")
    eigenvalues: int = Field(1, ge=1, description="how many of the largest in modulus")
    iterations: int = Field(
        60,
        ge=2,
        description="most Lanczos products, and as many to look for copies of several values",
    )
    tolerance: float = Field(1e-3, gt=0, description="relative residual at which a value converged")
    probes: int = Field(40, ge=3, description="products spent on the trace")
    density_probes: int = Field(2, ge=0, description="starting vectors of the spectral density")
    density_steps: int = Field(30, ge=2, description="Lanczos steps of each")
    parameters: str = Field("", description="regular expression that picks parameters; '' is all")
    chunk: int = Field(
        512, ge=1, description="images per pass; the loss is accumulated over passes"
    )
    seed: int = Field(0, ge=0, description="seed of the images and of the probes")

    @field_validator("parameters")
    @classmethod
    def _expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is not a regular expression ({error})") from None
        return value

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Measure each replica."""
        from lossatlas.curvature.measure import measure

        return measure(given.networks, self, state, [seed for (seed,) in units])

    @property
    def as_paper(self) -> bool:
        """Whether the authors' estimators are asked for."""
        return False

    @property
    def by_differences(self) -> bool:
        """Whether products are central differences of gradients."""
        return False

    @property
    def products(self) -> int:
        """Hessian-vector products of one replica, at most."""
        products = self.iterations + self.probes + self.density_probes * self.density_steps
        return products + (self.iterations if self.eigenvalues > 1 else 0)

    def passes(self, planned: PlannedCell) -> Passes:
        """One pass per product."""
        return [(len(planned.seeds) * self.products, 12, self.samples)]

    def memory(self, planned: PlannedCell) -> Memory:
        """The basis of Lanczos, and images that are differentiated twice."""
        held = super().memory(planned)
        basis = max(self.iterations + self.probes // 2, self.density_steps)
        if self.eigenvalues > 1:  # a second basis looks for copies
            basis += self.iterations + 2 * self.eigenvalues
        images = max(IMAGES, 3 * min(self.chunk, self.samples) // 2)
        return replace(held, vectors=held.vectors + basis, images=images)


class Hessian(Spectrum):
    """Top eigenvalues, trace and spectral density of the Hessian of the mean cross entropy."""

    PAPER: ClassVar[dict[str, Any]] = {"samples": 200, "iterations": 100, "probes": 100}

    matrix = "hessian"
    outputs = (
        Output(
            "hessian_eigenvalue",
            "nats",
            "largest in modulus; the others are `hessian_eigenvalue_2` and so on",
        ),
        Output("hessian_trace", "nats", "sum of all eigenvalues, estimated"),
    )

    mode: Mode = Field("fixed", description="'paper': power iteration and Hutchinson's trace")
    samples: int = Field(512, ge=1, description="training images in the loss; 200 in mode 'paper'")
    iterations: int = Field(
        60,
        ge=2,
        description="most Lanczos products, and as many to look for copies of several values; in"
        " mode 'paper' 100, of power iteration",
    )
    probes: int = Field(
        40, ge=3, description="products spent on the trace; in mode 'paper' 100 at most"
    )
    differences: bool = Field(
        False,
        description="central differences of gradients, where an operation has no second derivative:"
        " about half of the digits",
    )

    @property
    def as_paper(self) -> bool:
        """Whether the authors' estimators are asked for."""
        return self.mode == "paper"

    @property
    def by_differences(self) -> bool:
        """Whether products are central differences of gradients."""
        return self.differences
