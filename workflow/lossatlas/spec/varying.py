"""Settings of metrics that vary with an axis: `epochs: {per: data_fraction, times: 50, power: -1}`.

They become plain numbers for each cell before anything else sees them: jobs, fingerprints, records
and estimates of time know just these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from lossatlas.errors import UserError, nearest
from lossatlas.spec.cells import LOAD_AXES, TEMPERATURE_AXES, Cell
from lossatlas.spec.complaints import explain
from lossatlas.spec.parts import Strict

if TYPE_CHECKING:
    from lossatlas.metrics.base import Metric

_ROUNDED: dict[str, Callable[[float], int]] = {
    "nearest": round,
    "down": math.floor,
    "up": math.ceil,
}


class Varying(Strict):
    """A number that varies with an axis: times * value ** power."""

    per: str = Field(description="the axis; a cell of an experiment without it has a value, too")
    times: float = Field(1.0, description="what the power of the cell's value is multiplied by")
    power: float = Field(1.0, description="of the cell's value on that axis; -1: divided by it")
    round: Literal["nearest", "down", "up"] | None = Field(
        None, description="to a whole number; without it, a setting that needs one refuses others"
    )

    def at(self, cell: Cell) -> int | float:
        """Return the number of a cell.

        Raises:
            ValueError: If the cell has no such value, or the result is not finite.
        """
        value = cell.axis(self.per)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.per} is {'not known' if value is None else value}")  # noqa: TRY004
        try:
            found = self.times * float(value) ** self.power
        except (OverflowError, ZeroDivisionError):
            found = math.inf
        if isinstance(found, complex) or not math.isfinite(found):
            raise ValueError(f"{self.times:g} * {value} ** {self.power:g} is no finite number")
        whole = round(found)
        if math.isclose(found, whole, rel_tol=1e-9):  # 50 / 0.1 is one, up to rounding
            return whole
        return found if self.round is None else _ROUNDED[self.round](found)


def varying(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some settings that vary with an axis, as they stand in the config."""
    return {key: one for key, one in settings.items() if isinstance(one, dict) and "per" in one}


def check(settings: Mapping[str, Any], metric: type[Metric], where: str) -> None:
    """Refuse settings whose rule is wrong, or that must not vary.

    Args:
        settings: Of the metric, as they stand in the config.
        metric: Its class.
        where: Its key in the config.

    Raises:
        UserError: With the key that is wrong and the nearest fix.
    """
    for key, given in varying(settings).items():
        place = f"{where}.{key}"
        if key not in metric.model_fields:
            fix = nearest(key, metric.model_fields)
            raise UserError(f"unknown key '{key}'", where=where, fix=fix)
        if key in metric.costs_only:
            what = "changes memory and time alone, and is the same for all cells"
            raise UserError(what, where=place, fix="a number")
        try:
            rule = Varying(**given)
        except ValidationError as error:
            told = explain(error, Varying)
            inside = "" if told.where == "config" else f".{told.where}"
            raise UserError(told.what, where=f"{place}{inside}", fix=told.fix) from None
        known = {**LOAD_AXES, **TEMPERATURE_AXES}
        if rule.per not in known and not rule.per.startswith("model."):
            fix = f"{nearest(rule.per, known)}, or 'model.<argument>'"
            raise UserError(f"unknown axis '{rule.per}'", where=f"{place}.per", fix=fix)


def resolved(settings: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """Return settings as plain values for a cell.

    Raises:
        ValueError: If a number cannot be had.
    """
    return {**settings, **{key: Varying(**one).at(cell) for key, one in varying(settings).items()}}
