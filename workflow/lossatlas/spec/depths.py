"""Depths in which families of networks exist, and the nearest one to a depth in which none does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Depths:
    """The depths of a family: the rule in words, and as a function."""

    rule: str
    holds: Callable[[int], bool]

    def nearest(self, depth: float) -> int:
        """Return the depth of the family that is nearest to a number; of two, the smaller."""
        start = max(0, round(depth))
        for distance in count():
            for candidate in (start - distance, start + distance):
                if candidate >= 0 and self.holds(candidate):
                    return candidate
        raise AssertionError  # not reached: every family has a depth

    def check(self, depth: int) -> None:
        """Refuse a depth in which there is no network.

        Raises:
            ValueError: With the nearest depth that there is.
        """
        if not self.holds(depth):
            raise ValueError(
                f"depth is {self.rule}, not {depth}: the nearest is {self.nearest(depth)}"
            )


def listed(*depths: int) -> Depths:
    """Return a family of these depths."""
    return Depths("one of " + ", ".join(map(str, depths)), lambda depth: depth in depths)


def at_least(least: int) -> Depths:
    """Return a family of all depths from `least` up."""
    return Depths(f"{least} or more", lambda depth: depth >= least)


ANY = at_least(1)
