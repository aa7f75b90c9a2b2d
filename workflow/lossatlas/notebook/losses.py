"""Losses as people name them: a task's name, a Task, or a function of outputs and targets."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas import tasks
from lossatlas.errors import UserError, UserTypeError, UserValueError, out_of_memory, told
from lossatlas.tasks import Task
from lossatlas.tasks.values import MultiLabel, Regression

Loss = Callable[[Any, Tensor], Any]
_CLOSE = 1e-4  # relative difference up to which two losses count as equal
_FIX = "give a Task, its name, or a function of (outputs, targets)"


def task_of(loss: Any, targets: Tensor) -> Task:
    """Return the task of a loss.

    Args:
        loss: The name of a task ("regression", "package.module:MyTask"), a `Task`, or a function of
            outputs and targets that returns the mean over the examples, or a number for each.
            None is "classification". Losses of torch that are those of a task become that task, so
            that errors are counted.
        targets: (N, ...).

    Raises:
        UserError: If it is none of these.
    """
    if loss is None:
        return tasks.CLASSIFICATION
    if isinstance(loss, Task):
        return loss
    if isinstance(loss, type) and issubclass(loss, Task):
        return loss()
    if isinstance(loss, str):
        return tasks.find(loss, "loss")
    if isinstance(loss, type) or not callable(loss):
        made = f"the class {loss.__name__}" if isinstance(loss, type) else f"a {_kind(loss)}"
        raise UserTypeError(f"is {made}, not a loss", where="loss", fix=_FIX)
    return _known(loss, targets) or OfFunction.made(loss, values=targets.is_floating_point())


def _kind(thing: object) -> str:
    return type(thing).__name__


def _known(loss: Any, targets: Tensor) -> Task | None:
    """Return the built-in task whose loss this is."""
    like = {
        "weight": None,
        "pos_weight": None,
        "ignore_index": tasks.IGNORED,
        "label_smoothing": 0.0,
        "reduction": "mean",
    }
    plain = all(getattr(loss, name, value) == value for name, value in like.items())
    kind = type(loss) if isinstance(loss, nn.Module) else loss
    if not plain:
        return None
    if kind in (nn.CrossEntropyLoss, F.cross_entropy) and targets.dim() == 1:
        return None if targets.is_floating_point() else tasks.CLASSIFICATION
    if kind in (nn.MSELoss, F.mse_loss):
        return Regression()
    logistic = kind in (nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits)
    binary = logistic and bool(((targets == 0) | (targets == 1)).all())
    return MultiLabel() if binary else None


class OfFunction(Task):
    """The task of a loss that is given as a function."""

    unit = ""

    def __init__(self, whole: Loss, each: Loss) -> None:
        self._whole, self._loss = whole, each

    @classmethod
    def made(cls, loss: Loss, *, values: bool) -> Task:
        """Return the task of a loss, of targets that are `values` or whole numbers."""
        name, each = getattr(loss, "__name__", type(loss).__name__), loss
        if isinstance(loss, nn.Module) and getattr(loss, "reduction", "") == "mean":
            each = copy.deepcopy(loss)
            setattr(each, "reduction", "none")  # noqa: B010 -- modules declare no such attribute
        return type(cls.__name__, (cls,), {"name": name, "values": values})(loss, each)

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (N,): those of the function, or of each example by itself."""
        found = self._called(outputs, targets)
        if found.dim():
            return found.flatten(1).mean(1) if found.dim() > 1 else found
        pairs = zip(outputs.split(1), targets.split(1), strict=True)
        return torch.stack([self._called(*pair) for pair in pairs])

    def mean(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar."""
        return self._called(outputs, targets).mean()

    def means(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:  # noqa: ARG002
        """Return the mean losses (G,) of outputs (G, N, ...)."""
        return torch.stack([self.mean(*pair) for pair in zip(outputs, targets, strict=True)])

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return summed loss, no errors (NaN) and examples (3,), in float64."""
        count = len(targets)
        found = self.mean(outputs, targets).double() * count
        return torch.stack([found, found.new_tensor(math.nan), found.new_tensor(count)])

    def _called(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the examples, a scalar, or losses (N, ...)."""
        try:
            found = self._loss(outputs, targets)
        except Exception as error:  # the user's loss may fail in any way
            if isinstance(error, UserError) or out_of_memory(error):
                raise
            fix = "it is called as loss(outputs, targets)"
            raise UserValueError(f"fails: {told(error)}", where=self._where, fix=fix) from error
        if not isinstance(found, Tensor):
            what = f"returns a {_kind(found)}"
            raise UserTypeError(what, where=self._where, fix="return a tensor")
        if found.dim() and len(found) != len(targets):
            what = f"returns {tuple(found.shape)} for {len(targets)} examples"
            fix = f"return their mean, or ({len(targets)},)"
            raise UserValueError(what, where=self._where, fix=fix)
        return found

    def check_mean(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse a loss of a batch that is not the mean of those of its examples."""
        mean = float(self.per_example(outputs, targets).double().mean())
        whole = self._whole(outputs, targets)
        if isinstance(whole, Tensor) and not whole.dim():
            value = float(whole)
            if abs(value - mean) > _CLOSE * max(abs(mean), abs(value), 1e-6):
                what = f"is {value:.6g} of {len(targets)} examples, and {mean:.6g} as their mean"
                fix = "let it return the mean, or a number for each example"
                raise UserValueError(what, where=self._where, fix=fix)

    @property
    def _where(self) -> str:
        return f"loss {self.name}"


def check_targets(task: Task, targets: Tensor, where: str) -> Tensor:
    """Return targets as the task takes them: whole numbers as int64, True and False as 1 and 0.

    Raises:
        UserError: If they are not those of the task; the message says what it needs.
    """
    if targets.dtype == torch.bool:
        targets = targets.float()
    if not targets.is_floating_point():
        targets = targets.long()
    if isinstance(task, OfFunction):
        return targets
    kind = "classes"
    if targets.is_floating_point():
        binary = bool(((targets == 0) | (targets == 1)).all())
        kind = "labels" if binary else "values"
    if (wrong := tasks.mismatch(task, kind, targets.dim())) is not None:
        what = f"the loss '{task.name}' {wrong[0]}, not {tuple(targets.shape)} of {targets.dtype}"
        fix = wrong[1].replace("'task: ", "loss='").replace("or: ", "or loss=")
        raise UserValueError(what, where=f"{where}: targets", fix=fix)
    if not bool(torch.isfinite(targets).all()):
        raise UserValueError("are not finite", where=f"{where}: targets", fix="leave them out")
    if task.classes and not task.sequence and int(targets.min()) < 0:
        what = f"run from {int(targets.min())} to {int(targets.max())}"
        raise UserValueError(what, where=f"{where}: targets", fix="classes count from 0")
    return targets
