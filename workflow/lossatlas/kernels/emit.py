"""Writes functions over vectors of 16 floats, in the language of LLVM."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from lossatlas.kernels import LANES

HALF = LANES // 2

COUNT, FLOAT, POINTER = ir.IntType(64), ir.FloatType(), ir.PointerType()
_PLACE = ir.IntType(32)

Value = Any  # llvmlite has no types of its own
Target = Callable[[int], tuple[int, int]]


class Code:
    """The body of one function, written from its first line to its last.

    Args:
        module: Where the function belongs.
        name: Its name.
        pointers: How many pointers to floats it takes first.
        counts: How many whole numbers it takes after them.
        floats: How many floats it takes last.
    """

    def __init__(
        self, module: ir.Module, name: str, pointers: int, counts: int, floats: int = 0
    ) -> None:
        self.module = module
        kinds = [POINTER] * pointers + [COUNT] * counts + [FLOAT] * floats
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        self.arguments: list[Value] = list(function.args)
        self.build = ir.IRBuilder(function.append_basic_block())

    def sum(self, *terms: Value | int) -> Value:
        """Return a sum of whole numbers, known now or later."""
        later = [term for term in terms if not isinstance(term, int)]
        total = sum(term for term in terms if isinstance(term, int))
        if not later:
            return total
        whole = later[0]
        for term in later[1:]:
            whole = self.build.add(whole, term)
        return self.build.add(whole, _count(total)) if total else whole

    def product(self, *factors: Value | int) -> Value:
        """Return a product of whole numbers, known now or later."""
        later = [factor for factor in factors if not isinstance(factor, int)]
        known = math.prod(factor for factor in factors if isinstance(factor, int))
        if not later:
            return known
        whole = later[0]
        for factor in later[1:]:
            whole = self.build.mul(whole, factor)
        return self.build.mul(whole, _count(known)) if known != 1 else whole

    def divide(self, number: Value | int, by: int) -> tuple[Value | int, Value | int]:
        """Return the quotient of whole numbers that are not negative, and what is left."""
        if isinstance(number, int):
            return divmod(number, by)
        if by == 1:
            return number, 0
        return self.build.udiv(number, _count(by)), self.build.urem(number, _count(by))

    def at(self, start: Value, *offset: Value | int) -> Value:
        """Return the pointer so many floats after another."""
        return self.build.gep(start, [_count(self.sum(*offset))], source_etype=FLOAT)

    def load(self, where: Value, lanes: int = LANES) -> Value:
        """Return that many floats from here."""
        found = self.build.load(where, typ=_vector(lanes))
        found.align = 4
        return found

    def store(self, vector: Value, where: Value) -> None:
        """Write a vector from here."""
        self.build.store(vector, where).align = 4

    def prefetch(self, where: Value) -> None:
        """Bring what lies here near, without waiting for it; it may lie nowhere."""
        name = "llvm.prefetch.p0"
        known = self.module.globals.get(name)
        if known is None:
            kind = ir.FunctionType(ir.VoidType(), [POINTER, _PLACE, _PLACE, _PLACE])
            known = ir.Function(self.module, kind, name)
        how = [ir.Constant(_PLACE, number) for number in (0, 2, 1)]  # to read, of data
        self.build.call(known, [where, *how])

    def everywhere(self, number: Value, lanes: int = LANES) -> Value:
        """Return a vector of one float."""
        none = ir.Constant(_vector(lanes), ir.Undefined)
        first = self.build.insert_element(none, number, ir.Constant(_PLACE, 0))
        return self.shuffle(first, none, [0] * lanes)

    def repeated(self, where: Value) -> Value:
        """Return a vector of the one float that lies here."""
        found = self.build.load(where, typ=FLOAT)
        found.align = 4
        return self.everywhere(found)

    def multiply_add(self, one: Value, other: Value, total: Value) -> Value:
        """Return one * other + total, rounded once."""
        kind = total.type
        name = f"llvm.fma.v{kind.count}f32"
        known = self.module.globals.get(name)
        if known is None:
            known = ir.Function(self.module, ir.FunctionType(kind, [kind] * 3), name)
        return self.build.call(known, [one, other, total])

    def at_least(self, vector: Value, least: Value) -> Value:
        """Return the larger of two, lane by lane; what is no number stays."""
        return self.build.select(self.build.fcmp_ordered("<", vector, least), least, vector)

    def where_positive(self, vector: Value, other: Value) -> Value:
        """Return a vector, but 0 in the lanes where another is not above 0, as torch's ReLU."""
        none = ir.Constant(vector.type, [0.0] * vector.type.count)
        return self.build.select(self.build.fcmp_ordered("<=", other, none), none, vector)

    def packed(self, vector: Value, mask: Value) -> Value:
        """Return the lanes where a mask is set, side by side, and zeros behind them."""
        kind = vector.type
        name = f"llvm.experimental.vector.compress.v{kind.count}{_short(kind.element)}"
        known = self.module.globals.get(name)
        if known is None:
            known = ir.Function(self.module, ir.FunctionType(kind, [kind, mask.type, kind]), name)
        return self.build.call(known, [vector, mask, ir.Constant(kind, [0] * kind.count)])

    def ones(self, mask: Value) -> Value:
        """Return how many lanes of a mask are set."""
        return self.build.zext(self.build.ctpop(self.build.bitcast(mask, ir.IntType(LANES))), COUNT)

    def shuffle(self, one: Value, other: Value, lanes: Sequence[int]) -> Value:
        """Return the lanes of two vectors, numbered through, in another order."""
        mask = ir.Constant(ir.VectorType(_PLACE, len(lanes)), list(lanes))
        return self.build.shuffle_vector(one, other, mask)

    @contextmanager
    def loop(
        self, count: Value | int, start: Sequence[Value] = ()
    ) -> Iterator[tuple[Value, list[Value]]]:
        """Repeat the block `count` times, at least once; it is given its number, and its values.

        Args:
            count: How often.
            start: What the values are at first. The block puts those of the next round into the
                list that it is given; after the block they are the last ones.
        """
        build = self.build
        before, inside = build.block, build.function.append_basic_block()
        after = build.function.append_basic_block()
        build.branch(inside)
        build.position_at_end(inside)
        index = build.phi(COUNT)
        index.add_incoming(_count(0), before)
        carried = [build.phi(value.type) for value in start]
        for phi, value in zip(carried, start, strict=True):
            phi.add_incoming(value, before)
        values = list(carried)
        yield index, values
        following = build.add(index, _count(1))
        for phi, value in zip(carried, values, strict=True):
            phi.add_incoming(value, build.block)
        index.add_incoming(following, build.block)
        build.cbranch(build.icmp_signed("<", following, _count(count)), inside, after)
        build.position_at_end(after)

    def rearrange(self, vectors: Sequence[Value], target: Target) -> list[Value]:
        """Return the elements of vectors in another order.

        Args:
            vectors: A power of two of them, or few.
            target: From an element's number, counted through all vectors, to its new (vector,
                lane). If they are a power of two, each half of a pair must go to either side.
        """
        number = len(vectors)
        held = [[v * LANES + lane for lane in range(LANES)] for v in range(number)]
        if number & (number - 1):
            return self._one_by_one(vectors, held, target)
        vectors, bit = list(vectors), number // 2
        while bit:
            for low in (v for v in range(number) if not v & bit):
                both = held[low] + held[low | bit]
                for v in (low, low | bit):
                    held[v] = [e for e in both if target(e)[0] & bit == v & bit]
                    if bit == 1:
                        held[v].sort(key=lambda e: target(e)[1])
                pair = vectors[low], vectors[low | bit]
                for v in (low, low | bit):
                    vectors[v] = self.shuffle(*pair, [both.index(e) for e in held[v]])
            bit //= 2
        return vectors

    def _one_by_one(
        self, vectors: Sequence[Value], held: list[list[int]], target: Target
    ) -> list[Value]:
        places = {target(e): e for own in held for e in own}
        found = []
        for v in range(len(vectors)):
            made = vectors[0]
            lanes = [places[v, lane] for lane in range(LANES)]
            start = [e if e < LANES else 0 for e in lanes]
            made = self.shuffle(made, made, start)
            for other in range(1, len(vectors)):
                first = other * LANES
                mask = [
                    LANES + e - first if first <= e < first + LANES else lane
                    for lane, e in enumerate(lanes)
                ]
                made = self.shuffle(made, vectors[other], mask)
            found.append(made)
        return found

    def end(self) -> None:
        """Return from the function."""
        self.build.ret_void()


def _vector(lanes: int) -> ir.VectorType:
    return ir.VectorType(FLOAT, lanes)


def _short(kind: Value) -> str:
    return "f32" if kind == FLOAT else str(kind)


def _count(number: Value | int) -> Value:
    return ir.Constant(COUNT, number) if isinstance(number, int) else number
