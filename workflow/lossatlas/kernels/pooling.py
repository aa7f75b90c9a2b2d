"""A max-pool of 2 x 2 with ReLU, and the slopes of a convolution of 3 x 3 before it.

Of four places a pool lets one through, so three quarters of the slopes behind it are 0 and their
products are left out: a library that is handed them all multiplies with zeros. Which one it was is
kept in a byte: how far it lies behind the first in an image with a border, and `_CLOSED` more where
ReLU lets it not through.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from lossatlas.kernels import LANES, LISTS, TAPS, WIDEST
from lossatlas.kernels.emit import COUNT, FLOAT, Code, Value

_CLOSED, _KERNEL = 128, 3
_NEAR = 448  # places of inputs that stay in the nearest cache
_WINDOWS, _ROUND = 16, 2  # lists at a time, and slopes
_LIST = LISTS // _WINDOWS
_BYTE, _WORD = ir.IntType(8), ir.IntType(32)
_NONE = ir.Constant(ir.VectorType(FLOAT, LANES), [0.0] * LANES)


def pool(module: ir.Module, channels: int, height: int, width: int) -> None:
    """Write `pool`: y = max(0, largest of each four places of x), and which one it was.

    The first of several that are equal, as torch chooses; what is no number is larger than all.
    Its arguments: x (N, H, W, C), y and, in bytes, choice (N, H / 2, W / 2, C), N.

    Args:
        module: Where to.
        channels: C, a multiple of 16.
        height: H, even.
        width: W, even, at most 124.

    Raises:
        ValueError: If it cannot be written for these.
    """
    _check(channels, height, width)
    code = Code(module, "pool", 3, 1)
    x, y, choice, images = code.arguments
    build = code.build
    with (
        code.loop(code.product(images, height // 2)) as (line, _),
        code.loop(width // 2) as (column, _),
        code.loop(channels // LANES) as (block, _),
    ):
        first = code.sum(code.product(line, 2 * width), code.product(column, 2))
        start = code.at(x, code.product(first, channels), code.product(block, LANES))
        best, at = code.load(start), _bytes(0)
        for place, moved in ((1, 1), (width, width + 2), (width + 1, width + 3)):
            value = code.load(code.at(start, place * channels))
            wrong = build.fcmp_unordered("uno", value, value)
            better = build.or_(build.fcmp_ordered(">", value, best), wrong)
            best = build.select(better, value, best)
            at = build.select(better, _bytes(moved), at)
        closed = build.fcmp_ordered("<=", best, _NONE)
        at = build.select(closed, build.or_(at, _bytes(_CLOSED)), at)
        own = code.product(code.sum(code.product(line, width // 2), column), channels)
        own = code.sum(own, code.product(block, LANES))
        code.store(code.at_least(best, _NONE), code.at(y, own))
        build.store(at, _byte(code, choice, own)).align = 1
    code.end()


def pooled_taps(
    module: ir.Module, channels: int, out: int, height: int, width: int, together: int
) -> None:
    """Write `pooled_taps`: slopes of a loss by taps and bias of a convolution before `pool`.

    Its arguments: x (N, H, W, C), slope by the pool's output and, in bytes, choice
    (N, H / 2, W / 2, O), taps (C / 16, O, 9, 16) and bias (O,), to both of which is added, space of
    zeros (C / 16, K, H + 2, W + 2, 16), room (K, H / 2, W / 2, O), N / K.

    Args:
        module: Where to.
        channels: C, a multiple of 16.
        out: O, a multiple of 16.
        height: H, even.
        width: W, even, at most 124.
        together: K.

    Raises:
        ValueError: If it cannot be written for these.
    """
    _check(channels, height, width)
    _check(out, height, width)
    code = Code(module, "pooled_taps", 7, 1)
    x, slope, choice, taps, bias, space, room, groups = code.arguments
    lines, columns, row = height // 2, width // 2, width + 2
    blocks, windows, area = channels // LANES, lines * columns * together, (height + 2) * row
    rows, wide = _stripe(height, width, together), next(k for k in (4, 2, 1) if columns % k == 0)
    with code.loop(groups) as (group, _):
        own = code.product(group, windows * out)
        chosen = _byte(code, choice, own)
        _open(code, code.at(slope, own), chosen, room, bias, windows, out)
        first = code.product(group, together * height * width * channels)
        sides = together, blocks, height, width
        with _places(code, code.at(x, first), space, sides) as (far, near):
            code.store(code.load(far), near)
        with (
            code.loop(lines // rows) as (stripe, _),
            code.loop(blocks) as (block, _),
            code.loop(out) as (channel, _),
        ):
            with code.loop(together, [_NONE] * TAPS) as (member, totals):
                image = code.sum(code.product(block, together), member)
                with code.loop(rows, totals) as (down, sums):
                    line = code.sum(code.product(stripe, rows), down)
                    corner = code.sum(code.product(image, area), code.product(line, 2 * row))
                    window = code.product(code.sum(code.product(member, lines), line), columns)
                    with code.loop(columns // wide, sums) as (part, found):
                        for k in range(wide):
                            column = code.sum(code.product(part, wide), k)
                            own = code.product(code.sum(window, column), out)
                            own = code.sum(own, channel)
                            moved = _moved(code, chosen, own)
                            place = code.sum(corner, code.product(column, 2), moved)
                            seen = code.at(space, code.product(place, LANES))
                            steep = code.repeated(code.at(room, own))
                            for t, offset in enumerate(_offsets(row)):
                                value = code.load(code.at(seen, offset))
                                found[t] = code.multiply_add(value, steep, found[t])
                    sums[:] = found
                totals[:] = sums
            spot = code.product(code.sum(code.product(block, out), channel), TAPS * LANES)
            for t, total in enumerate(totals):
                here = code.at(taps, spot, t * LANES)
                code.store(code.build.fadd(code.load(here), total), here)
    code.end()


def pooled_images(module: ir.Module, channels: int, out: int, height: int, width: int) -> None:
    """Write `pooled_images`: slopes of a loss by the inputs of a convolution before `pool`.

    A window's slopes are sorted by the place that was chosen: those of one place meet the same
    inputs, whose sums stay in registers.

    Its arguments: slope by the pool's output and, in bytes, choice (N, H / 2, W / 2, O), weight
    (C / 16, O, 9, 16), before (N, H, W, C), space (C / 16, H + 2, W + 2, 16), room (`LISTS`,), N.

    Args:
        module: Where to.
        channels: C, a multiple of 16.
        out: O, a multiple of 16.
        height: H, even.
        width: W, even, at most 124.

    Raises:
        ValueError: If it cannot be written for these.
    """
    _check(channels, height, width)
    _check(out, height, width)
    code = Code(module, "pooled_images", 6, 1)
    slope, choice, weight, before, space, room, images = code.arguments
    lines, columns, row = height // 2, width // 2, width + 2
    blocks, area = channels // LANES, (height + 2) * row
    share = 2 * LANES if out % (2 * LANES) == 0 else LANES
    wide = max(k for k in range(1, columns + 1) if columns % k == 0 and k <= _WINDOWS)
    deep = max(k for k in range(1, lines + 1) if lines % k == 0 and k * wide <= _WINDOWS)
    with code.loop(images) as (image, _):
        with code.loop(blocks * area) as (place, _):
            code.store(_NONE, code.at(space, code.product(place, LANES)))
        with (
            code.loop(lines // deep) as (stripe, _),
            code.loop(columns // wide) as (part, _),
            code.loop(out // share) as (some, _),
        ):
            top, left = code.product(stripe, deep), code.product(part, wide)
            first = code.product(some, share)
            with code.loop(deep) as (down, _), code.loop(wide) as (along, _):
                line, column = code.sum(top, down), code.sum(left, along)
                own = code.sum(code.product(image, lines), line)
                own = code.product(code.sum(code.product(own, columns), column), out)
                own = code.sum(own, first)
                given = code.at(slope, own), _byte(code, choice, own)
                number = code.sum(code.product(down, wide), along)
                _sort(code, *given, code.at(room, code.product(number, _LIST)), share, row)
            with (
                code.loop(blocks) as (block, _),
                code.loop(deep) as (down, _),
                code.loop(wide) as (along, _),
            ):
                line, column = code.sum(top, down), code.sum(left, along)
                place = code.sum(code.product(block, area), code.product(line, 2 * row))
                place = code.sum(place, code.product(column, 2))
                taps = code.product(code.sum(code.product(block, out), first), TAPS * LANES)
                number = code.sum(code.product(down, wide), along)
                kept, where = code.product(number, _LIST), code.product(place, LANES)
                _pour(code, code.at(room, kept), code.at(weight, taps), code.at(space, where), row)
        first = code.product(image, height * width * channels)
        sides = 1, blocks, height, width
        with _places(code, code.at(before, first), space, sides) as (far, near):
            code.store(code.load(near), far)
    code.end()


def _sort(code: Code, slope: Value, chosen: Value, kept: Value, share: int, row: int) -> None:
    """Write a window's list: slopes, where their taps begin, and how many rounds each place has."""
    build, number = code.build, COUNT(0)
    pieces = []
    for v in range(0, share, LANES):
        choice = build.load(_byte(code, chosen, COUNT(v)), typ=_bytes(0).type)
        choice.align = 1
        taps = [(v + lane) * TAPS * LANES for lane in range(LANES)]
        steep = code.load(code.at(slope, v))
        pieces.append((choice, (steep, ir.Constant(ir.VectorType(_WORD, LANES), taps))))
    for k, moved in enumerate((0, 1, row, row + 1)):
        first = number
        for choice, both in pieces:
            mask = build.icmp_signed("==", choice, _bytes(moved))
            for vector, start in zip(both, (0, _LIST // 2), strict=True):
                code.store(code.packed(vector, mask), code.at(kept, number, start))
            number = build.add(number, code.ones(mask))
        for start in (0, _LIST // 2):  # a round that is not full goes on with slopes of 0
            code.store(_NONE, code.at(kept, number, start))
        rounds, _ = code.divide(code.sum(build.sub(number, first), _ROUND - 1), _ROUND)
        rounds = build.select(build.icmp_signed("==", rounds, COUNT(0)), COUNT(1), rounds)
        build.store(rounds, code.at(kept, _LIST - 8 + 2 * k)).align = 4
        number = code.sum(first, code.product(rounds, _ROUND))


def _pour(code: Code, kept: Value, weight: Value, where: Value, row: int) -> None:
    """Add to the slopes of 4 x 4 inputs what a window's list brings them."""
    build = code.build
    spots = [code.at(where, (y * row + x) * LANES) for y in range(4) for x in range(4)]
    patch, place = [code.load(spot) for spot in spots], COUNT(0)
    for k in range(4):
        met = [(k // 2 + t // _KERNEL) * 4 + k % 2 + t % _KERNEL for t in range(TAPS)]
        rounds = build.load(code.at(kept, _LIST - 8 + 2 * k), typ=COUNT)
        rounds.align = 4
        with code.loop(rounds, [place, *(patch[m] for m in met)]) as (_, values):
            for one in range(_ROUND):
                here = code.at(kept, values[0], one)
                word = build.load(code.at(here, _LIST // 2), typ=_WORD)
                word.align = 4
                taps, steep = code.at(weight, build.zext(word, COUNT)), code.repeated(here)
                for t in range(TAPS):
                    tap = code.load(code.at(taps, t * LANES))
                    values[1 + t] = code.multiply_add(tap, steep, values[1 + t])
            values[0] = build.add(values[0], COUNT(_ROUND))
        place = values[0]
        for m, value in zip(met, values[1:], strict=True):
            patch[m] = value
    for value, spot in zip(patch, spots, strict=True):
        code.store(value, spot)


def _check(channels: int, height: int, width: int) -> None:
    if channels % LANES or height % 2 or width % 2 or width > WIDEST:
        raise ValueError(f"{channels} channels of {height} x {width} places")


def _stripe(height: int, width: int, together: int) -> int:
    """Return how many rows of windows one channel goes through before the next has its turn."""
    lines = height // 2
    if together * (height + 2) * (width + 2) <= _NEAR:
        return lines
    fitting = [k for k in range(1, lines + 1) if lines % k == 0]
    return max((k for k in fitting if (2 * k + 2) * (width + 2) <= _NEAR), default=1)


def _open(
    code: Code, slope: Value, chosen: Value, room: Value, bias: Value, windows: int, out: int
) -> None:
    """Copy slopes (windows, O) but for those that ReLU stops, and add them to those of the bias."""
    build = code.build
    with code.loop(out // LANES) as (block, _):
        start = code.product(block, LANES)
        here = code.at(bias, start)
        with code.loop(windows, [_NONE]) as (window, sums):
            own = code.sum(code.product(window, out), start)
            choice = build.load(_byte(code, chosen, own), typ=ir.VectorType(_BYTE, LANES))
            choice.align = 1
            closed = build.icmp_signed("<", choice, _bytes(0))
            steep = build.select(closed, _NONE, code.load(code.at(slope, own)))
            code.store(steep, code.at(room, own))
            sums[0] = build.fadd(sums[0], steep)
        code.store(build.fadd(code.load(here), sums[0]), here)


def _moved(code: Code, chosen: Value, own: Value) -> Value:
    """Return how many places the chosen one lies behind the first of its four."""
    byte = code.build.load(_byte(code, chosen, own), typ=_BYTE)
    return code.build.and_(code.build.zext(byte, COUNT), ir.Constant(COUNT, _CLOSED - 1))


def _offsets(row: int) -> list[int]:
    """Return how far the inputs of each tap lie behind those of the first."""
    return [(t // _KERNEL * row + t % _KERNEL) * LANES for t in range(TAPS)]


@contextmanager
def _places(
    code: Code, images: Value, inside: Value, sides: tuple[int, int, int, int]
) -> Iterator[tuple[Value, Value]]:
    """Repeat a block for each vector of K images (K, H, W, C), and its place between borders.

    Args:
        code: Where to.
        images: The first.
        inside: (C / 16, K, H + 2, W + 2, 16).
        sides: K, C / 16, H, W.
    """
    together, blocks, height, width = sides
    with (
        code.loop(together) as (member, _),
        code.loop(blocks) as (block, _),
        code.loop(height) as (line, _),
        code.loop(width) as (column, _),
    ):
        place = code.sum(code.product(code.sum(code.product(member, height), line), width), column)
        far = code.product(code.sum(code.product(place, blocks), block), LANES)
        place = code.sum(code.product(block, together), member)
        place = code.sum(code.product(place, height + 2), line, 1)
        place = code.sum(code.product(place, width + 2), column, 1)
        yield code.at(images, far), code.at(inside, code.product(place, LANES))


def _bytes(number: int) -> Value:
    return ir.Constant(ir.VectorType(_BYTE, LANES), [number] * LANES)


def _byte(code: Code, start: Value, offset: Value) -> Value:
    return code.build.gep(start, [offset], source_etype=_BYTE)
