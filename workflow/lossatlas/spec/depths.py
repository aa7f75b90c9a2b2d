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


def _listed(*depths: int) -> Depths:
    return Depths("one of " + ", ".join(map(str, depths)), lambda depth: depth in depths)


def _from(least: int) -> Depths:
    return Depths(f"{least} or more", lambda depth: depth >= least)


def _preactivation(depth: int) -> bool:
    return depth >= 8 and (depth - 2) % (9 if depth >= 44 else 6) == 0


ANY = _from(1)
MLP = _from(0)
FULLY_CONNECTED = _from(2)
BASIC = Depths("6n + 2", lambda depth: depth >= 8 and depth % 6 == 2)
PREACTIVATION = Depths("6n + 2 below 44 and 9n + 2 from there on", _preactivation)

# Blocks, or layers, of each stage.
IMAGENET_STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
DENSE_STAGES = {
    121: (6, 12, 24, 16),
    161: (6, 12, 36, 24),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
}
IMAGENET, DENSE = _listed(*IMAGENET_STAGES), _listed(*DENSE_STAGES)
BOTTLENECKS_FROM = 50  # depth of IMAGENET
