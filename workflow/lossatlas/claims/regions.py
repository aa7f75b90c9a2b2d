"""Regions of the plane of load and temperature: are there four, and where do they meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lossatlas.claims.cells import Cells
from lossatlas.claims.conditions import NotTestableError
from lossatlas.claims.statistics import Floats, Test, rearranged

FOUR = ("I", "II", "III", "IV")
SHARP = ("I", "II")
POOR = ("I", "III")


def four(phase: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return phases with IV-A and IV-B as one."""
    return np.where(np.char.startswith(phase, "IV"), "IV", phase)


@dataclass(frozen=True)
class Regions:
    """Whether phases are regions of the plane.

    Attributes:
        lacking: Phases that no cell has.
        alike: Share of neighbours that are in one phase.
        test: Of that share being larger than with the phases of all cells permuted (join count).
    """

    lacking: list[str]
    alike: float
    test: Callable[[], Test]


def shown(found: Regions) -> str:
    """Return regions in words."""
    lacking = f"no cell in {', '.join(found.lacking)}" if found.lacking else "phases I to IV"
    return f"{lacking}, {found.alike:.0%} of neighbours in one phase"


def regions(cells: Cells, phase: NDArray[np.str_]) -> Regions:
    """Return the regions that the phases of cells (n,) make.

    Raises:
        NotTestableError: If no two neighbours have a phase.
    """
    known = phase != ""
    pairs = cells.neighbours()
    pairs = (np.cumsum(known) - 1)[pairs[known[pairs].all(axis=1)]]
    if not len(pairs):
        raise NotTestableError("no two neighbours have a phase")
    codes = np.array([FOUR.index(name) for name in four(phase[known])], dtype=np.float64)

    def alike(lines: Sequence[Floats]) -> Floats:
        (drawn,) = lines
        found: Floats = (drawn[:, pairs[:, 0]] == drawn[:, pairs[:, 1]]).mean(axis=1)
        return found

    lacking = [name for index, name in enumerate(FOUR) if index not in codes]
    share = float(alike([codes[None]])[0])
    return Regions(lacking, share, partial(rearranged, [codes], alike, "cells"))


def at_border(cells: Cells) -> NDArray[np.bool_]:
    """Say which cells (n,) have a neighbour on the other side of the connectivity transition."""
    known, poor = cells.phase != "", np.isin(cells.phase, POOR)
    found = np.zeros(len(known), dtype=np.bool_)
    for one, two in cells.neighbours():
        if known[one] and known[two] and poor[one] != poor[two]:
            found[[one, two]] = True
    return found
