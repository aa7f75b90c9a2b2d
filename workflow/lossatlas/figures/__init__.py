"""Figures: functions of tables only. `draw` calls one and writes it; each returns a `Drawn`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True)
class Tables:
    """What a figure is drawn from; the columns are those of ARCHITECTURE.md, "Records".

    Attributes:
        scalars: Rows of the metrics' scalars, concatenated.
        series: Rows of the metrics' series, concatenated.
        inferred: Phases of the cells that a refinement left out, as `refine.rounds.inferred` makes
            them; None where all cells are measured, and for figures that do not ask.
    """

    scalars: pd.DataFrame
    series: pd.DataFrame
    inferred: pd.DataFrame | None = None


class Drawn(NamedTuple):
    """A picture, and the numbers that it shows as a tidy table."""

    figure: Figure
    numbers: pd.DataFrame


def figure(
    name: str = "",
    *,
    scalars: Sequence[str] = (),
    series: Sequence[str] = (),
    axes: Sequence[str] = (),
    category: str = "",
    about: str = "",
    reference: bool = False,
    study: bool = False,
    against: bool = False,
    variants: bool = False,
    inferred: bool = False,
) -> Callable[[Function], Function]:
    """Declare a figure: a function (tables, style, load, temperature) -> `Drawn`.

    The declaration is read from the source (`spec.drawings`), because importing matplotlib would
    slow down every command, and a config must not run code. So its values are written out as texts
    and lists of texts. It does nothing when it runs.

    Args:
        name: Of a built-in figure; one of a config's own is named there.
        scalars: Metrics whose tables of scalars are read: kinds of metric, or names of the config.
        series: Metrics whose tables of series are read.
        axes: "load", "temperature" or both: axes that an experiment must have to be drawn.
        category: Where reports show it; default: the first word of the name.
        about: One sentence; default: the first of the docstring.
        reference: Drawn from the authors' published results, not from an experiment.
        study: Drawn from a study that has no cells.
        against: Compares the experiment with a second one (`figures.<name>.against`): rows of both
            are in the tables, and the column `experiment` tells them apart.
        variants: Compares metrics of one kind: reads the experiment's whole table, in which those
            of later ones are named "cka_raw.cka".
        inferred: Shows, of a refined experiment, the cells that are not measured as well.
    """
    del name, scalars, series, axes, category, about, reference, study, against, variants, inferred
    return lambda function: function
