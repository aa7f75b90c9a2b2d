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


# Rule R1: what fits the boundaries that Yang et al. (2021) drew for ResNet18 on CIFAR-10.
PUBLISHED = {"log_hessian_trace": 5.25, "mode_connectivity": -2.0, "cka": 0.71}


REHEARSAL = "Rehearsal: not a result"  # above figures
ABOUT_REHEARSAL = (
    "A rehearsal, and not a result: the jobs of the config on made data, or on the first examples"
    " of one's own, and for few steps."
)


class Thresholds(Strict):
    """Where the phases part; numbers that are given stand for those of the rule."""

    rule: Literal["nulls", "published"] | None = Field(
        None,
        description="where no number is given. 'nulls': flat is the median trace of the cells "
        "that have learned, or less; poorly connected is below 0 by more than the standard error "
        "of the cell; similar is 0.71, as published. 'published': rule R1, fitted to CIFAR-10: "
        "5.25, -2 and 0.71. Default: 'published' for the published results, else 'nulls'",
    )
    log_hessian_trace: float | None = Field(None, description="at most this is flat (nats)")
    mode_connectivity: float | None = Field(
        None, lt=0, description="below this is poorly connected (%)"
    )
    cka: float | None = Field(None, description="from this up the replicas are similar")
    chance: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of ln(classes) by which the training loss of a cell must lie below it, "
        "or it has not learned and has no phase",
    )

    def number(self, name: str) -> float | None:
        """Return a threshold; None where it follows from the grid or from errors."""
        given: float | None = getattr(self, name)
        fixed = self.rule == "published" or name == "cka"
        return PUBLISHED[name] if given is None and fixed else given


class Figure(Strict):
    """Style of one figure, and the experiment that it shows."""

    draws: str = Field(
        "",
        description="built-in figure, or one's own 'package.module:object'; default: the name",
    )
    experiment: str = Field("", description="a name from `experiments`")
    against: str = Field(
        "", description="a second experiment, of figures that compare two: what is subtracted"
    )
    limits: Literal["data", "paper"] = Field("data", description="colour limits")
    thresholds: Thresholds = Field(Thresholds(), description="of the phases")
    metrics: dict[str, str] = Field(
        {}, description="kind: named metric, if not the first of a kind"
    )
    dpi: int = Field(300, ge=50, le=1200, description="resolution of the PNG")

    caption: str = Field("", description="text of reports; default: the figure's own")

    @field_validator("caption")
    @classmethod
    def _plain(cls, value: str) -> str:
        if _DIRECTIVE.search(value):  # reports render captions, and a directive can read files
            raise ValueError("a caption has no directives ('.. name::')")
        return value


Style = Figure  # what the function of a figure gets, as `la.Style`
