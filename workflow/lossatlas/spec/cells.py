"""Cells: canonical specifications and stable ids.

A cell's id is a readable slug and 8 hex digits of the SHA-256 of its canonical specification. The
specification leaves out every value that equals its default, so that a new option keeps old ids. It
holds what decides training, not how it was written: recipes that train the same networks make one
cell (`Recipe.effective`, `DataPart.effective`). Of a cell that was trained elsewhere it holds what
is known: an origin, and those settings of training that the config gives.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lossatlas.spec.catalogue import NETWORKS
from lossatlas.spec.parts import DataPart, ModelPart, Recipe
from lossatlas.tasks import Task, find

SPEC_VERSION = 1

# Axis of a phase diagram -> (part of the cell, key). Load first, then temperature.
LOAD_AXES = {
    "width": ("model", "width"),
    "depth": ("model", "depth"),
    "data_fraction": ("data", "fraction"),
    "label_noise": ("data", "label_noise"),
    "pixel_noise": ("data", "pixel_noise"),
}
TEMPERATURE_AXES = {
    "batch_size": ("recipe", "batch_size"),
    "learning_rate": ("recipe", "learning_rate"),
    "weight_decay": ("recipe", "weight_decay"),
}
_SLUG = {
    "width": "w",
    "depth": "d",
    "fraction": "f",
    "label_noise": "ln",
    "pixel_noise": "pn",
    "batch_size": "b",
    "learning_rate": "lr",
    "weight_decay": "wd",
}


_LONGEST_SLUG = 100  # characters: files are named by it

# Ids of cells that are trained here, and of others: in a slug, what follows a "." is a digit.
TRAINED_ID = r"(?:[A-Za-z0-9-]|\.[0-9])+"
ADOPTED_ID = r"[A-Za-z0-9.-]+\.[A-Za-z][A-Za-z0-9-]*-[0-9a-f]{8}"


def _short(value: Any) -> str:
    """Return a value as it stands in a slug, which need not tell all cells apart."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def canonical(value: Any) -> Any:
    """Return numbers in one spelling (0.10, 1e-1 and "0.1" read from YAML as 0.1; 8.0 as 8)."""
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


@dataclass(frozen=True)
class Cell:
    """One point of a grid: data set, model and recipe with the axis values filled in.

    Data and recipe are kept as they act, whatever was given.

    Attributes:
        origin: "" for a cell that is trained here; of one trained elsewhere a word that tells it
            from others. Its recipe has what is known (`model_fields_set`): the rest is unknown,
            and not what the recipe's defaults say.
    """

    data: DataPart
    model: ModelPart
    recipe: Recipe
    origin: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", self.data.effective())
        if not self.adopted:
            object.__setattr__(self, "recipe", self.recipe.effective())

    @property
    def adopted(self) -> bool:
        """Whether it was trained elsewhere."""
        return bool(self.origin)

    @property
    def epochs(self) -> int:
        """Passes over the data that training a replica took; 0 if that is not known."""
        known = not self.adopted or "epochs" in self.recipe.model_fields_set
        return self.recipe.epochs if known else 0

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The canonical specification, without defaults (of training elsewhere: what is known)."""
        parts = {
            "data": self.data.model_dump(exclude_defaults=True),
            "model": {**self._start, "builder": self.model.builder, **self.model.arguments},
            "recipe": self.recipe.model_dump(
                exclude_unset=self.adopted, exclude_defaults=not self.adopted
            ),
            **({"origin": self.origin} if self.adopted else {}),
        }
        return {"version": SPEC_VERSION, **canonical(parts)}

    @property
    def _start(self) -> dict[str, str]:
        """The content of the weights from which training starts, if that is not random."""
        return {"start_from": self.model.start_from} if self.model.start_from else {}

    @property
    def task(self) -> Task:
        """What the network is for.

        Raises:
            UserError: If there is no such task.
        """
        return find(self.data.task)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical specification, hexadecimal."""
        text = json.dumps(self.spec, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def id(self) -> str:
        """The slug and the first 8 digits of the digest; before these, ".<origin>" if adopted."""
        spec = self.spec
        words = [spec["data"]["source"], spec["model"]["builder"].rpartition(":")[2]]
        for part in ("data", "model", "recipe"):
            values = spec[part]
            words += [f"{s}{_short(values[key])}" for key, s in _SLUG.items() if key in values]
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words))[:_LONGEST_SLUG].strip("-.")
        origin = f".{self.origin.replace('_', '-')}" if self.adopted else ""
        return f"{slug}{origin}-{self.digest[:8]}"

    def axis(self, name: str) -> Any:
        """Return the cell's value on an axis, by the axis' name or "part.key", as it acts.

        What a config gave for the axis is in `Config.grid`.
        """
        part, key = axis_target(name)
        if part == "model":
            known = NETWORKS.get(self.model.builder)
            default = known.arguments.get(key) if known else None
            return self.model.arguments.get(key, default)
        if part == "recipe" and self.adopted and key not in self.recipe.model_fields_set:
            return None
        return getattr(getattr(self, part), key)


def axis_target(name: str) -> tuple[str, str]:
    """Return (part, key) that an axis sets; also for the user's own "model.growth_rate"."""
    known = {**LOAD_AXES, **TEMPERATURE_AXES}
    if name in known:
        return known[name]
    part, _, key = name.partition(".")
    return part, key


def from_spec(spec: Mapping[str, Any]) -> Cell:
    """Rebuild a cell from its canonical specification.

    Raises:
        ValueError: If the specification is of another version or not valid.
    """
    if spec.get("version") != SPEC_VERSION:
        raise ValueError(f"specification of version {spec.get('version')}, not {SPEC_VERSION}")
    data, model = DataPart(**spec["data"]), ModelPart(**spec["model"])
    return Cell(data, model, Recipe(**spec["recipe"]), spec.get("origin", ""))
