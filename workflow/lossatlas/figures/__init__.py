"""Figures: functions of tables only. `draw` calls one and writes it; each returns a `Drawn`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Tables:
    """What a figure is drawn from; the columns are those of ARCHITECTURE.md, "Records".

    Attributes:
        scalars: Rows of the metrics' scalars, concatenated.
        series: Rows of the metrics' series, concatenated.
    """

    scalars: pd.DataFrame
    series: pd.DataFrame


class Drawn(NamedTuple):
    """A picture, and the numbers that it shows as a tidy table."""

    figure: Figure
    numbers: pd.DataFrame
