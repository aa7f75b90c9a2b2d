"""Tasks by name: built-in ones, and the user's own "package.module:object"."""

from __future__ import annotations

from functools import cache

from lossatlas import plugins
from lossatlas.errors import UserError
from lossatlas.tasks.base import IGNORED, Task
from lossatlas.tasks.classification import (
    Classification,
    LanguageModel,
    SequenceToSequence,
    TokenClassification,
    Translation,
)
from lossatlas.tasks.values import MultiLabel, Regression

__all__ = [
    "CLASSIFICATION",
    "GROUP",
    "IGNORED",
    "NO_TEXT",
    "Task",
    "built_in",
    "find",
    "mismatch",
    "target_of_task",
]

GROUP = "lossatlas.tasks"
CLASSIFICATION = Classification()
NO_TEXT = ("needs sentence pairs", "give 'text' in the data set, or 'task: sequence_to_sequence'")
_BUILT_IN: tuple[type[Task], ...] = (
    Classification,
    Regression,
    MultiLabel,
    TokenClassification,
    LanguageModel,
    SequenceToSequence,
    Translation,
)


def built_in() -> dict[str, type[Task]]:
    """Return name -> task."""
    return {task.name: task for task in _BUILT_IN}


def target_of_task(name: str, where: str = "task") -> str:
    """Return "package.module:object" for a task of the user's own, "" for a built-in one.

    Raises:
        UserError: If there is none of that name.
    """
    return plugins.target_of(name, GROUP, built_in(), where)


@cache
def find(name: str, where: str = "task") -> Task:
    """Return a built-in task, one of an entry point, or "package.module:object".

    Args:
        name: Of the task.
        where: The key of the config, for messages.

    Raises:
        UserError: If there is none, or it does not import or is no subclass of `Task`.
    """
    if name == Classification.name:
        return CLASSIFICATION
    target = target_of_task(name, where)
    if not target:
        return built_in()[name]()
    if plugins.off():
        return _NotImported()
    task: type[Task] = plugins.load(target, where, Task)
    for name_of, needed in (("per_example", True), ("wrong", task.scored)):
        if needed and getattr(task, name_of) is getattr(Task, name_of):
            fix = f"def {name_of}(self, outputs, targets)"
            raise UserError(f"'{target}' defines no '{name_of}'", where=where, fix=fix)
    return type(task.__name__, (task,), {"name": name, "__module__": task.__module__})()


def mismatch(task: Task, kind: str, axes: int) -> tuple[str, str] | None:
    """Return what is wrong with targets for a task, and the fix; None if they fit.

    Args:
        task: The task.
        kind: "classes", "labels" (numbers that are all 0 or 1) or "values".
        axes: Of the targets: 1 is one per example.
    """
    if isinstance(task, _NotImported):
        return None
    if task.values and kind == "classes":
        what = "needs targets that are numbers of floating point"
        return what, "give them as such (`.astype(float)`), or 'task: classification'"
    if not task.values and kind != "classes":
        other = "regression, or multi_label of 0 and 1" if task.classes else "'values = True' in it"
        return "needs targets that are classes, as whole numbers", f"give these, or: {other}"
    if isinstance(task, MultiLabel) and kind != "labels":
        return "needs targets that are all 0 or 1", "give these, or: regression"
    if not task.values and task.sequence != (axes == 2):
        wants = "sequences (N, L)" if task.sequence else "one class per example (N,)"
        other = "classification" if task.sequence else "token_classification"
        return f"needs targets that are {wants}", f"give these, or: {other}"
    return None


class _NotImported(Task):
    """A task of a plug-in while plug-ins are off: it can be planned, and computes nothing."""
