"""Complexes: which vertices make up which simplexes. Needs no torch.

Vertices are named: `w3` is the replica of seed 3 (a mode), `c0`, `c1`, ... are trained connectors,
in the order in which they are trained.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from lossatlas.errors import UserError, nearest

_VERTEX = re.compile(r"([wc])(\d+)")


class Vertex(NamedTuple):
    """A vertex of a complex: a mode, numbered by its seed, or a connector."""

    mode: bool
    number: int

    @property
    def name(self) -> str:
        """Its name in a config, such as w3 or c0."""
        return f"{'w' if self.mode else 'c'}{self.number}"


@dataclass(frozen=True)
class Complex:
    """Simplexes by the indices of their vertices: the modes first, then the connectors.

    Attributes:
        modes: Seeds of the replicas that are vertices.
        connectors: How many vertices are trained.
        simplexes: Vertex indices of each, ascending.
    """

    modes: tuple[int, ...]
    connectors: int
    simplexes: tuple[tuple[int, ...], ...]

    @property
    def vertices(self) -> list[Vertex]:
        """All vertices, by index."""
        modes = [Vertex(True, seed) for seed in self.modes]
        return [*modes, *(Vertex(False, i) for i in range(self.connectors))]

    @property
    def names(self) -> list[str]:
        """Names of all vertices, by index."""
        return [vertex.name for vertex in self.vertices]

    def until(self, connectors: int) -> list[tuple[int, ...]]:
        """Return the simplexes as they are when so many connectors have been trained.

        Of a simplex whose other vertices are yet to come a face of another may be left: it is part
        of that one, and left out.
        """
        last = len(self.modes) + connectors
        found = [tuple(v for v in simplex if v < last) for simplex in self.simplexes]
        return [one for one in dict.fromkeys(found) if not any(set(one) < set(s) for s in found)]

    def around(self, connector: int) -> list[tuple[int, ...]]:
        """Return the simplexes of `until(connector + 1)` that contain that connector."""
        index = len(self.modes) + connector
        return [simplex for simplex in self.until(connector + 1) if index in simplex]

    def indices(self, names: Sequence[str], where: str = "") -> tuple[int, ...]:
        """Return the indices of vertices by name.

        Raises:
            UserError: If there is no such vertex, or one is named twice.
        """
        for name in names:
            if name not in self.names:
                fix = f"its vertices: {', '.join(self.names)}"
                raise UserError(f"the complex has no vertex '{name}'", where=where, fix=fix)
        if len(set(names)) != len(names):
            what = f"{list(names)} repeats a vertex"
            raise UserError(what, where=where, fix="name each vertex once")
        return tuple(self.names.index(name) for name in names)

    def edges(self) -> list[tuple[int, int]]:
        """Return all edges, each once."""
        return sorted({pair for simplex in self.simplexes for pair in combinations(simplex, 2)})


def grown(mode: int, connectors: int) -> Complex:
    """Return one simplex grown from one mode (ESPRO; Benton et al., 2021, section 5)."""
    return Complex((mode,), connectors, (tuple(range(connectors + 1)),))


def shared(modes: Sequence[int], connectors: int) -> Complex:
    """Return one simplex per mode that all share the connectors (section 4.2)."""
    count = len(modes)
    common = tuple(range(count, count + connectors))
    return Complex(tuple(modes), connectors, tuple((i, *common) for i in range(count)))


def listed(simplexes: Sequence[Sequence[str]], seeds: Sequence[int], where: str = "") -> Complex:
    """Return the complex of an incidence list.

    Args:
        simplexes: Names of the vertices of each, such as [["w0", "c0"], ["w1", "c0"]].
        seeds: Of the replicas there are.
        where: The key of the list, for messages.

    Raises:
        UserError: If a vertex is misnamed, no replica, or repeated; if connectors have gaps; or a
            simplex repeats, or a connector has no simplex with an earlier vertex.
    """
    parsed = [[_vertex(name, where) for name in simplex] for simplex in simplexes]
    used = {vertex for simplex in parsed for vertex in simplex}
    modes = sorted(number for kind, number in used if kind == "w")
    connectors = sorted(number for kind, number in used if kind == "c")
    for seed in modes:
        if seed not in seeds:
            fix = f"replicas: {', '.join(f'w{s}' for s in seeds)}"
            raise UserError(f"unknown mode 'w{seed}'", where=where, fix=fix)
    if connectors != list(range(len(connectors))):
        fix = "number them c0, c1, ... without a gap"
        raise UserError("connectors are numbered with gaps", where=where, fix=fix)
    if not modes:
        raise UserError("no simplex has a mode", where=where, fix="name one, such as 'w0'")
    index = {("w", seed): i for i, seed in enumerate(modes)}
    index |= {("c", i): len(modes) + i for i in connectors}
    found: list[tuple[int, ...]] = []
    for names, simplex in zip(simplexes, parsed, strict=True):
        if not simplex or len(set(simplex)) != len(simplex):
            what = f"the simplex {list(names)} repeats a vertex" if simplex else "an empty simplex"
            raise UserError(what, where=where, fix="name each vertex once")
        found.append(tuple(sorted(index[vertex] for vertex in simplex)))
    if len(set(found)) != len(found):
        raise UserError("a simplex is listed twice", where=where, fix="list each once")
    made = Complex(tuple(modes), len(connectors), tuple(found))
    _check_order(made, where)
    return made


def beginning(simplexes: Sequence[Sequence[str]], most: int = 3) -> list[list[str]]:
    """Return the first simplexes of an incidence list, at least `most`, that are a complex."""
    for count in range(most, len(simplexes)):
        kept = [list(names) for names in simplexes[:count]]
        seeds = [int(name[1:]) for names in kept for name in names if name.startswith("w")]
        with contextlib.suppress(UserError):
            listed(kept, seeds)
            return kept
    return [list(names) for names in simplexes]


def _vertex(name: str, where: str) -> tuple[str, int]:
    match = _VERTEX.fullmatch(str(name))
    if match is None:
        fix = "'w<seed>' is a replica, 'c<number>' a connector"
        raise UserError(f"'{name}' names no vertex", where=where, fix=fix)
    return match[1], int(match[2])


def _check_order(made: Complex, where: str) -> None:
    for connector in range(made.connectors):
        if all(len(simplex) == 1 for simplex in made.around(connector)):
            what = f"'c{connector}' shares no simplex with an earlier vertex"
            raise UserError(what, where=where, fix="number connectors in the order of training")


def chosen(
    shape: str | Sequence[Sequence[str]],
    modes: int,
    connectors: int,
    seeds: Sequence[int],
    where: str = "simplex",
) -> Complex:
    """Return the complex that settings ask for.

    Args:
        shape: "single", "shared", or an incidence list.
        modes: Replicas that "shared" connects.
        connectors: Of "single" and "shared".
        seeds: Of the replicas there are; the first ones are taken.
        where: For messages.

    Raises:
        UserError: If there are fewer replicas than modes, or as `listed`.
    """
    if not isinstance(shape, str):
        return listed(shape, seeds, f"{where}: complex")
    wanted = {"single": 1, "shared": modes}
    if shape not in wanted:
        raise UserError(f"unknown complex '{shape}'", where=where, fix=nearest(shape, wanted))
    if len(seeds) < wanted[shape]:
        what = f"{wanted[shape]} modes are asked for, and {len(seeds)} replicas ended well"
        raise UserError(what, where=where, fix="train more seeds, or ask for fewer modes")
    if shape == "single":
        return grown(seeds[0], connectors)
    return shared(seeds[:modes], connectors)


def check_dimension(made: Complex, parameters: int, where: str = "simplex") -> None:
    """Refuse a simplex of more dimensions than there are parameters.

    Raises:
        UserError: If there is one.
    """
    dimension = max(map(len, made.simplexes)) - 1
    if dimension > parameters:
        what = f"a simplex of {dimension} dimensions in a space of {parameters} parameters"
        raise UserError(what, where=where, fix="ask for fewer connectors")
