"""What each figure needs and how it is styled. No matplotlib here."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from lossatlas import plugins
from lossatlas.spec.drawings import Drawing, built_in, own
from lossatlas.spec.parts import Strict

_DIRECTIVE = re.compile(r"\.\.\s.*::")

FIGURES: dict[str, Drawing] = built_in()


def drawing_of(draws: str, where: str = "figures") -> Drawing:
    """Return what a figure declares.

    Args:
        draws: A built-in's name, an entry point's, or "package.module:object".
        where: The key of the config, for messages.

    Raises:
        UserError: If there is none, or its declaration is wrong.
    """
    target = plugins.target_of(draws, "lossatlas.figures", FIGURES, where)
    return own(target, where) if target else FIGURES[draws]


class Thresholds(Strict):
    """Where the phases part: rule R1, fitted to the boundaries drawn by Yang et al. (2021)."""

    log_hessian_trace: float = Field(5.25, description="at most this is flat (nats)")
    mode_connectivity: float = Field(-2.0, lt=0, description="below this is poorly connected (%)")
    cka: float = Field(0.71, description="from this up the replicas are similar")


class Figure(Strict):
    """Style of one figure, and the experiment that it shows."""

    draws: str = Field(
        "",
        description="built-in figure, or one's own 'package.module:object'; default: the name",
    )
    experiment: str = Field("", description="a name from `experiments`")
    limits: Literal["data", "paper"] = Field("data", description="colour limits")
    thresholds: Thresholds = Field(Thresholds(), description="of the phases")
    metrics: dict[str, str] = Field(
        {}, description="kind: named metric, if not the first of a kind"
    )
    dpi: int = Field(150, ge=50, le=1200, description="resolution of the PNG")

    caption: str = Field("", description="text of reports; default: the figure's own")

    @field_validator("caption")
    @classmethod
    def _plain(cls, value: str) -> str:
        if _DIRECTIVE.search(value):  # reports render captions, and a directive can read files
            raise ValueError("a caption has no directives ('.. name::')")
        return value
