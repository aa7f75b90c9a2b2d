"""What settings that are numbers, or true and false, take: no text, no true for 1."""

from __future__ import annotations

import math
import re
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
LARGEST = 2**63 - 1
MOST = 10**9  # of epochs, points, images, ...: more than any run has


def numbers(value: Any) -> Any:
    """Return 1e-3, which YAML 1.1 reads as a text, as the number that it is; in lists as well."""
    if isinstance(value, list):
        return [numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _SCIENTIFIC.fullmatch(value) else value


def checked(value: Any, annotation: Any, most: int = LARGEST) -> Any:
    """Return what is given for a setting, with numbers as numbers.

    Pydantic takes true for 1, "8" for 8 and "True" for true.

    Args:
        value: As it stands in the config.
        annotation: The type of the setting.
        most: Largest whole number.

    Raises:
        ValueError: If it is of another kind than the setting.
    """
    kinds = _kinds(annotation)
    if kinds & {int, float} and not kinds & {str, Any, object}:
        value = numbers(value)
        for one in _leaves(value):
            _check_number(one, kinds, most)
    elif kinds and kinds <= {bool, type(None)} and not isinstance(value, bool | None):
        raise ValueError("Input should be true or false")
    return value


def plain_number(value: Any) -> bool:
    """Say whether a value holds no number that is not finite, or has no end."""
    leaves = [one for one in _leaves(value) if isinstance(one, int | float)]
    return all(
        abs(one) <= LARGEST if isinstance(one, int) else math.isfinite(one) for one in leaves
    )


def _check_number(value: Any, kinds: frozenset[Any], most: int) -> None:
    if (isinstance(value, bool) and bool not in kinds) or isinstance(value, str):
        raise ValueError(f"Input should be a valid {'number' if float in kinds else 'integer'}")
    if isinstance(value, int):
        # A cell writes 1e15 as the whole number that it is.
        limit, said = (10**300, "1e300") if float in kinds else (most, str(most))
        if abs(value) > limit:
            raise ValueError(f"Input should be at most {said}")


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for one in value for leaf in _leaves(one)]
    return [value]


@cache
def _kinds(annotation: Any) -> frozenset[Any]:
    """Return the types that a type is made of; of a dictionary those of its values."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(inner[0])
    if origin is Literal:
        return frozenset(type(one) for one in inner)
    if origin is dict:
        return _kinds(inner[1])
    if origin in (Union, UnionType, list, tuple, set, frozenset):
        return frozenset().union(*map(_kinds, inner))
    return frozenset({annotation})
