"""Sums over the places of small planes, before and after products of matrices take their place.

With matrices for either axis (`toom`), a plane (H, W) becomes one of so many products, or these
become a plane, for 16 channels at a time. Images (N, H, W, C) are read or written as they lie, and
products lie as the matrices that are multiplied want them: (rows, N, C).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from lossatlas.kernels import LANES
from lossatlas.kernels.emit import FLOAT, Code, Value
from lossatlas.kernels.toom import matrices


def spread(module: ir.Module, height: int, width: int, *, slopes: bool, relu: bool) -> None:
    """Write `spread`: from images to their sums, or from slopes by the output to those by products.

    Its arguments: x and mask (N, H, W, C), y (rows, images of all threads, C), bias (C,), to which
    slopes are added, room (rows of height, W, 16), N, C / 16, images of all threads.

    Args:
        module: Where to.
        height: H.
        width: W.
        slopes: Which of the two.
        relu: Whether x counts as 0 where the mask is not above 0.
    """
    tall, wide = (_matrix(side, back=slopes, turned=slopes) for side in (height, width))
    code = Code(module, "spread", 5, 3)
    x, mask, y, bias, room, images, blocks, total = code.arguments
    channels = code.product(blocks, LANES)
    with code.loop(images) as (image, _), code.loop(blocks) as (block, _):
        own = code.product(block, LANES)
        start = code.sum(code.product(image, channels, height * width), own)
        end = code.at(y, code.product(image, channels), own)
        with code.loop(width, [code.load(code.at(bias, own))]) as (column, sums):
            first = code.sum(start, code.product(column, channels))
            steps = [code.product(channels, line * width) for line in range(height)]
            given = [code.load(code.at(x, first, step)) for step in steps]
            if relu:
                seen = [code.load(code.at(mask, first, step)) for step in steps]
                given = [code.where_positive(*both) for both in zip(given, seen, strict=True)]
            if slopes:
                for one in given:
                    sums[0] = code.build.fadd(sums[0], one)
            for row, value in enumerate(_combined(code, tall, given)):
                place = code.sum(code.product(column, LANES), row * width * LANES)
                code.store(value, code.at(room, place))
        code.store(sums[0], code.at(bias, own))
        with code.loop(len(tall)) as (row, _):
            near = code.at(room, code.product(row, width * LANES))
            given = [code.load(code.at(near, column * LANES)) for column in range(width)]
            first = code.product(row, len(wide))
            for number, value in enumerate(_combined(code, wide, given)):
                step = code.product(code.sum(first, number), total, channels)
                code.store(value, code.at(end, step))
    code.end()


def gather(module: ir.Module, height: int, width: int, *, slopes: bool) -> None:
    """Write `gather`: from products to outputs, or from slopes by the sums to those by images.

    Its arguments: x (rows, images of all threads, C), bias (C,), y (N, H, W, C), room (H, columns,
    16), N, C / 16, images of all threads, floor: nothing that is written is less.

    Args:
        module: Where to.
        height: H.
        width: W.
        slopes: Which of the two.
    """
    tall, wide = (_matrix(side, back=not slopes, turned=slopes) for side in (height, width))
    code = Code(module, "gather", 4, 3, 1)
    x, bias, y, room, images, blocks, total, floor = code.arguments
    channels, columns, least = code.product(blocks, LANES), len(wide[0]), code.everywhere(floor)
    with code.loop(images) as (image, _), code.loop(blocks) as (block, _):
        own = code.product(block, LANES)
        start = code.at(x, code.product(image, channels), own)
        end = code.at(y, code.product(image, channels, height * width), own)
        shift = code.load(code.at(bias, own))
        with code.loop(columns) as (column, _):
            rows = [code.sum(column, row * columns) for row in range(len(tall[0]))]
            steps = [code.product(row, total, channels) for row in rows]
            given = [code.load(code.at(start, step)) for step in steps]
            for line, value in enumerate(_combined(code, tall, given)):
                place = code.sum(code.product(column, LANES), line * columns * LANES)
                code.store(value, code.at(room, place))
        with code.loop(height) as (line, _):
            near = code.at(room, code.product(line, columns * LANES))
            given = [code.load(code.at(near, column * LANES)) for column in range(columns)]
            first = code.product(line, width)
            for number, value in enumerate(_combined(code, wide, given)):
                step = code.product(code.sum(first, number), channels)
                code.store(code.at_least(code.build.fadd(value, shift), least), code.at(end, step))
    code.end()


def _matrix(side: int, *, back: bool, turned: bool) -> np.ndarray:
    """Return a matrix of `toom` with products and tiles as one axis, turned or not."""
    into, outputs, _ = matrices(side)
    matrix = outputs.reshape(side, -1) if back else into.reshape(-1, side)
    return matrix.T if turned else matrix


def _combined(code: Code, matrix: np.ndarray, vectors: Sequence[Value]) -> list[Value]:
    """Return the products of a matrix with vectors; what is 0 is left out."""
    found = []
    for row in matrix:
        total = None
        for factor, vector in zip(row.tolist(), vectors, strict=True):
            if factor:
                total = _plus(code, total, factor, vector)
        found.append(ir.Constant(vectors[0].type, [0.0] * LANES) if total is None else total)
    return found


def _plus(code: Code, total: Value | None, factor: float, vector: Value) -> Value:
    """Return a total plus a multiple of a vector; the first has no total yet."""
    build = code.build
    if abs(factor) != 1:
        many = code.everywhere(ir.Constant(FLOAT, float(np.float32(factor))))
        return build.fmul(many, vector) if total is None else code.multiply_add(many, vector, total)
    if total is None:
        return vector if factor > 0 else build.fneg(vector)
    return build.fadd(total, vector) if factor > 0 else build.fsub(total, vector)
