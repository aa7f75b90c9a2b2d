"""Modules and data as the metrics take them: networks with their examples."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.connectivity.evaluate import NORM_BATCH, estimate_norms
from lossatlas.data.loading import open_data
from lossatlas.data.tensors import Inputs, Named, Split, TensorData
from lossatlas.errors import UserTypeError, UserValueError
from lossatlas.models.functional import Functional, Tensors, state_of
from lossatlas.models.outputs import check_outputs, outputs_of
from lossatlas.notebook.examples import split_of
from lossatlas.notebook.losses import OfFunction, check_targets, task_of
from lossatlas.training import checkpoints
from lossatlas.training.foreign import divide, read_state, unwrapped
from lossatlas.training.networks import Networks, evaluator

_CHECKED = 64  # examples on which a loss given as a function is looked at


@dataclass(frozen=True)
class Given:
    """What a function of the notebook measures.

    Attributes:
        networks: The models, numbered from 0, with their data on the device of the first.
        tested: Whether there are test examples; else one training example stands in their place.
    """

    networks: Networks
    tested: bool


def networks_of(
    models: Any,
    data: Any,
    loss: Any = None,
    test: Any = None,
    *,
    trains: bool = False,
    least: int = 1,
) -> Given:
    """Return models with their data; neither is changed.

    Args:
        models: A module, or several of one architecture.
        data: What training saw: see `examples.read`; a `Split`, a `TensorData`, or the name of a
            data set as `lossatlas metric --data` takes it.
        loss: As `losses.task_of`; default: that of the data, or "classification".
        test: Examples that training did not see, likewise; default: those of a `TensorData`.
        trains: Whether networks are trained, which then must run in training mode.
        least: How many models are needed.

    Raises:
        UserError: With what was expected.
    """
    modules = modules_of(models, least)
    whole, tested = _data_of(data, loss, test, modules[0])
    functional = Functional(modules[0])
    states = {place: state_of(module) for place, module in enumerate(modules)}
    _check_alike(modules)
    train = whole.train
    check_outputs(functional, *states[0], train, whole.classes, train=trains)
    if isinstance(train.task, OfFunction):
        some = train.take(slice(0, _CHECKED))
        forward = evaluator(functional, *states[0])
        train.task.check_mean(forward(some.images), some.labels)
    return Given(checkpoints.assemble(functional, states, whole, train.device), tested)


def _data_of(data: Any, loss: Any, test: Any, module: nn.Module) -> tuple[TensorData, bool]:
    """Return the data where a module lies, with their task, and whether there are test examples."""
    device, dtype = place_of(module)
    if isinstance(data, str):
        data = open_data(data, device, loss if isinstance(loss, str) else "")
    given = split_of(data)
    found = given if isinstance(given, TensorData) else TensorData("data", given, given, 0)
    train = _fitted(found.train, loss, device, dtype, "data")
    tested = test is not None or given is found
    other = train.take(slice(0, 1))
    if tested:
        held = split_of(found.test if test is None else test, "test")
        part = held.test if isinstance(held, TensorData) else held
        other = _fitted(part, train.task, device, dtype, "test")
    classes = max(outputs_of(train), outputs_of(other))
    return replace(found, train=train, test=other, classes=classes, held_out=None), tested


def modules_of(models: Any, least: int = 1) -> list[nn.Module]:
    """Return one or several modules as a list.

    Raises:
        UserError: If one is none, or there are fewer than `least`.
    """
    several = isinstance(models, list | tuple | nn.ModuleList)
    found = list(models) if several else [models]
    for place, one in enumerate(found):
        if not isinstance(one, nn.Module):
            where = f"model {place}" if several else "model"
            fix = "give a torch.nn.Module"
            if isinstance(one, type) and issubclass(one, nn.Module):
                fix = f"give an instance: {one.__name__}(...)"
            elif isinstance(one, str):
                fix = "read it first: lossatlas.read_checkpoint(module, file)"
            raise UserTypeError(f"is {_named(one)}", where=where, fix=fix)
    if len(found) < least:
        what = f"needs at least {least} models; {len(found)} given"
        raise UserValueError(what, where="models", fix="give a list of modules")
    return found


def _named(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"a {type(thing).__name__}"


def place_of(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return where the parameters of a module lie, and of what type those of floating point are.

    Raises:
        UserError: If it has none, or they lie on several devices.
    """
    parameters = list(module.parameters())
    where = f"model {type(module).__name__}"
    if not parameters:
        raise UserValueError("has no parameters", where=where, fix="give a network with weights")
    if any(map(nn.parameter.is_lazy, parameters)):
        fix = "call it once on a batch of inputs"
        raise UserValueError("has lazy layers that know no shape yet", where=where, fix=fix)
    devices = sorted({str(one.device) for one in parameters})
    if len(devices) > 1 or devices == ["meta"]:
        what = f"lies on {' and '.join(devices)}"
        raise UserValueError(what, where=where, fix="move it to one device, as model.to('cpu')")
    floating = [one.dtype for one in parameters if one.is_floating_point()]
    return parameters[0].device, floating[0] if floating else torch.float32


def _check_alike(modules: Sequence[nn.Module]) -> None:
    """Refuse models of different architectures.

    Raises:
        UserError: With the first tensor that differs.
    """
    shapes = [{n: tuple(t.shape) for n, t in module.state_dict().items()} for module in modules]
    for place, own in enumerate(shapes[1:], 1):
        names = [n for n in {**shapes[0], **own} if shapes[0].get(n) != own.get(n)]
        if names:
            told = [
                f"no '{names[0]}'" if names[0] not in some else f"'{names[0]}' {some[names[0]]}"
                for some in (shapes[0], own)
            ]
            what = f"is another network than model 0, which has {told[0]} where this has {told[1]}"
            fix = "give models of one architecture"
            raise UserValueError(what, where=f"model {place}", fix=fix)


def _fitted(split: Split, loss: Any, device: torch.device, dtype: torch.dtype, where: str) -> Split:
    """Return examples with their task, on a device, floating point in the type of the weights."""
    task = split.task if loss is None else task_of(loss, split.labels)
    targets = check_targets(task, split.labels, where).to(device)
    if targets.is_floating_point():
        targets = targets.to(dtype)
    return replace(split, images=_moved(split.images, device, dtype), labels=targets, task=task)


def _moved(inputs: Inputs, device: torch.device, dtype: torch.dtype) -> Inputs:
    if isinstance(inputs, Named):
        return inputs.to(device).to(dtype)
    found: Tensor = inputs.to(device)
    return found.to(dtype) if found.is_floating_point() else found


def read_checkpoint(model: nn.Module, file: Any) -> nn.Module:
    """Return a copy of a module, in evaluation mode, with the weights of a file.

    Args:
        model: The network; it is not changed.
        file: As `lossatlas metric --checkpoint` takes it: a state dict as `torch.save` or
            safetensors wrote it, alone or in a dictionary with other things; an index of sharded
            safetensors; or a folder with one of these.

    Raises:
        UserError: If the file cannot be read or holds weights of another network.
    """
    (module,) = modules_of(model)
    if not isinstance(file, (str, os.PathLike)):
        what = f"is a {type(file).__name__}"
        raise UserTypeError(what, where="file", fix="give the name of a file; of a dictionary of"
                            " tensors, call load_state_dict of the module")  # fmt: skip
    file, functional = os.fspath(file), Functional(module)
    params, buffers = divide(functional, unwrapped(functional, read_state(file), file), file)
    return module_at(module, {**params, **buffers})


def with_statistics(
    module: nn.Module, functional: Functional, network: tuple[Tensors, Tensors], images: Inputs
) -> nn.Module:
    """Return a copy of a module with these weights, and BatchNorm statistics of `images`."""
    params, buffers = network
    if functional.has_norms:
        buffers = estimate_norms(functional, network, images, NORM_BATCH)
    return module_at(module, {**params, **buffers})


def module_at(module: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """Return a copy of a module in evaluation mode with these parameters and buffers."""
    made = copy.deepcopy(module).eval()
    with torch.no_grad():
        for name, tensor in (*made.named_parameters(), *made.named_buffers()):
            if name in tensors:
                tensor.copy_(tensors[name])
    return made
