"""Refuses networks whose outputs are not those of their task, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lossatlas.data.tensors import Inputs, Named, Split
from lossatlas.errors import UserError, told
from lossatlas.models.functional import Functional, Tensors, devices_of
from lossatlas.tasks import Task

_APART = 1e-3  # of the larger loss: far above rounding, in half precision too


def outputs_of(split: Split) -> int:
    """Return how many classes, or values per example, the targets have."""
    if split.task.values:
        return split.labels[0].numel()
    return max(0, int(split.labels.max())) + 1


def check_outputs(
    functional: Functional,
    params: Tensors,
    buffers: Tensors,
    split: Split,
    classes: int,
    *,
    train: bool,
) -> None:
    """Refuse a network whose forward pass fails, or whose outputs are not those of its task.

    Args:
        functional: The network.
        params: Name -> tensor, of one network.
        buffers: Name -> tensor; not changed.
        split: Examples, of which the first two are used.
        classes: How many classes, or values per example, the targets have.
        train: Look at training mode, the loss and the backward pass, too.

    Raises:
        UserError: If it fails, or returns anything but what the task takes.
    """
    some = split.take(slice(0, 2))
    modes = (False, True) if train and len(some) > 1 else (False,)  # one image has no variance
    with torch.random.fork_rng(devices_of(some.images)):
        for mode in modes:
            fresh = {name: b.clone() for name, b in buffers.items()}
            leaves = {
                name: p.detach().requires_grad_(mode and p.dtype.is_floating_point)
                for name, p in params.items()
            }
            try:
                with torch.set_grad_enabled(mode):
                    out: object = functional(leaves, fresh, some.images.clone(), train=mode)
                if not isinstance(out, Tensor):
                    what = f"forward returns a {type(out).__name__}, not a tensor"
                    fix = "wrap it in a module whose forward returns the outputs alone"
                    raise UserError(what, where=functional.name, fix=fix)
            except UserError:
                raise
            except Exception as error:  # a user's module may fail in any way
                raise _failed(error, some.images, functional.name) from error
            try:
                split.task.check(out, some.labels, classes, functional.name)
                if not mode and len(some) > 1:
                    _check_apart(functional, leaves, fresh, split, out)
                if mode:
                    _check_loss(split.task, out, some.labels)
            except UserError:
                raise
            except Exception as error:  # and so may a task of theirs
                if (again := runs_again(error, functional.name)) is not None:
                    raise again from error
                where = f"task {split.task.name}"
                raise UserError(f"fails: {told(error)}", where=where, fix="mend it") from error


def _check_apart(
    functional: Functional, params: Tensors, buffers: Tensors, split: Split, together: Tensor
) -> None:
    """Refuse a network whose loss on an example depends on the other examples of its batch.

    Losses are compared, not outputs: those at padding may be anything. A network that draws in
    evaluation mode is left to the metrics that cannot have it.
    """
    two, one, task = split.take(slice(0, 2)), split.take(slice(0, 1)), split.task
    with torch.no_grad():
        again = functional(params, buffers, two.images.clone(), train=False)
        if not torch.equal(again, together):
            return
        try:
            alone = functional(params, buffers, one.images.clone(), train=False)
        except Exception:  # noqa: BLE001 -- of one example alone a user's module may fail
            return
        if alone.shape != together[:1].shape:
            return
        losses = task.per_example(together, two.labels), task.per_example(alone, one.labels)
    if any(not isinstance(each, Tensor) or each.dim() != 1 for each in losses):
        return  # what is no loss per example is told of next
    if not all(bool(each.isfinite().all()) for each in losses):
        return
    among, by_itself = losses[0][0], losses[1][0]
    if float((by_itself - among).abs()) > _APART * float(losses[0].abs().max()):
        what = "the loss on an example depends on the other examples of its batch"
        fix = "in evaluation mode let each example be computed by itself"
        raise UserError(what, where=functional.name, fix=fix)


def _check_loss(task: Task, outputs: Tensor, targets: Tensor) -> None:
    """Refuse a loss that is no number per example, or has no gradient; and counts that are none."""
    each, where = task.per_example(outputs, targets), f"task {task.name}"
    counts = task.counts(targets)
    numbers = {"per_example": each}
    if counts is not None:
        numbers["counts"] = counts
    if task.scored:
        numbers["wrong"] = task.wrong(outputs, targets)
    for name, found in numbers.items():
        if not isinstance(found, Tensor) or found.shape != targets.shape[:1]:
            shape = f" {tuple(found.shape)}" if isinstance(found, Tensor) else ""
            what = f"{name} returns a {type(found).__name__}{shape}"
            fix = f"return a tensor ({len(targets)},), a number per example"
            raise UserError(what, where=where, fix=fix)
    if task.scored and bool((numbers["wrong"] > (1 if counts is None else counts)).any()):
        what = "wrong counts more errors than there are targets"
        raise UserError(what, where=where, fix="let counts say how many an example has")
    if not outputs.requires_grad:  # a network without trained parameters
        return
    if not each.requires_grad:
        fix = "compute it from the outputs by operations of torch"
        raise UserError("the loss has no gradient", where=where, fix=fix)
    torch.autograd.backward(task.mean(outputs, targets))


def _failed(error: Exception, inputs: Inputs, where: str) -> UserError:
    """Say how a module failed."""
    if (again := runs_again(error, where)) is not None:
        return again
    if isinstance(inputs, Named):
        given = ", ".join(f"{k} {tuple(t.shape)}" for k, t in inputs.tensors.items())
        return UserError(f"forward fails on inputs {given}: {told(error)}", where=where)
    what = f"forward fails on images {tuple(inputs.shape)} of {inputs.dtype}: {told(error)}"
    return UserError(what, where=where, fix="mend it; images are (N, C, H, W)")


def runs_again(error: Exception, where: str = "model") -> UserError | None:
    """Explain the error of a part that runs again in the backward pass, where it has no weights."""
    if "meta" not in str(error):
        return None
    what = "forward runs a part of itself again during the backward pass"
    return UserError(what, where=where, fix="switch activation checkpointing off")


@contextmanager
def explained() -> Iterator[None]:
    """Turn BatchNorm's complaint about a single image into advice."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        fix = "another 'batch_size', or 'incomplete_batch: drop'"
        what = "a batch has one image, over which BatchNorm has no variance"
        raise UserError(what, where="recipe", fix=fix) from None
