"""The passes of BatchNorm over images whose channels lie side by side.

An image is `rows` vectors. With 8 channels a vector holds two places, and its lanes are as good as
channels: who calls this adds up what belongs together.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from lossatlas.kernels import LANES
from lossatlas.kernels.emit import Code, Value

_BUSY = 8  # rows at a time, so that sums do not wait for each other

_ZERO = ir.Constant(ir.VectorType(ir.FloatType(), LANES), [0.0] * LANES)


def moments(module: ir.Module, rows: int) -> None:
    """Write `moments`: mean of each lane of each image, and sum of squares around it.

    Its arguments: x (N, rows, 16), means and squares (N, 16), N, 1 / rows.
    """
    code = Code(module, "moments", 3, 1, 1)
    x, means, squares, images, share = code.arguments
    build, part = code.build, code.everywhere(share)
    with code.loop(images) as (image, _):
        start = code.at(x, code.product(image, rows * LANES))
        place = code.product(image, LANES)

        def add(values: list[Value], sums: list[Value]) -> list[Value]:
            return [build.fadd(sums[0], values[0])]

        centre = build.fmul(_over_rows(code, [start], rows, 1, add)[0], part)

        def spread(values: list[Value], sums: list[Value]) -> list[Value]:
            apart = build.fsub(values[0], centre)
            return [code.multiply_add(apart, apart, sums[0])]

        around = _over_rows(code, [start], rows, 1, spread)[0]
        code.store(centre, code.at(means, place))
        code.store(around, code.at(squares, place))
    code.end()


def slopes(module: ir.Module, rows: int, *, relu: bool) -> None:
    """Write `slopes`: sums over each image of a slope, and of its product with x - mean.

    Its arguments: x and slope (N, rows, 16), mean, factor and shift (16,), sums and products
    (N, 16), N. With a ReLU, only slopes where x * factor + shift is above 0 count.
    """
    code = Code(module, "slopes", 7, 1)
    x, slope, *lanes, totals, products, images = code.arguments
    build = code.build
    centre, factor, shift = (code.load(one) for one in lanes)
    with code.loop(images) as (image, _):
        start, place = code.product(image, rows * LANES), code.product(image, LANES)

        def add(values: list[Value], sums: list[Value]) -> list[Value]:
            seen, steep = values
            if relu:
                steep = code.where_positive(steep, code.multiply_add(seen, factor, shift))
            product = code.multiply_add(steep, build.fsub(seen, centre), sums[1])
            return [build.fadd(sums[0], steep), product]

        sources = [code.at(x, start), code.at(slope, start)]
        total, product = _over_rows(code, sources, rows, 2, add)
        code.store(total, code.at(totals, place))
        code.store(product, code.at(products, place))
    code.end()


def scale(module: ir.Module, *, relu: bool, more: bool) -> None:
    """Write `scale`: y = x * factor + shift, plus a rest if there is more, at least 0 with a ReLU.

    Its arguments: x (rows, 16), factor and shift (16,), rest and y as x, rows.
    """
    code = Code(module, "scale", 5, 1)
    x, factor, shift, rest, y, rows = code.arguments
    factor, shift = code.load(factor), code.load(shift)
    with code.loop(rows) as (row, _):
        place = code.product(row, LANES)
        total = code.multiply_add(code.load(code.at(x, place)), factor, shift)
        if more:
            total = code.build.fadd(total, code.load(code.at(rest, place)))
        code.store(code.at_least(total, _ZERO) if relu else total, code.at(y, place))
    code.end()


def mix(module: ir.Module, *, relu: bool) -> None:
    """Write `mix`: y = x * own + slope * other + rest.

    Its arguments: x and slope (rows, 16), own, other, rest, factor and shift (16,), y as x, rows.
    With a ReLU, slopes are 0 where x * factor + shift is not above 0.
    """
    code = Code(module, "mix", 8, 1)
    x, slope, *lanes, y, rows = code.arguments
    own, other, rest, factor, shift = (code.load(one) for one in lanes)
    with code.loop(rows) as (row, _):
        place = code.product(row, LANES)
        seen, steep = code.load(code.at(x, place)), code.load(code.at(slope, place))
        if relu:
            steep = code.where_positive(steep, code.multiply_add(seen, factor, shift))
        total = code.multiply_add(seen, own, rest)
        code.store(code.multiply_add(steep, other, total), code.at(y, place))
    code.end()


def _over_rows(
    code: Code,
    sources: list[Value],
    rows: int,
    kinds: int,
    fold: Callable[[list[Value], list[Value]], list[Value]],
) -> list[Value]:
    """Return sums over all rows.

    Args:
        code: Where to.
        sources: The first row of each array.
        rows: How many.
        kinds: How many sums there are.
        fold: From a row of each array, and the sums so far, to the next.
    """
    many = next(m for m in range(_BUSY, 0, -1) if rows % m == 0)
    with code.loop(rows // many, [_ZERO] * (kinds * many)) as (group, sums):
        for own in range(many):
            offset = code.product(code.sum(code.product(group, many), own), LANES)
            values = [code.load(code.at(source, offset)) for source in sources]
            mine = slice(own * kinds, own * kinds + kinds)
            sums[mine] = fold(values, sums[mine])
    total = sums[:kinds]
    for own in range(1, many):
        pairs = zip(total, sums[own * kinds : own * kinds + kinds], strict=True)
        total = [code.build.fadd(one, other) for one, other in pairs]
    return total
