"""The passes of BatchNorm over images whose channels lie side by side.

An image is `rows` rows of `columns` vectors. With fewer than 16 channels a vector holds several
places, and its lanes are as good as channels: who calls this adds up what belongs together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import gcd

from llvmlite import ir

from lossatlas.kernels import LANES
from lossatlas.kernels.emit import Code, Value

_BUSY = 8  # sums in registers, that do not wait for each other

_ZERO = ir.Constant(ir.VectorType(ir.FloatType(), LANES), [0.0] * LANES)

Row = list[Value]  # vectors side by side


def moments(module: ir.Module, rows: int, columns: int) -> None:
    """Write `moments`: mean of each lane of each image, and sum of squares around it.

    Its arguments: x (N, rows, columns, 16), means and squares (N, columns, 16), N, 1 / rows.
    """
    code = Code(module, "moments", 3, 1, 1)
    x, means, squares, images, share = code.arguments
    build, part, block = code.build, code.everywhere(share), _block(columns)
    with code.loop(images) as (image, _), code.loop(columns // block) as (group, _):
        start = code.at(x, code.product(image, rows * columns * LANES), _first(code, group, block))
        place = code.sum(code.product(image, columns * LANES), _first(code, group, block))

        def add(values: list[Row], sums: Row) -> Row:
            return [build.fadd(s, v) for s, v in zip(sums, values[0], strict=True)]

        sums = _over_rows(code, [start], rows, columns, 1, add)
        centre = [build.fmul(one, part) for one in sums]

        def spread(values: list[Row], sums: Row) -> Row:
            apart = [build.fsub(v, c) for v, c in zip(values[0], centre, strict=True)]
            return [code.multiply_add(a, a, s) for a, s in zip(apart, sums, strict=True)]

        around = _over_rows(code, [start], rows, columns, 1, spread)
        _write(code, code.at(means, place), centre)
        _write(code, code.at(squares, place), around)
    code.end()


def slopes(module: ir.Module, rows: int, columns: int, *, relu: bool) -> None:
    """Write `slopes`: sums over each image of a slope, and of its product with x - mean.

    Its arguments: x and slope (N, rows, columns, 16), mean, factor and shift (columns, 16), sums
    and products (N, columns, 16), N. With a ReLU, only slopes where x * factor + shift is above 0
    count.
    """
    code = Code(module, "slopes", 7, 1)
    x, slope, mean, factor, shift, totals, products, images = code.arguments
    build, block = code.build, _block(columns)
    with code.loop(images) as (image, _), code.loop(columns // block) as (group, _):
        column = _first(code, group, block)
        start = code.sum(code.product(image, rows * columns * LANES), column)
        place = code.sum(code.product(image, columns * LANES), column)
        centre, factors, shifts = (
            _read(code, code.at(one, column), block) for one in (mean, factor, shift)
        )

        def add(values: list[Row], sums: Row) -> Row:
            seen, steep = values
            if relu:
                given = zip(steep, seen, factors, shifts, strict=True)
                steep = [_open(code, g, code.multiply_add(v, f, b)) for g, v, f, b in given]
            apart = [build.fsub(v, c) for v, c in zip(seen, centre, strict=True)]
            pairs = zip(steep, apart, sums[block:], strict=True)
            first = [build.fadd(s, g) for s, g in zip(sums[:block], steep, strict=True)]
            return first + [code.multiply_add(g, a, s) for g, a, s in pairs]

        sources = [code.at(x, start), code.at(slope, start)]
        sums = _over_rows(code, sources, rows, columns, 2, add)
        _write(code, code.at(totals, place), sums[:block])
        _write(code, code.at(products, place), sums[block:])
    code.end()


def scale(module: ir.Module, columns: int, *, relu: bool, more: bool) -> None:
    """Write `scale`: y = x * factor + shift, plus a rest if there is more, at least 0 with a ReLU.

    Its arguments: x (rows, columns, 16), factor and shift (columns, 16), rest and y as x, rows.
    """
    code = Code(module, "scale", 5, 1)
    x, factor, shift, rest, y, rows = code.arguments
    with _each(code, rows, columns) as (place, column):
        factors, shifts = (code.load(code.at(one, column)) for one in (factor, shift))
        total = code.multiply_add(code.load(code.at(x, place)), factors, shifts)
        if more:
            total = code.build.fadd(total, code.load(code.at(rest, place)))
        code.store(code.at_least(total, _ZERO) if relu else total, code.at(y, place))
    code.end()


def mix(module: ir.Module, columns: int, *, relu: bool) -> None:
    """Write `mix`: y = x * own + slope * other + rest.

    Its arguments: x and slope (rows, columns, 16), own, other, rest, factor and shift
    (columns, 16), y as x, rows. With a ReLU, slopes are 0 where x * factor + shift is not above 0.
    """
    code = Code(module, "mix", 8, 1)
    x, slope, own, other, rest, factor, shift, y, rows = code.arguments
    with _each(code, rows, columns) as (place, column):
        first, second, third = (code.load(code.at(one, column)) for one in (own, other, rest))
        seen, steep = code.load(code.at(x, place)), code.load(code.at(slope, place))
        if relu:
            factors, shifts = (code.load(code.at(one, column)) for one in (factor, shift))
            steep = _open(code, steep, code.multiply_add(seen, factors, shifts))
        total = code.multiply_add(seen, first, third)
        code.store(code.multiply_add(steep, second, total), code.at(y, place))
    code.end()


@contextmanager
def _each(code: Code, rows: Value, columns: int) -> Iterator[tuple[Value, Value]]:
    """Go through all vectors; give the place of each among all, and among those of its row."""
    with code.loop(rows) as (row, _), code.loop(columns) as (column, _):
        own = code.product(column, LANES)
        yield code.sum(code.product(row, columns * LANES), own), own


def _open(code: Code, slope: Value, value: Value) -> Value:
    """Return a slope where the value before ReLU lets it through, as torch: not if it is <= 0."""
    return code.build.select(code.build.fcmp_ordered("<=", value, _ZERO), _ZERO, slope)


def _over_rows(
    code: Code,
    sources: list[Value],
    rows: int,
    columns: int,
    kinds: int,
    fold: Callable[[list[Row], Row], Row],
) -> Row:
    """Return sums over all rows of a block of columns.

    Args:
        code: Where to.
        sources: The first row of each array.
        rows: How many.
        columns: Vectors of a whole row.
        kinds: How many sums there are of each column.
        fold: From the vectors of a row, per array, and the sums so far, to the next.
    """
    block = _block(columns)
    width = kinds * block
    many = next(m for m in (8, 4, 2, 1) if rows % m == 0 and (m == 1 or m * block <= _BUSY))
    zeros = [_ZERO] * (width * many)
    with code.loop(rows // many, zeros) as (group, sums):
        for own in range(many):
            row = code.sum(code.product(group, many), own)
            offset = code.product(row, columns * LANES)
            values = [_read(code, code.at(source, offset), block) for source in sources]
            mine = slice(own * width, own * width + width)
            sums[mine] = fold(values, sums[mine])
    total = sums[:width]
    for own in range(1, many):
        pairs = zip(total, sums[own * width : own * width + width], strict=True)
        total = [code.build.fadd(one, other) for one, other in pairs]
    return total


def _block(columns: int) -> int:
    return gcd(columns, _BUSY)


def _first(code: Code, group: Value, block: int) -> Value:
    return code.product(group, block * LANES)


def _read(code: Code, where: Value, count: int) -> Row:
    return [code.load(code.at(where, k * LANES)) for k in range(count)]


def _write(code: Code, where: Value, row: Row) -> None:
    for k, vector in enumerate(row):
        code.store(vector, code.at(where, k * LANES))
