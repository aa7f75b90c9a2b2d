"""Tasks by name: built-in ones, and the user's own "package.module:object"."""

from __future__ import annotations

from functools import cache

from lossatlas import plugins
from lossatlas.tasks.base import IGNORED, Task
from lossatlas.tasks.classification import (
    Classification,
    LanguageModel,
    SequenceToSequence,
    TokenClassification,
)
from lossatlas.tasks.values import MultiLabel, Regression

__all__ = ["CLASSIFICATION", "GROUP", "IGNORED", "Task", "built_in", "find", "target_of_task"]

GROUP = "lossatlas.tasks"
CLASSIFICATION = Classification()
_BUILT_IN: tuple[type[Task], ...] = (
    Classification,
    Regression,
    MultiLabel,
    TokenClassification,
    LanguageModel,
    SequenceToSequence,
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
    return type(task.__name__, (task,), {"name": name, "__module__": task.__module__})()


class _NotImported(Task):
    """A task of a plug-in while plug-ins are off: it can be planned, and computes nothing."""
