"""The permutations that a network's outputs do not depend on, found by following a forward pass.

Operations are seen where torch dispatches them, below modules and functions: so a module may be of
any kind, and may branch on shapes and on values of its inputs, which torch.fx could not trace.
What was found is tried: permutations are drawn, and the outputs must stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossatlas.data.tensors import Inputs, Named
from lossatlas.errors import UserError, out_of_memory, told
from lossatlas.models.functional import Functional, Tensors, devices_of
from lossatlas.permutation.atoms import Atoms, Group, sources
from lossatlas.permutation.layers import LAYERS, Mode, plain
from lossatlas.permutation.operations import KEEP_UNIFORM, UNIFORM, rule_of
from lossatlas.permutation.seen import Axes, Seen, given_of, tensors_in
from lossatlas.training.seeds import generator, seed_default

Network = tuple[Tensors, Tensors]  # parameters and buffers
Permutations = Sequence[np.ndarray]
_VALUES = ("_local_scalar_dense", "is_nonzero", "equal")  # by which Python sees what a tensor holds
_DOUBLE, _SINGLE = 1e-8, 2e-4  # relative difference of outputs up to which they are the same


@dataclass(frozen=True, eq=False)
class Site:
    """Features of a layer that are units of a group.

    Attributes:
        layer: Its place among the layers of a forward pass.
        axis: Of the layer's output.
        group: The group.
        index: Indices (units, repeats) along the axis.
    """

    layer: int
    axis: int
    group: int
    index: np.ndarray


@dataclass(frozen=True)
class Symmetries:
    """Groups of units of a network that can be exchanged.

    Attributes:
        groups: Of at least two units each.
        sites: Where layers write the units, in the order of the layers.
        layers: How many layers a forward pass has.
    """

    groups: tuple[Group, ...]
    sites: tuple[Site, ...]
    layers: int

    @property
    def units(self) -> int:
        """Number of units of all groups."""
        return sum(group.size for group in self.groups)

    def only(self, kept: Sequence[int]) -> Symmetries:
        """Return these groups alone."""
        new = {group: place for place, group in enumerate(kept)}
        sites = (replace(s, group=new[s.group]) for s in self.sites if s.group in new)
        return Symmetries(tuple(self.groups[k] for k in kept), tuple(sites), self.layers)


def permuted(tensors: Tensors, groups: Sequence[Group], permutations: Permutations) -> Tensors:
    """Return tensors whose units are moved.

    Args:
        tensors: Name -> tensor; names that there are not are left out.
        groups: The groups.
        permutations: Of each group: the unit (units,) that comes to each place.
    """
    found = dict(tensors)
    names = {place.name for group in groups for place in group.places}
    shapes = {name: tensors[name].shape for name in names & tensors.keys()}
    here = [
        replace(group, places=tuple(p for p in group.places if p.name in shapes))
        for group in groups
    ]
    for (name, axis), index in sources(here, permutations, shapes).items():
        order = torch.from_numpy(index).to(found[name].device)
        found[name] = found[name].index_select(axis, order)
    return found


def find(functional: Functional, network: Network, inputs: Inputs) -> Symmetries:
    """Return the permutations that a network's outputs do not depend on; they have been tried.

    They depend on the module, and not on its weights.

    Args:
        functional: The network.
        network: Parameters and buffers, of which only shapes and buffers matter.
        inputs: Examples, some of which are passed through the network.

    Raises:
        UserError: If the network fails, or branches on values that depend on its weights; or there
            is nothing that can be permuted.
    """
    found = _traced(functional, network, inputs[:2])
    found = _tried(functional, network, found, inputs[:8]) if found.groups else found
    if not found.groups:
        what = "has no units that can be permuted"
        fix = "leave out the metric 'alignment': the plain distance and barrier are those"
        raise UserError(what, where=functional.name, fix=fix)
    return found


def _traced(functional: Functional, network: Network, inputs: Inputs) -> Symmetries:
    """Return what follows from the operations of a forward pass."""
    atoms = Atoms()
    trace = _Trace(atoms, functional.name)
    params, buffers = network
    own, kept = ({n: t.clone() for n, t in held.items()} for held in (params, buffers))
    for name, tensor in {**own, **kept}.items():
        if tensor.is_floating_point():  # others are counters or indices
            axes = [atoms.fresh(size, name, axis) for axis, size in enumerate(tensor.shape)]
            trace.seen.note(tensor, [*axes], depends=True)
    # Images channels last would be tried first (`Functional`), which is another forward pass.
    x = inputs.clone() if isinstance(inputs, Named) else inputs.contiguous().clone()
    try:
        with torch.no_grad(), plain(functional.module), trace:
            out = functional(own, kept, x, train=False)
    except UserError:
        raise
    except Exception as error:  # a user's module may fail in any way
        raise _unfollowed(error, functional.name) from error
    trace.seen.fix(*trace.seen(out))
    for tensor in {**own, **kept}.values():
        if id(tensor) not in trace.used:  # of no use to the outputs: nothing tells its units
            trace.seen.fix(*trace.seen(tensor))
    groups, group_of, unit_of = atoms.units()
    sites = [
        Site(layer, axis, int(group), _index(unit_of[ours], group_of[ours] == group))
        for layer, axis, ours in trace.sites
        for group in np.unique(group_of[ours])
        if group >= 0
    ]
    whole = [s for s in sites if len(s.index) == groups[s.group].size]
    return Symmetries(tuple(groups), tuple(whole), trace.layers)


def _unfollowed(error: Exception, where: str) -> UserError:
    """Say that a forward pass fails; that memory ran out stays what it is."""
    if out_of_memory(error):
        raise error
    what = f"its forward pass cannot be followed: {told(error)}"
    return UserError(what, where=where, fix="leave out the metric 'alignment'")


def _index(units: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Return the indices (units, repeats) of the units of a group along an axis."""
    (places,) = np.nonzero(ours)
    order = places[np.argsort(units[places], kind="stable")]
    count = len(np.unique(units[places]))
    return order.reshape(count, -1) if len(order) % count == 0 else order[:0].reshape(0, 1)


def _tried(
    functional: Functional, network: Network, found: Symmetries, inputs: Inputs
) -> Symmetries:
    """Return the groups whose units can be moved with no change of the outputs."""
    trial = _Trial(functional, _drawn(functional, network, found), inputs, found)
    every = range(len(found.groups))
    if trial.same(every):
        return found
    kept = [group for group in every if trial.same([group])]
    return found.only(kept if kept and trial.same(kept) else [])


class _Trial:
    """Outputs before and after units are moved, in double precision where the network has it."""

    def __init__(
        self, functional: Functional, network: Network, inputs: Inputs, found: Symmetries
    ) -> None:
        self.functional, self.network = functional, network
        self.inputs = _cast_inputs(inputs, torch.float64)
        self.found, self.close = found, _DOUBLE
        try:
            self.before = self._outputs([])
        except Exception:  # noqa: BLE001 -- a module may name its type of numbers
            params, buffers = network
            single = [{n: _cast(t, torch.float32) for n, t in p.items()} for p in (params, buffers)]
            self.network, self.close = (single[0], single[1]), _SINGLE
            self.inputs = _cast_inputs(inputs, torch.float32)
            try:
                self.before = self._outputs([])
            except Exception as error:  # of theirs, on other weights
                raise _unfollowed(error, functional.name) from error

    def same(self, chosen: Sequence[int]) -> bool:
        """Say whether the units of these groups can be moved."""
        size = self.before.abs().max()
        apart = (self._outputs(chosen) - self.before).abs().max()
        return bool(apart <= self.close * size)  # never with NaN

    def _outputs(self, chosen: Sequence[int]) -> Tensor:
        groups = [self.found.groups[k] for k in chosen]
        draw = generator("permutation", "trial")
        moves = [torch.randperm(group.size, generator=draw).numpy() for group in groups]
        params, buffers = (permuted(held, groups, moves) for held in self.network)
        held = devices_of(self.inputs)
        with torch.no_grad(), plain(self.functional.module), torch.random.fork_rng(held):
            seed_default(self.inputs.device, "permutation", "noise")
            return self.functional(params, buffers, self.inputs.clone(), train=False).double()


def _drawn(functional: Functional, network: Network, found: Symmetries) -> Network:
    """Return weights drawn for a trial, of about the size of initial ones, in double precision."""
    draw = generator("permutation", "weights")
    params = {
        name: torch.randn(shape, generator=draw, dtype=torch.float64).to(network[0][name].device)
        / max(1, shape[1:].numel()) ** 0.5
        for name, shape in functional.shapes.items()
    }
    moved = {place.name for group in found.groups for place in group.places}
    buffers = {name: _cast(b, torch.float64) for name, b in network[1].items()}
    for name in sorted(moved & buffers.keys()):  # variances stay above 0
        more = torch.rand(buffers[name].shape, generator=draw, dtype=torch.float64) + 0.1
        buffers[name] = buffers[name] + more.to(buffers[name].device)
    return params, buffers


def _cast(tensor: Tensor, to: torch.dtype) -> Tensor:
    return tensor.to(to) if tensor.is_floating_point() else tensor


def _cast_inputs(inputs: Inputs, to: torch.dtype) -> Inputs:
    return inputs.to(to) if isinstance(inputs, Named) else _cast(inputs, to)


class _Trace(Mode):
    """Follows units through a forward pass.

    Attributes:
        used: Numbers of the tensors that operations took.
        sites: (layer, axis, atoms) of each axis with units that a layer writes.
    """

    def __init__(self, atoms: Atoms, where: str) -> None:
        super().__init__()
        self.seen, self.where = Seen(atoms), where
        self.layers, self.used = 0, set[int]()
        self.sites: list[tuple[int, int, np.ndarray]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operation, and say what it does to units."""
        given = given_of(func, args, kwargs or {})
        name, rule = rule_of(func)
        used = tensors_in(given)
        self.used.update(map(id, used))
        depends = any(map(self.seen.depends, used))
        if depends and name in _VALUES:
            what = "forward depends on values of features, such as in 'if x.mean() > 0'"
            fix = "leave out the metric 'alignment': such a network has no fixed symmetries"
            raise UserError(what, where=self.where, fix=fix)
        same = name in UNIFORM or (rule in KEEP_UNIFORM and all(map(self.seen.uniform, used)))
        out = func(*args, **(kwargs or {}))
        if same and (used or name in UNIFORM):
            for tensor in tensors_in(out):
                self.seen.note(tensor, None, depends=depends)
            return out
        if rule is None:
            self.seen.fix(*(axis for tensor in used for axis in self.seen(tensor)))
            axes: Axes | None = []
        else:
            axes = rule(self.seen, given, out)
        for tensor in tensors_in(out) if axes is not None else ():
            blank: Axes = [None] * tensor.dim()
            here = axes if axes and len(axes) == len(blank) else blank
            self.seen.note(tensor, here, depends=depends)
        if name in LAYERS:
            held = enumerate(axes or [])
            self.sites += [(self.layers, k, axis) for k, axis in held if axis is not None]
            self.layers += 1
        return out
