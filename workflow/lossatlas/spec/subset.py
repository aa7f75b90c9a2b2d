"""A part of a grid, by conditions on its axes: "width<=16 and batch_size>=64"."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lossatlas.errors import UserError, nearest

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_CONDITION = re.compile(rf"\s*([A-Za-z_][\w.]*)\s*(<=|>=|!=|==|<|>|=)\s*({_NUMBER})\s*")
_FIX = "such as 'width<=16 and batch_size>=64'"


@dataclass(frozen=True)
class Condition:
    """One comparison of an axis with a number."""

    axis: str
    sign: str
    number: float

    def holds(self, point: Mapping[str, float]) -> bool:
        """Say whether a cell, axis -> value, meets it; a cell without the axis does."""
        value = point.get(self.axis)
        return value is None or _COMPARE[self.sign](float(value), self.number)


def conditions(text: str, where: str) -> list[Condition]:
    """Read conditions, joined by "and"; '' has none.

    Args:
        text: Such as "width<=16 and batch_size>=64"; = is ==.
        where: Key of the config.

    Raises:
        UserError: If a part of it is no comparison of a name with a number.
    """
    if not text.strip():
        return []
    found = []
    for part in re.split(r"\band\b", text):
        match = _CONDITION.fullmatch(part)
        if match is None:
            what = f"'{part.strip()}' does not compare an axis with a number"
            raise UserError(what, where=where, fix=_FIX)
        found.append(Condition(match[1], match[2], float(match[3])))
    return found


def check(found: list[Condition], axes: Collection[str], where: str) -> None:
    """Refuse conditions on axes that there are not.

    Raises:
        UserError: With the axis that is most like it.
    """
    for one in found:
        if one.axis not in axes:
            what = f"there is no axis '{one.axis}'"
            raise UserError(what, where=where, fix=nearest(one.axis, axes))
