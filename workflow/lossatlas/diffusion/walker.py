"""The toy model: noisy descent of many walkers at once on a surface over [-1, 1]^2.

Each step is x' = x - eta grad f(x) + noise n, n ~ N(0, 1) in both coordinates, with
f = 10 - z. Mode `paper` reads the gradient from the authors' table of 2001 x 2001 nodes; mode
`fixed` interpolates the gradient between the nodes of the surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from lossatlas.diffusion.arrays import Array, Bools, Mode
from lossatlas.diffusion.surfaces import check_surface

Wall = Literal["redraw", "reflect", "clip"]
TABLE = 2001  # nodes per side of the paper's table
REDRAWS = 501


@dataclass(frozen=True)
class Rules:
    """How walkers move.

    Attributes:
        eta: Step size along the gradient.
        noise: Standard deviation of the noise in each coordinate, not multiplied by eta.
        wall: What happens to a step that leaves the box. `redraw`: its noise is drawn again up to
            501 times, then the step is skipped. `reflect`: it is mirrored at the wall. `clip`: it
            ends at the wall. None: `redraw` in mode `paper`, else `reflect`.
        start: `uniform` in the box, `corner` (-1, -1), or one point (x, y) for all.
        mode: How gradients are read, and in `paper` a skipped step is recorded as (0, 0): a false
            jump to the centre and back, which can dominate the displacement of stuck walkers.
    """

    eta: float = 0.02
    noise: float = 0.01
    wall: Wall | None = None
    start: Literal["uniform", "corner"] | tuple[float, float] = "uniform"
    mode: Mode = "fixed"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.eta) and np.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"eta {self.eta} must be finite and noise {self.noise} >= 0")


@dataclass(frozen=True)
class Walk:
    """Paths of W walkers.

    Attributes:
        positions: (steps + 1, W, 2) x and y, the start first.
        gradients: (steps, W, 2) gradients of f that they met, or None. In mode `paper` both
            columns hold df/dy, as in the authors' code.
        stuck: (W,) whether a step was skipped after all redraws at least once.
        discarded: (W,) whether the last step was, for which the authors drop the run.
        wall_share: (W,) share of the steps at which the wall acted.
    """

    positions: Array
    gradients: Array | None
    stuck: Bools
    discarded: Bools
    wall_share: Array


class Field:
    """Gradients of f = 10 - z over the box.

    Args:
        surface: (side, side), row y and column x; or several, (S, side, side), each for an S-th of
            the points, in order.
        mode: `paper`: the surface is interpolated linearly to 2001 x 2001 nodes, differentiated
            there by central differences (one-sided on the border), and read at the first node
            above the coordinate. `fixed`: differentiated at its own nodes, and interpolated
            linearly between them.

    Raises:
        ValueError: If the surface is not square or not finite.
    """

    def __init__(self, surface: ArrayLike, mode: Mode = "fixed") -> None:
        several = np.ndim(surface) == 3
        found = [check_surface(one) for one in (np.asarray(surface) if several else [surface])]
        if mode == "paper":
            found = [_refined(z, TABLE) for z in found]
        self.mode, self.count, self.side = mode, len(found), len(found[0])
        self.nodes = np.linspace(-1, 1, self.side)
        self.table = np.concatenate([_slopes(z) for z in found])

    def __call__(self, points: Array) -> Array:
        """Return (W, 2) gradients at (W, 2) points in the box."""
        surface = np.repeat(np.arange(self.count) * self.side**2, len(points) // self.count)
        if self.mode == "paper":
            index = np.searchsorted(self.nodes, points, side="right").clip(max=self.side - 1)
            return self.table[surface + index[:, 1] * self.side + index[:, 0]]
        place = (points + 1) * ((self.side - 1) / 2)
        index = place.astype(np.int64).clip(0, self.side - 2)
        share = place - index
        x, y = share[:, :1], share[:, 1:]
        corner = surface + index[:, 1] * self.side + index[:, 0]
        low = self.table[corner] * (1 - x) + self.table[corner + 1] * x
        corner += self.side
        high = self.table[corner] * (1 - x) + self.table[corner + 1] * x
        return low * (1 - y) + high * y


def _slopes(z: Array) -> Array:
    """Return the gradients (side * side, 2) of 10 - z at the nodes."""
    along_y, along_x = np.gradient(-z, 2 / (len(z) - 1))
    return np.stack([along_x, along_y], axis=-1).reshape(-1, 2)


def walk(
    surface: ArrayLike | Field,
    rules: Rules,
    *,
    walkers: int,
    steps: int,
    rng: np.random.Generator,
    keep_gradients: bool = False,
) -> Walk:
    """Let walkers descend a surface.

    Args:
        surface: (side, side) or several (S, side, side), or their `Field` to reuse.
        rules: How they move.
        walkers: W; on several surfaces, as many on each.
        steps: Steps of each.
        rng: Draws starts and noise.
        keep_gradients: Whether to return the gradients met.

    Raises:
        ValueError: If a count is below 1, walkers cannot be divided among the surfaces, a start
            lies outside the box, or the field's mode is not that of the rules.
    """
    if walkers < 1 or steps < 1:
        raise ValueError(f"{walkers} walkers and {steps} steps: both must be at least 1")
    field = surface if isinstance(surface, Field) else Field(surface, rules.mode)
    if walkers % field.count:
        raise ValueError(f"{walkers} walkers cannot be divided among {field.count} surfaces")
    if field.mode != rules.mode:
        raise ValueError(f"the field has mode {field.mode} and the rules have mode {rules.mode}")
    wall = rules.wall or ("redraw" if rules.mode == "paper" else "reflect")
    here = _starts(rules, walkers, rng)
    positions = np.empty((steps + 1, walkers, 2))
    positions[0] = here
    gradients = np.empty((steps, walkers, 2)) if keep_gradients else None
    stuck, skipped = np.zeros(walkers, np.bool_), np.zeros(walkers, np.bool_)
    touched = np.zeros(walkers)
    for step in range(1, steps + 1):
        slope = field(here)
        if gradients is not None:
            gradients[step - 1] = slope[:, [1, 1]] if rules.mode == "paper" else slope
        drifted = here - rules.eta * slope
        there = drifted + rules.noise * rng.standard_normal(here.shape)
        out = np.flatnonzero((np.abs(there) > 1).any(axis=1))
        touched[out] += 1
        there[out], failed = _at_wall(there[out], drifted[out], rules.noise, wall, rng)
        skipped[:] = False
        skipped[out[failed]] = True
        here = np.where(skipped[:, None], here, there)
        stuck |= skipped
        lost = skipped[:, None] if rules.mode == "paper" else False
        positions[step] = np.where(lost, 0.0, here)
    return Walk(positions, gradients, stuck, skipped, touched / steps)


def _starts(rules: Rules, walkers: int, rng: np.random.Generator) -> Array:
    if rules.start == "uniform":
        return rng.uniform(-1, 1, (walkers, 2))
    point = np.array((-1.0, -1.0) if rules.start == "corner" else rules.start, dtype=np.float64)
    if point.shape != (2,) or not (np.abs(point) <= 1).all():
        raise ValueError(f"walkers must start inside [-1, 1]^2, not at {rules.start}")
    return np.tile(point, (walkers, 1))


def _at_wall(
    there: Array, drifted: Array, noise: float, wall: Wall, rng: np.random.Generator
) -> tuple[Array, Bools]:
    """Return where steps (n, 2) that left the box end, and which of them are skipped."""
    if wall == "clip":
        return there.clip(-1, 1), np.zeros(len(there), np.bool_)
    if wall == "reflect":
        mirrored = np.abs((there - 1) % 4 - 2) - 1
        return np.where(np.abs(there) > 1, mirrored, there), np.zeros(len(there), np.bool_)
    if noise == 0 or not len(there):
        return there, np.ones(len(there), np.bool_)
    return _redrawn(drifted, noise, rng)


def _redrawn(drifted: Array, noise: float, rng: np.random.Generator) -> tuple[Array, Bools]:
    """Sample the outcome of up to 501 redraws without drawing them.

    Redrawing until the step stays inside samples a normal law truncated to the box, coordinate by
    coordinate; all tries fail with probability (1 - p)^501, p the chance of one try.
    """
    low, high = (-1 - drifted) / noise, (1 - drifted) / noise
    flip = low > 0  # work in the lower tail, where the normal law has digits
    below = scipy.special.ndtr(np.where(flip, -high, low))
    above = scipy.special.ndtr(np.where(flip, -low, high))
    inside = (above - below).prod(axis=1)
    failed = rng.random(len(drifted)) < np.exp(REDRAWS * np.log1p(-inside.clip(max=1 - 1e-16)))
    normal = scipy.special.ndtri(below + rng.random(drifted.shape) * (above - below))
    there = drifted + noise * np.where(flip, -normal, normal)
    return there.clip(-1, 1), failed


def _refined(z: Array, side: int) -> Array:
    """Return z (m, m) interpolated linearly to (side, side) nodes over the same square."""
    place = np.arange(side) * ((len(z) - 1) / (side - 1))
    index = place.astype(np.int64).clip(max=len(z) - 2)
    share = place - index
    rows = z[index] * (1 - share[:, None]) + z[index + 1] * share[:, None]
    return rows[:, index] * (1 - share) + rows[:, index + 1] * share
