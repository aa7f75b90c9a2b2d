"""Convolutions of 3 x 3 over small planes on the CPU, with a quarter of the products.

Along one axis, m places of a convolution with three taps need only m + 2 products of numbers that
are sums of inputs with sums of taps (Toom 1963, Cook 1966; for networks Lavin and Gray, 2016). In
two axes the products of a plane of 4 x 4 are 36 in place of 144, each of them a matrix over
channels and images, and products of matrices are what a processor does best.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from lossatlas.models.derivatives import backward

PLANE = 8  # largest side of a plane on which the sums cost less than the products they save
TRAINED, USED = 64, 128  # fewest channels, in and out: with gradients, and without
IMAGES = 16  # fewest images

# Beside infinity, by how many places a tile has. In float32 these round least of those tried: six
# times as much as torch, where 0, 1, -1, 2, -2 round 14 times as much.
_POINTS = {2: (0.0, 1.0, -1.0), 3: (0.0, 0.7, -0.7, 1.4), 4: (0.0, 2 / 3, -2 / 3, 1.5, -1.5)}


def fits(x: Tensor, weight: Tensor, *, tracked: bool) -> bool:
    """Say whether this way is faster for plain images and weights.

    Args:
        x: (N, C, H, W).
        weight: (O, C, 3, 3).
        tracked: Whether gradients are wanted.
    """
    enough = min(weight.shape[:2]) >= (TRAINED if tracked else USED)
    return enough and max(x.shape[2:]) <= PLANE and len(x) >= IMAGES


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a convolution with one row of zeros around the images.

    Args:
        x: (N, C, H, W), fastest channels last.
        weight: (O, C, 3, 3).
        bias: (O,).

    Returns:
        (N, O, H, W), channels last.
    """
    y: Tensor = _Winograd.apply(x, weight, bias)
    return y


class _Winograd(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        images, channels, height, width = x.shape
        tall, wide = _axis(height, x.dtype), _axis(width, x.dtype)
        taps = _taps(height, width, x.dtype)
        sums = _both(_places_first(x), tall.into, wide.into)
        kernels = taps.mm(weight.reshape(-1, 9).T).view(-1, *weight.shape[:2])
        kernels = _per_tile(kernels, tall, wide)
        y = torch.bmm(sums.view(len(kernels), -1, channels), kernels.transpose(1, 2))
        ctx.save_for_backward(x, weight, sums, kernels)
        ctx.axes, ctx.taps = (tall, wide), taps
        y = _both(y.view(tall.rows, wide.rows, images, len(weight)), tall.back, wide.back)
        y = _images_first(y)
        return y if bias is None else y.add_(bias[:, None, None])

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, sums, kernels = ctx.saved_tensors
        if torch.is_grad_enabled():  # this is itself to be differentiated, which torch's own can be
            return backward(slope, x, weight, list(ctx.needs_input_grad))
        images, channels = x.shape[:2]
        tall, wide = ctx.axes
        before = for_weight = for_bias = None
        if ctx.needs_input_grad[2]:
            for_bias = slope.sum(dim=(0, 2, 3))
        slope = _both(_places_first(slope), tall.back.T, wide.back.T)
        slope = slope.view(len(kernels), -1, len(weight))
        if ctx.needs_input_grad[0]:
            before = torch.bmm(slope, kernels).view(tall.rows, wide.rows, images, channels)
            before = _images_first(_both(before, tall.into.T, wide.into.T))
        if ctx.needs_input_grad[1]:
            product = torch.bmm(slope.transpose(1, 2), sums.view(len(kernels), -1, channels))
            if tall.tiles > 1:
                product = product.view(tall.products, tall.tiles, wide.products, -1).sum(1)
            for_weight = product.view(len(ctx.taps), -1).T.mm(ctx.taps).view(weight.shape)
        return before, for_weight, for_bias


class _Axis:
    """How a convolution with three taps is done along an axis of so many places.

    Attributes:
        into: (rows, side), the sums of inputs; rows are products, each for every tile.
        back: (side, rows), the sums of products.
        taps: (products, 3), the sums of taps.
        products: Per tile.
        tiles: How many pieces the axis is cut into.
    """

    def __init__(self, side: int, dtype: torch.dtype) -> None:
        into, back, taps = _matrices(side)
        self.products, self.tiles = into.shape[:2]
        self.rows = self.products * self.tiles
        self.into = _tensor(into.reshape(self.rows, side), dtype)
        self.back = _tensor(back.reshape(side, self.rows), dtype)
        self.taps = _tensor(taps, dtype)


def _tensor(matrix: np.ndarray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(matrix)).to(dtype)


@lru_cache(maxsize=64)
def _axis(side: int, dtype: torch.dtype) -> _Axis:
    with torch.inference_mode(mode=False):  # it is kept, and others may want gradients
        return _Axis(side, dtype)


@lru_cache(maxsize=64)
def _taps(height: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return (products, 9), the sums of a kernel's entries in both directions."""
    with torch.inference_mode(mode=False):
        return torch.kron(_axis(height, dtype).taps, _axis(width, dtype).taps)


def _matrices(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return into (products, tiles, side), back (side, products, tiles), taps (products, 3).

    Two places and the zeros beside them are the product of a vector of two with a matrix of three
    numbers, the taps; so there inputs and taps change their parts, and three products are enough.
    """
    if side == 1:
        return np.ones((1, 1, 1)), np.ones((1, 1, 1)), np.array([[0.0, 1.0, 0.0]])
    if side == 2:
        back, into, taps = _toom(2, 2, (0.0, 1.0))
        return into[:, None, :], back[::-1, :, None].copy(), taps
    places = min(_POINTS, key=lambda m: ((m + 2) * -(-side // m), m))
    tiles = -(-side // places)
    outputs, taps, inputs = _toom(places, 3, _POINTS[places])
    into = np.zeros((places + 2, tiles, side))
    back = np.zeros((side, places + 2, tiles))
    for tile in range(tiles):
        first = tile * places
        for column in range(places + 2):
            if 0 <= (place := first + column - 1) < side:
                into[:, tile, place] = inputs[:, column]
        back[first : first + places, :, tile] = outputs[: side - first]
    return into, back, taps


def _toom(m: int, r: int, points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A (m, n), G (n, r), B (n, n): A (G g * B d) is the correlation of d with g.

    A product of polynomials of m and r coefficients is known by its values at n = m + r - 1 points,
    the last of them infinity; its transpose is the correlation (Winograd 1980).
    """
    n = m + r - 1

    def values(coefficients: int) -> np.ndarray:
        at = np.vander(np.array(points), coefficients, increasing=True)
        return np.vstack([at, np.eye(coefficients)[-1]])

    sums = np.linalg.inv(values(n)).T
    scale = np.abs(sums).max(axis=1, keepdims=True)  # inputs keep their size
    return values(m).T, values(r) * scale, sums / scale


def _both(x: Tensor, tall: Tensor, wide: Tensor) -> Tensor:
    """Apply a matrix along each of the first two axes: (H, W, N, C) to (H', W', N, C)."""
    height, width, images, channels = x.shape
    if height * width <= 16 or len(tall) * len(wide) <= 16:
        y = torch.kron(tall.contiguous(), wide.contiguous()).mm(x.reshape(height * width, -1))
    else:
        y = torch.matmul(wide, tall.mm(x.reshape(height, -1)).view(len(tall), width, -1))
    return y.view(len(tall), len(wide), images, channels)


def _per_tile(kernels: Tensor, tall: _Axis, wide: _Axis) -> Tensor:
    """Repeat the kernels (products, O, C) for each tile along the height."""
    if tall.tiles == 1:
        return kernels
    shape = kernels.shape[1:]
    each = kernels.view(tall.products, 1, wide.products, *shape)
    return each.expand(-1, tall.tiles, -1, -1, -1).reshape(-1, *shape)


def _places_first(x: Tensor) -> Tensor:
    """Return (H, W, N, C), contiguous."""
    return x.permute(2, 3, 0, 1).contiguous()


def _images_first(x: Tensor) -> Tensor:
    """Return (N, C, H, W), channels last, of (H, W, N, C); no view, as it may be written into."""
    y = torch.empty_like(x.permute(2, 3, 0, 1), memory_format=torch.channels_last)
    return y.copy_(x.permute(2, 3, 0, 1))
