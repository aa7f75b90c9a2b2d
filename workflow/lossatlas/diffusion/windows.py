"""Which steps of a run are analysed together."""

from __future__ import annotations


def windows(points: int, length: int, stride: int | None = None) -> list[tuple[int, int]]:
    """Return (first, end) of each full window of a run; a partial last window is left out.

    Args:
        points: Recorded points of the run.
        length: Points per window.
        stride: Points between the starts of windows; smaller than `length` makes them overlap.
            Default: `length`.

    Raises:
        ValueError: If the length or the stride is below 1 (a window needs 2 points), or the window
            is longer than the run.
    """
    step = length if stride is None else stride
    if length < 2:
        raise ValueError(f"a window needs at least 2 points, not {length}")
    if step < 1:
        raise ValueError(f"the stride of windows must be at least 1, not {step}")
    if length > points:
        raise ValueError(f"a window of {length} points is longer than the run of {points} points")
    return [(first, first + length) for first in range(0, points - length + 1, step)]


def paper_windows(
    epochs: int, steps_per_epoch: int, length: int = 1000, *, losing: bool = False
) -> list[tuple[int, int]]:
    """Return (first, end) of the windows as the authors' code forms them, in whole epochs.

    Epochs are appended until slots x steps_per_epoch > length. The first window starts to count at
    slot 1 and the later ones at slot 2, so that these have one epoch less. The last, unfinished
    window is left out. Source: the loop of
    `SGD_analysis_step_level.m`.

    Args:
        epochs: Epochs of the run.
        steps_per_epoch: Optimiser steps per epoch.
        length: Nominal steps of a window (1000; 10000 for the long windows of Fig. 2d).
        losing: As in the last published version, where each shorter window fails and is lost, so
            that windows have the length of the first one and lie that plus a shorter one apart.

    Raises:
        ValueError: If a count is below 1 or the run has no full window.
    """
    if min(epochs, steps_per_epoch, length) < 1:
        raise ValueError("epochs, steps per epoch and window length must be at least 1")
    long = length // steps_per_epoch + 1
    short = max(long - 1, 1)
    found, epoch, size = [], 0, long
    while epoch + size <= epochs:
        found.append((epoch * steps_per_epoch, (epoch + size) * steps_per_epoch))
        epoch += size + (short if losing else 0)
        size = long if losing else short
    if not found:
        raise ValueError(f"a window of {long} epochs is longer than the run of {epochs} epochs")
    return found
