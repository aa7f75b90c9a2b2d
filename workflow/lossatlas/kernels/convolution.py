"""Convolutions of 3 x 3 with few channels: places in the lanes of a vector, not channels.

Libraries fill a vector with channels, so eight channels leave half of it empty. Here a vector is 16
neighbours of a row, in one channel. Each image is first copied into planes, one per channel, with a
border of zeros; then 8 channels by 2 vectors of outputs stay in registers while the inputs pass.
"""

from __future__ import annotations

from llvmlite import ir

from lossatlas.kernels import BLOCK, LANES, TAPS
from lossatlas.kernels.emit import FLOAT, HALF, Code, Value

PAIR = 2  # vectors of outputs of each in registers
KERNEL = 3
_NEAR = 2**13  # floats of 8 channels that stay in the nearest cache, beside what else is there


def correlate(module: ir.Module, channels: int, out: int, height: int, width: int) -> None:
    """Write `correlate`: y = max(floor, bias + rest + x * weight), one row of zeros around x.

    Its arguments: x (N, H, W, C), weight (O / 8, C, 9, 8), bias (O,), rest and y (N, H, W, O),
    space (C, H + 2, W + 2) of zeros, N, whether there is a rest, floor.

    Args:
        module: Where to.
        channels: C: below 8, or a multiple of 8.
        out: O, a multiple of 8.
        height: H; even if W is 16.
        width: W: 16, or a multiple of 32.

    Raises:
        ValueError: If it cannot be written for these.
    """
    _check(channels, width)
    if out % BLOCK or (width % (PAIR * LANES) and (width != LANES or height % PAIR)):
        raise ValueError(f"{out} channels of {height} x {width} places")
    code = Code(module, "correlate", 6, 2, 1)
    x, weight, bias, rest, y, space, images, more, floor = code.arguments
    build = code.build
    area, row = height * width, width + 2
    plane, vectors = (height + 2) * row, width // LANES
    apart = LANES if vectors % PAIR == 0 else row
    least, has_rest = code.everywhere(floor, HALF), build.icmp_signed("!=", more, more.type(0))
    with code.loop(images) as (image, _):
        source = code.at(x, code.product(image, channels * area))
        _planes(code, source, code.at(space, row + 1), channels, (height, width), (plane, row))
        start = code.product(image, area, out)
        with code.loop(height * vectors // PAIR) as (pair, _):
            vector = code.product(pair, PAIR)
            line, column = code.divide(vector, vectors)
            window = code.at(space, code.product(line, row), code.product(column, LANES))
            place = code.sum(start, code.product(vector, LANES * out))
            share = channels * LANES * PAIR  # of the next image, which lies behind this one
            following = code.at(source, channels * area, code.product(pair, share))
            for near in range(0, share, LANES):
                code.prefetch(code.at(following, near))
            with code.loop(out // BLOCK) as (block, _):
                first = [
                    code.repeated(code.at(bias, code.product(block, BLOCK), o))
                    for o in range(BLOCK)
                    for _ in range(PAIR)
                ]
                taps = code.at(weight, code.product(block, channels * TAPS * BLOCK))
                with code.loop(channels, first) as (channel, sums):
                    own = code.at(taps, code.product(channel, TAPS * BLOCK))
                    seen = code.at(window, code.product(channel, plane))
                    _multiply(code, seen, own, (row, apart), sums)
                own = code.sum(place, code.product(block, BLOCK))
                _write(code, sums, code.at(y, own), code.at(rest, own), out, has_rest, least)
    code.end()


def _multiply(
    code: Code, window: Value, taps: Value, steps: tuple[int, int], sums: list[Value]
) -> None:
    """Add one channel of inputs, times its taps, to 8 channels by 2 vectors of outputs."""
    row, apart = steps
    for tap in range(TAPS):
        start = row * (tap // KERNEL) + tap % KERNEL
        inputs = [code.load(code.at(window, start + apart * p)) for p in range(PAIR)]
        for o in range(BLOCK):
            factor = code.repeated(code.at(taps, tap * BLOCK + o))
            for p in range(PAIR):
                place = o * PAIR + p
                sums[place] = code.multiply_add(inputs[p], factor, sums[place])


def _check(channels: int, width: int) -> None:
    if width % LANES or (channels >= HALF and channels % HALF):
        raise ValueError(f"rows of {width} places with {channels} channels")


def _write(
    code: Code, sums: list[Value], y: Value, rest: Value, out: int, has_rest: Value, least: Value
) -> None:
    """Write 8 channels of 32 places, a place's channels side by side."""
    build = code.build
    values = []
    for p in range(PAIR):
        planes = [sums[o * PAIR + p] for o in range(BLOCK)]
        pairs = code.rearrange(planes, lambda e: (e % LANES // 2, e % 2 * HALF + e // LANES))
        for pair in pairs:
            values += [code.shuffle(pair, pair, range(k, k + HALF)) for k in (0, HALF)]
    before = build.block
    with build.if_then(has_rest):
        added = [
            build.fadd(value, code.load(code.at(rest, out * place), HALF))
            for place, value in enumerate(values)
        ]
        inside = build.block
    for place, (value, more) in enumerate(zip(values, added, strict=True)):
        total = build.phi(value.type)
        total.add_incoming(value, before)
        total.add_incoming(more, inside)
        values[place] = total
    for place, total in enumerate(values):
        code.store(code.at_least(total, least), code.at(y, out * place))


def taps_slope(
    module: ir.Module, channels: int, height: int, width: int, together: int, *, relu: bool
) -> None:
    """Write `taps_slope`: what a loss changes by with the taps and bias of a convolution.

    Its arguments: x (N, H, W, C), slope and y (N, H, W, O), taps (O / 8, C, 3, 8, 3, 16) and bias
    (O, 16), to which is added and of which the last axis is still to be summed, space
    (K, C, H + 2, W + 2) of zeros, room (K, O, H W + 16), N / K, O / 8.

    Args:
        module: Where to.
        channels: C: below 8, or a multiple of 8.
        height: H.
        width: W, a multiple of 16.
        together: K.
        relu: Whether only slopes where y is above 0 count.

    Raises:
        ValueError: If it cannot be written for these.
    """
    _check(channels, width)
    code = Code(module, "taps_slope", 7, 2)
    x, slope, y, total, bias, space, room, groups, blocks = code.arguments
    out = code.product(blocks, BLOCK)
    parts = next(
        k for k in range(1, height + 1) if height % k == 0 and height // k * width * 8 <= _NEAR
    )
    lines, row, area = height // parts, width + 2, height * width
    apart = area + LANES  # else all channels share the same few places of the cache
    plane = (height + 2) * row
    with code.loop(groups) as (group, _):
        with code.loop(together) as (member, _):
            image = code.sum(code.product(group, together), member)
            source = code.at(x, code.product(image, channels * area))
            into = code.at(space, code.product(member, channels * plane), row + 1)
            _planes(code, source, into, channels, (height, width), (plane, row))
            start = code.product(image, area, out)
            source, mask = code.at(slope, start), code.at(y, start) if relu else None
            into = code.at(room, code.product(member, apart, out))
            _planes(code, source, into, out, (height, width), (apart, width), mask)
            _total(code, into, bias, out, apart, area)
        with (
            code.loop(parts) as (part, _),
            code.loop(blocks) as (block, _),
            code.loop(channels) as (channel, _),
            code.loop(KERNEL) as (tap, _),
        ):
            spot = code.sum(
                code.product(code.sum(code.product(block, channels), channel), KERNEL), tap
            )
            own = code.at(total, code.product(spot, BLOCK * KERNEL * LANES))
            first = code.product(part, lines)
            line = code.product(code.sum(first, tap), row)
            seen = code.at(space, code.product(channel, plane), line)
            steep = code.at(room, code.product(block, apart * BLOCK), code.product(first, width))
            kept = range(BLOCK * KERNEL)
            before = [code.load(code.at(own, k * LANES)) for k in kept]
            with code.loop(together, before) as (member, third):
                theirs = code.at(seen, code.product(member, channels * plane))
                other = code.at(steep, code.product(member, apart, out))
                with code.loop(lines, third) as (down, sums):
                    here = code.at(theirs, code.product(down, row))
                    there = code.at(other, code.product(down, width))
                    for v in range(0, width, LANES):
                        _gather(code, code.at(here, v), code.at(there, v), apart, sums)
                third[:] = sums
            for k in kept:
                code.store(third[k], code.at(own, k * LANES))
    code.end()


def _total(code: Code, planes: Value, sums: Value, out: Value, apart: int, area: int) -> None:
    """Add what each plane has in it to 16 sums of each channel."""
    with code.loop(out) as (channel, _):
        plane = code.at(planes, code.product(channel, apart))
        own = code.at(sums, code.product(channel, LANES))
        none = code.everywhere(FLOAT(0.0))
        with code.loop(area // LANES, [none]) as (vector, total):
            value = code.load(code.at(plane, code.product(vector, LANES)))
            total[0] = code.build.fadd(total[0], value)
        code.store(code.build.fadd(code.load(own), total[0]), own)


def _gather(code: Code, window: Value, slope: Value, apart: int, sums: list[Value]) -> None:
    """Add the products of 16 inputs, in three columns, with 16 slopes of 8 channels."""
    inputs = [code.load(code.at(window, k)) for k in range(KERNEL)]
    for o in range(BLOCK):
        steep = code.load(code.at(slope, apart * o))
        for k in range(KERNEL):
            place = o * KERNEL + k
            sums[place] = code.multiply_add(inputs[k], steep, sums[place])


def _planes(
    code: Code,
    source: Value,
    into: Value,
    channels: Value | int,
    sides: tuple[int, int],
    steps: tuple[int, int],
    mask: Value | None = None,
) -> None:
    """Copy an image (H, W, C) into planes.

    Args:
        code: Where to.
        source: The image.
        into: The first place of the first plane.
        channels: C.
        sides: H and W.
        steps: From one plane to the next, and from one row to the next.
        mask: An image of C channels, at least 8; where it is not above 0, zeros are copied.
    """
    (height, width), (plane, row) = sides, steps
    with code.loop(height) as (line, _), code.loop(width // LANES) as (vector, _):
        place = code.sum(code.product(line, width), code.product(vector, LANES))
        start = code.at(source, code.product(place, channels))
        end = code.at(into, code.product(line, row), code.product(vector, LANES))
        if isinstance(channels, int) and channels < HALF:
            own = channels
            found = [code.load(code.at(start, k * LANES)) for k in range(own)]
            found = code.rearrange(found, lambda e: (e % own, e // own))
            for c, values in enumerate(found):
                code.store(values, code.at(end, plane * c))
        else:
            with code.loop(code.divide(channels, HALF)[0]) as (block, _):
                apart = [
                    code.sum(code.product(block, HALF), code.product(channels, p))
                    for p in range(LANES)
                ]
                halves = [code.load(code.at(start, offset), HALF) for offset in apart]
                if mask is not None:
                    spot = code.at(mask, code.product(place, channels))
                    seen = [code.load(code.at(spot, offset), HALF) for offset in apart]
                    halves = [code.where_positive(*both) for both in zip(halves, seen, strict=True)]
                pairs = [
                    code.shuffle(halves[p], halves[p + 1], range(LANES)) for p in range(0, LANES, 2)
                ]
                found = code.rearrange(pairs, lambda e: (e % HALF, e // HALF))
                end = code.at(end, code.product(block, HALF * plane))
                for c, values in enumerate(found):
                    code.store(values, code.at(end, plane * c))
