"""Finds metrics: built-in ones by looking through this package, others by name."""

from __future__ import annotations

import dis
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ConfigDict, ValidationError

from lossatlas import metrics, plugins
from lossatlas.errors import UserError, UserTypeError, UserValueError, nearest
from lossatlas.metrics.base import Given, Metric, Output, Unit

if TYPE_CHECKING:
    from lossatlas.store import Record
    from lossatlas.training.state import State

M = TypeVar("M", bound=Metric)
GROUP = "lossatlas.metrics"
_PER = ("replica", "pair", "cell")
_SHOWN = 50  # characters of a wrong value in a message


@cache
def built_in() -> dict[str, type[Metric]]:
    """Return the metrics of this package: each is the one of its module, and named like it."""
    found = {}
    for module in pkgutil.iter_modules(metrics.__path__):
        name = f"{metrics.__name__}.{module.name}"
        for thing in vars(importlib.import_module(name)).values():
            own = isinstance(thing, type) and thing.__module__ == name
            if own and issubclass(thing, Metric) and thing.outputs:
                thing.kind = module.name
                found[module.name] = thing
    return found


def is_empty(name: str) -> bool:
    """Say whether a module of this package has the name of a metric and defines none."""
    modules = {module.name for module in pkgutil.iter_modules(metrics.__path__)}
    return name in modules - built_in().keys()


def find(kind: str, where: str = "metric") -> type[Metric]:
    """Return a built-in metric, one of an entry point, or "package.module:object".

    Args:
        kind: Its name.
        where: The key of the config or the option that names it, for messages.

    Raises:
        UserError: If there is none, it does not import, or it is not well declared.
    """
    if ":" in kind:
        return _plug_in(kind, where)
    target = plugins.target_of(kind, GROUP, built_in(), where)
    return _plug_in(target, where) if target else built_in()[kind]


def with_settings(metric: type[M], given: Mapping[str, Any], where: str = "", **fixed: Any) -> M:
    """Return a metric with its settings.

    Args:
        metric: Its class.
        given: What the user sets.
        where: What the user sets them with, for messages; default: the metric's name.
        fixed: Settings that the user may not give.

    Raises:
        UserError: If there is no such setting, or it has not such a value.
    """
    built_in()  # gives names to the metrics of this package
    place = where or metric.kind
    for key in given:
        if key in fixed:
            raise UserTypeError(f"'{key}' is not to be set here", where=place, fix="leave it out")
    try:
        return metric(**{**given, **fixed})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            fix = nearest(key, metric.model_fields)
            whose = f"{metric.kind} " if where else ""
            what = f"{whose}has no setting '{key}'"
            raise UserTypeError(what, where=place, fix=fix) from None
        message = first["msg"].removeprefix("Value error, ")
        given_ = first["input"]
        if not isinstance(given_, str | int | float | list | dict | None):
            message += f", not a {type(given_).__name__}"
        elif message.startswith("Input should"):
            message += f", not {repr(given_)[:_SHOWN]}"
        what = f"{key}: {message}" if key else message
        raise UserValueError(what, where=place) from None


class NotImported(Metric):
    """A plug-in that stays unread while plug-ins are off: it can be planned, and not measured."""

    model_config = ConfigDict(extra="allow")
    per = "cell"

    def measure_units(self, given: Given, units: Sequence[Unit], state: State | None) -> Record:
        """Refuse, as whoever imports a plug-in does."""
        plugins.load(self.kind, "metric", Metric)
        raise AssertionError(self.kind)


@cache
def _plug_in(target: str, where: str) -> type[Metric]:
    if plugins.off():
        name = f"not known of {target.replace(':', '.')}"
        made = {"kind": target, "outputs": (Output(name),), "__module__": __name__}
        return type("NotImported", (NotImported,), made)
    found: type[Metric] = plugins.load(target, where, Metric)
    found.kind = target
    _check_declared(found, where)
    found.declared_files()
    return found


def _check_declared(metric: type[Metric], where: str) -> None:
    """Refuse a class that does not say what it writes, or how.

    Raises:
        UserError: With what is missing.
    """

    def refuse(what: str, fix: str) -> None:
        raise UserError(f"'{metric.kind}' {what}", where=where, fix=fix)

    outputs = metric.outputs
    if not isinstance(outputs, list | tuple) or not all(isinstance(o, Output) for o in outputs):
        refuse("has outputs that are no list of Output", 'outputs = [la.Output("name", unit="")]')
    if not outputs:
        refuse("declares no output", 'outputs = [la.Output("name", unit="", doc="")]')
    _check_outputs(metric, refuse)
    if metric.measure is Metric.measure and metric.measure_units is Metric.measure_units:
        refuse("defines no 'measure'", "def measure(self, net, data)")
    if unknown := [name for name in metric.costs_only if name not in metric.model_fields]:
        refuse(f"has no setting '{unknown[0]}', which costs_only names", "name settings")


def _check_outputs(metric: type[Metric], refuse: Callable[[str, str], None]) -> None:
    names = [one.name for one in metric.outputs]
    if repeated := [name for name in names if names.count(name) > 1]:
        refuse(f"declares the output '{repeated[0]}' twice", "name each once")
    for per in (metric.per, *map(metric.per_of, metric.outputs)):
        if per not in _PER:
            refuse(f"has per = {per!r}", "one of 'replica', 'pair', 'cell'")
    if metric.per != "cell":
        own = (metric.per,) if metric.finish is Metric.finish else (metric.per, "cell")
        for one in metric.outputs:
            if metric.per_of(one) not in own:
                what = f"measures each {metric.per}, and '{one.name}' is of a {one.per}"
                refuse(what, f"per = '{one.per}', or a metric of its own")


def imports(metric: type[Metric]) -> Iterator[str]:
    """Yield the modules that the functions of a metric import when they are called."""
    for function in vars(metric).values():
        if isinstance(function, FunctionType):
            for step in dis.get_instructions(function):
                if step.opname == "IMPORT_NAME":
                    yield str(step.argval)
