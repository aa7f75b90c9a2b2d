"""Where a long measurement of curvature stands, so that a killed one goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lossatlas.training.state import State

T = TypeVar("T")
Note = tuple[Mapping[str, Tensor | list[Tensor]], dict[str, Any]]


class Progress:
    """Finished pieces of a measurement, and notes on the piece that is being made.

    The algorithms of this package take one expensive product after another and are cheap and
    deterministic between them. So a killed one begins again, draws the same random vectors, and
    takes from its notes whatever it had computed.

    Args:
        state: Where it is saved. None saves nothing (for use as a library).
    """

    def __init__(self, state: State | None = None) -> None:
        found = None if state is None else state.load(torch.device("cpu"))
        self._state = state
        self._tensors, self._values = found or ({}, {})
        self._notes: dict[str, Note] = {}
        self._piece = ""

    def piece(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        """Return a finished piece, or make it; the notes taken meanwhile are then forgotten.

        Args:
            name: Of the piece; unique.
            kind: Its dataclass, of tensors, plain values and other such dataclasses.
            make: Makes it.

        Raises:
            Preempted: If a signal asked the job to leave; the state has been saved.
        """
        if name in self._values:
            return self._unpacked(kind, name)
        self._piece = name
        made = make()
        self._drop(lambda key: key.startswith(f"{name}:"))
        self._values[name] = True
        self._pack(made, name)
        self._save_when_due()
        return made

    def noted(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the note of this name that the killed job left; lists of tensors are stacked."""
        key = f"{self._piece}:{name}"
        if key not in self._values:
            return None
        tensors = {
            field.removeprefix(f"{key}/"): tensor
            for field, tensor in self._tensors.items()
            if field.startswith(f"{key}/")
        }
        return tensors, self._values[key]

    def note(self, name: str, tensors: Mapping[str, Any], values: dict[str, Any]) -> None:
        """Note where an algorithm stands, after each product; saved when that is due.

        Args:
            name: Of the note; a later one of the same name takes its place.
            tensors: Tensors or lists of tensors of one shape. They are not copied until saved.
            values: Values that JSON keeps.

        Raises:
            Preempted: If a signal asked the job to leave; the state has been saved.
        """
        if self._state is not None:
            self._notes[f"{self._piece}:{name}"] = tensors, values
            self._save_when_due()

    def forget(self, name: str) -> None:
        """Forget a note that a later one has made needless."""
        note = f"{self._piece}:{name}"
        self._drop(lambda key: key == note or key.startswith(f"{note}/"))

    def _drop(self, which: Callable[[str], bool]) -> None:
        for kept in (self._notes, self._tensors, self._values):
            for key in [key for key in kept if which(key)]:
                del kept[key]

    def _save_when_due(self) -> None:
        if self._state is None or not self._state.due():
            return
        tensors, values = dict(self._tensors), dict(self._values)
        for key, (some, plain) in self._notes.items():
            values[key] = plain
            for field, tensor in some.items():
                if not isinstance(tensor, list):
                    tensors[f"{key}/{field}"] = tensor
                elif tensor:
                    tensors[f"{key}/{field}"] = torch.stack(tensor)
        self._state.save(tensors, values)

    def _pack(self, value: Any, key: str) -> None:
        for field in fields(value):
            one, place = getattr(value, field.name), f"{key}/{field.name}"
            if isinstance(one, Tensor):
                self._tensors[place] = one.clone()
            elif is_dataclass(one):
                self._pack(one, place)
            else:
                self._values[place] = one

    def _unpacked(self, kind: type[T], key: str) -> T:
        given: dict[str, Any] = {}
        for name, hint in get_type_hints(kind).items():
            place = f"{key}/{name}"
            if place in self._tensors:
                given[name] = self._tensors[place]
            elif place in self._values:
                given[name] = self._values[place]
            else:  # a dataclass, or "that or None"
                nested = next(one for one in (hint, *get_args(hint)) if is_dataclass(one))
                given[name] = self._unpacked(nested, place)  # type: ignore[arg-type]
        return kind(**given)
