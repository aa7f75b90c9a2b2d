"""A module as a pure function of its parameters, for one or many parameter sets at once.

Everything that looks at a loss landscape moves through parameter space. It does so with any
`torch.nn.Module`, unchanged: no twin layers, no in-place edits of the user's module.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lossatlas.data.tensors import Inputs, Named
from lossatlas.errors import UserError, told
from lossatlas.models.parts import check_parts, constants_of
from lossatlas.models.safe_convolution import avoid_faults
from lossatlas.models.together import Together

Tensors = dict[str, Tensor]

_BATCH_NORM = nn.modules.batchnorm._BatchNorm  # noqa: SLF001 -- torch has no public base
_Norm = nn.modules.batchnorm._NormBase  # noqa: SLF001 -- nor of these and InstanceNorm


_KERNEL_DIMS = 4  # of the weights of a convolution of images: out, in, height, width


class Functional:
    """A module without weights of its own.

    Args:
        module: Any module from inputs to outputs, such as images to logits; copied. The copy has no
            weights, and every call must bring all of its own. Tied weights stay tied, under their
            first name.

    Attributes:
        narrowest: Fewest output channels of a convolution of images; 0 if there is none.

    Raises:
        UserError: If the module cannot be copied, is TorchScript or pruned, or has trained
            parameters of several types.
    """

    def __init__(self, module: nn.Module) -> None:
        self.name = f"model {type(module).__name__}"
        check_parts(module, self.name)
        still = constants_of(module)
        own = {name: p for name, p in module.named_parameters() if name not in still}
        self.shapes = {name: p.shape for name, p in own.items()}
        self.trainable = [name for name, p in own.items() if p.requires_grad]
        try:
            self.module = _without_weights(_settled(copy.deepcopy(module)))
        except RuntimeError as error:
            fix = "torch.nn.utils.parametrizations has norms of weights that can be copied"
            raise UserError(f"cannot be copied: {told(error)}", where=self.name, fix=fix) from error
        avoid_faults(self.module)
        self._places = places_of(self.module)
        self._names = {name for _, _, name in self._places}
        self.norms = [m for m in self.module.modules() if _has_statistics(m)]
        kernels = [shape for shape in self.shapes.values() if len(shape) == _KERNEL_DIMS]
        self.narrowest = min((shape[0] for shape in kernels), default=0)
        self.has_norms = any(norm.track_running_stats for norm in self.norms)
        self._momenta = [norm.momentum for norm in self.norms]
        self._vectorises: dict[tuple[bool, bool], bool] = {}
        self._takes_last: dict[bool, bool] = {}
        self._layers: Together | None = None
        self._layered: bool | None = None

    def __call__(self, params: Tensors, buffers: Tensors, x: Inputs, *, train: bool) -> Tensor:
        """Return outputs of one network, such as logits.

        Args:
            params: Name -> tensor; differentiable.
            buffers: Name -> tensor; what the module changes of them, such as BatchNorm statistics
                if `train`, is changed in place.
            x: Images (N, C, H, W), or whatever the module takes; several by name are keyword
                arguments of its forward.
            train: Training mode (batch statistics, dropout) or evaluation mode.

        Returns:
            Outputs (N, ...), such as logits (N, classes).

        Raises:
            UserError: If the module writes into its images.
        """
        if self.module.training != train:
            self.module.train(train)
        if isinstance(x, Named):
            return self._forward(params, buffers, x.tensors)
        x = self._arranged(params, buffers, x, train=train)
        writes = 0 if x.is_inference() else x._version  # noqa: SLF001 -- there is no public one
        logits = self._forward(params, buffers, x)
        if not x.is_inference() and x._version != writes:  # noqa: SLF001
            what = "forward changes its images in place, and they are used again"
            fix = "write x = x * 2 in place of x *= 2, and no inplace=True on the images themselves"
            raise UserError(what, where=self.name, fix=fix)
        return logits

    def _forward(
        self, params: Tensors, buffers: Tensors, x: Tensor | Mapping[str, Tensor]
    ) -> Tensor:
        # As torch.func.functional_call, which looks all places up anew each time: a tenth of the
        # step of a small network.
        tensors, places = {**params, **buffers}, self._places
        if tensors.keys() != self._names:
            raise KeyError(f"tensors {sorted(tensors.keys() ^ self._names)}")
        empty = [held[key] for held, key, _ in places]
        try:
            for held, key, name in places:
                held[key] = tensors[name]
            logits: Tensor = self.module(x) if isinstance(x, Tensor) else self.module(**x)
            with torch.no_grad():
                for held, key, name in places:  # `self.mean = ...` puts another in its place
                    if name in buffers and held[key] is not buffers[name]:
                        buffers[name].copy_(held[key])
        finally:
            for (held, key, _), nothing in zip(places, empty, strict=True):
                held[key] = nothing
        return logits

    def many(self, params: Tensors, buffers: Tensors, x: Inputs, *, train: bool) -> Tensor:
        """Return outputs of G networks, each on its own inputs.

        Ordinary layers run for all of them at once, in training on the CPU; other modules are one
        vectorised network. A module that `torch.vmap` does not take, such as one that branches on
        values or is recurrent, is called G times.

        Args:
            params: Name -> (G, ...).
            buffers: Name -> (G, ...); updated in place if `train`.
            x: Images (G, N, C, H, W), or other inputs (G, N, ...).
            train: As in `__call__`.

        Returns:
            Outputs (G, N, ...).
        """
        if isinstance(x, Tensor) and len(x) > 1 and train and self._takes_layers(buffers, x):
            assert self._layers is not None
            return self._layers(params, buffers, x)
        if isinstance(x, Tensor) and not x[0].is_contiguous():
            self._arranged(one_of(params, 0), one_of(buffers, 0), x[0], train=train)
            x = x if self._takes_last[train] else x.contiguous()
        if len(x) > 1 and self._takes_vmap(params, buffers, x, train=train):
            return self._vectorised(params, buffers, x, train=train)
        each = [
            self(one_of(params, index), one_of(buffers, index), x[index], train=train)
            for index in range(len(x))
        ]
        return torch.stack(each)

    def _arranged(self, params: Tensors, buffers: Tensors, x: Tensor, *, train: bool) -> Tensor:
        """Return images as the module takes them: channels last is refused by `view` of features.

        Tried once for each mode, on two images and copies of the buffers: a resumed training goes
        on as it began.
        """
        if x.is_contiguous():
            return x
        if train not in self._takes_last:
            if self.module.training != train:
                self.module.train(train)
            fresh = {name: b.detach().clone() for name, b in buffers.items()}
            with torch.no_grad(), torch.random.fork_rng(devices_of(x)):
                try:
                    self._forward(params, fresh, x[:2].clone())
                    self._takes_last[train] = True
                except RuntimeError:  # what else is wrong with it, the call itself tells
                    self._takes_last[train] = False
        return x if self._takes_last[train] else x.contiguous()

    def _vectorised(self, params: Tensors, buffers: Tensors, x: Inputs, *, train: bool) -> Tensor:
        if self.module.training != train:
            self.module.train(train)
        given = x.tensors if isinstance(x, Named) else x
        return torch.vmap(self._forward, randomness="different")(params, buffers, given)

    def _takes_vmap(self, params: Tensors, buffers: Tensors, x: Inputs, *, train: bool) -> bool:
        """Say whether `torch.vmap` takes the module; tried once, on two images of each network."""
        mode = train, torch.is_grad_enabled()  # transformers take a shorter way without gradients
        if mode not in self._vectorises:
            fresh = {name: b.clone() for name, b in buffers.items()}
            with torch.random.fork_rng(devices_of(x)):
                try:
                    self._vectorised(params, fresh, x[:, :2].clone(), train=train)
                    self._vectorises[mode] = True
                except RuntimeError:  # what else is wrong with it, the calls one by one tell
                    self._vectorises[mode] = False
        return self._vectorises[mode]

    def _takes_layers(self, buffers: Tensors, x: Tensor) -> bool:
        """Say whether the module can be run layer by layer; tried once."""
        if x.device.type != "cpu" or x.dim() != 5 or torch.is_autocast_enabled("cpu"):
            return False
        if not all(b.is_contiguous() for b in buffers.values()):
            return False
        if self._layered is None:
            self._layered = False
            alone = partial(self, train=True)
            with torch.random.fork_rng([]):
                try:
                    self._layers = Together(self.module)
                    self._layered = self._layers.agrees(alone, self.shapes, buffers, x)
                except Exception:  # noqa: BLE001 -- the user's forward, traced, may fail in any way
                    self._layers = None
        return self._layered

    def untrained(self, device: torch.device) -> Tensor | None:
        """Return which parameters (P,) the module does not train; None if it trains all."""
        if len(self.trainable) == len(self.shapes):
            return None
        names = set(self.trainable)
        parts = [torch.full((s.numel(),), n not in names) for n, s in self.shapes.items()]
        return torch.cat(parts).to(device)

    @contextmanager
    def norm_momentum(self, momentum: float) -> Iterator[None]:
        """Give every BatchNorm this momentum inside the block."""
        for norm in self.norms:
            norm.momentum = momentum
        try:
            yield
        finally:
            for norm, original in zip(self.norms, self._momenta, strict=True):
                norm.momentum = original


def devices_of(x: Inputs) -> list[torch.device]:
    """Return the devices, besides the CPU, whose random state a module may draw from."""
    return [x.device] if x.device.type == "cuda" else []


def places_of(module: nn.Module) -> list[tuple[dict[str, Any], str, str]]:
    """Return where a module keeps its tensors: (dictionary, key, name); ties have one name."""
    names: dict[int, str] = {}
    places: list[tuple[dict[str, Any], str, str]] = []
    for prefix, part in module.named_modules():
        for held in (part._parameters, part._buffers):  # noqa: SLF001 -- as functional_call does
            for key, own in held.items():
                if own is not None:
                    name = names.setdefault(id(own), f"{prefix}.{key}" if prefix else key)
                    places.append((held, key, name))
    return places


def _has_statistics(part: nn.Module) -> TypeGuard[_Norm]:
    """Say whether a part keeps statistics: BatchNorm, and InstanceNorm where it is asked to."""
    return isinstance(part, _BATCH_NORM) or (isinstance(part, _Norm) and part.track_running_stats)


def _settled(module: nn.Module) -> nn.Module:
    """Make constants buffers, and gradients of embeddings dense: no number changes."""
    for name in constants_of(module):
        path, _, key = name.rpartition(".")
        part = module.get_submodule(path)
        held = part._parameters.pop(key)  # noqa: SLF001 -- `del` and `register_buffer` run setters
        part._buffers[key] = None if held is None else held.detach()  # noqa: SLF001
    for part in module.modules():
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            part.sparse = False
    return module


def _without_weights(module: nn.Module) -> nn.Module:
    """Take away the values of a module's parameters; names, shapes and ties stay.

    What uses them would be wrong and not fail: a checkpointed layer (`torch.utils.checkpoint`) runs
    again during the backward pass, when the weights of the call are no longer in their places.
    """
    empty: dict[int, nn.Parameter] = {}
    for part in module.modules():
        if isinstance(part, parametrize.ParametrizationList):
            continue  # from its values a layer makes the weight that it shows
        for name, own in part._parameters.items():  # noqa: SLF001 -- assigning would run setters
            if own is not None:
                nothing = torch.empty_like(own, device="meta")
                kept = empty.setdefault(id(own), nn.Parameter(nothing, own.requires_grad))
                part._parameters[name] = kept  # noqa: SLF001
    return module


def state_of(module: nn.Module) -> tuple[Tensors, Tensors]:
    """Return detached copies of parameters and buffers, by name, as a `Functional` has them."""
    still = constants_of(module)
    every = {name: p.detach().clone() for name, p in module.named_parameters()}
    params = {name: p for name, p in every.items() if name not in still}
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    return params, {**buffers, **{name: every[name] for name in still}}


def stack(states: list[Tensors]) -> Tensors:
    """Stack G sets of tensors: name -> (G, ...)."""
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def one_of(stacked: Tensors, index: int) -> Tensors:
    """Return views of the tensors of one network."""
    return {name: tensor[index] for name, tensor in stacked.items()}


def flatten(params: Mapping[str, Tensor]) -> Tensor:
    """Return one vector (P,) of all parameters, in their order."""
    return torch.cat([p.reshape(-1) for p in params.values()])


def unflatten(vector: Tensor, like: Mapping[str, Tensor | torch.Size]) -> Tensors:
    """Cut a vector (P,) into named tensors with the shapes of `like` (views)."""
    shapes = {name: v.shape if isinstance(v, Tensor) else v for name, v in like.items()}
    pieces = torch.split(vector, [shape.numel() for shape in shapes.values()])
    return {
        name: piece.reshape(shape)
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


@torch.no_grad()
def reestimate_norms(
    functional: Functional, params: Tensors, buffers: Tensors, images: Inputs, batch: int = 1024
) -> Tensors:
    """Return buffers whose BatchNorm statistics are those of `params` on `images`.

    The statistics are the mean over batches of the batch statistics, weighted by batch size, as in
    Garipov et al. (2018): momentum = n_batch / n_seen in one pass.

    Args:
        functional: The network.
        params: Name -> tensor, of one network.
        buffers: Name -> tensor; not changed.
        images: (N, C, H, W).
        batch: Images per pass; an incomplete last batch counts by its size.

    Returns:
        New buffers.
    """
    fresh = {name: b.clone() for name, b in buffers.items()}
    if not functional.has_norms:
        return fresh
    seen = 0
    for chunk in images.split(batch):
        seen += len(chunk)
        with functional.norm_momentum(len(chunk) / seen):
            functional(params, fresh, chunk, train=True)
    return fresh
