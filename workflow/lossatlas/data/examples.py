"""Examples of any task: inputs and targets as arrays -> a checked record, and back to tensors.

Images with labels have a form of their own (`arrays`), in which pixels are normalised. Here inputs
are taken as they are: rows of numbers (N, F), signals (N, C, L), images of any shape (N, C, H, W),
tokens (N, L), or several of these by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.errors import UserError
from lossatlas.store import Array, Record
from lossatlas.tasks import IGNORED

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lossatlas.data.tensors import Inputs

SPLITS = ("train", "test")
INPUTS, TARGETS = "inputs", "targets"
_FIX = "give train_inputs, train_targets, test_inputs, test_targets"


def are_examples(names: Mapping[str, Any]) -> bool:
    """Say whether arrays of these names are inputs and targets, and no images with labels."""
    return any(name.partition(".")[0] == "train_inputs" for name in names)


def to_record(name: str, arrays: Mapping[str, Any]) -> Record:
    """Check inputs and targets and make them a record of kind 'dataset'.

    Args:
        name: What they are called in messages.
        arrays: train_inputs, train_targets, test_inputs, test_targets. Inputs (N, ...) of floating
            point or whole numbers; or a mapping of several, in a file "train_inputs.<name>".
            Targets: whole numbers (N,) or (N, L) are classes, in sequences -100 counts for nothing;
            floating point or booleans (N, ...) are values. Where tokens (N, L) have no targets
            these are the next tokens.

    Returns:
        A record with these arrays; in its settings `targets` ("classes", "labels" where all are 0
        or 1, or "values"), `classes` (how many, or values per example).

    Raises:
        UserError: If an array is missing or has a wrong shape, type or value.
    """
    found: dict[str, np.ndarray] = {}
    for split in SPLITS:
        inputs = _inputs(arrays, split, name)
        targets = arrays.get(f"{split}_{TARGETS}")
        if targets is None:
            inputs, targets = _next_tokens(inputs, split, name)
        checked = _targets(targets, f"{name}, {split}_{TARGETS}")
        for key, given in inputs.items():
            if len(given) != len(checked):
                what = f"{key} has {len(given)} examples, and {split}_{TARGETS} {len(checked)}"
                raise UserError(what, where=name, fix="one target for each example, at least one")
        found |= inputs | {f"{split}_{TARGETS}": checked}
    _check_alike(found, name)
    train, test = (found[f"{split}_{TARGETS}"] for split in SPLITS)
    values = train.dtype.kind == "f"
    count = int(train[0].size) if values else int(max(train.max(), test.max())) + 1
    if not values and "classes" in arrays:
        count = _classes(arrays["classes"], count, name)
    return Record(
        kind="dataset",
        arrays={key: Array(one, _axes(one)) for key, one in found.items()},
        spec={"name": name},
        settings={"targets": _kind(train, test), "classes": count},
    )


def tensors(record: Record, split: str, device: torch.device | str) -> tuple[Inputs, Tensor]:
    """Return inputs and targets of a split of such a record."""
    import torch  # data are described without it

    from lossatlas.data.tensors import Named

    head = f"{split}_{INPUTS}"
    named = {
        key.partition(".")[2]: torch.from_numpy(array.values).to(device)
        for key, array in record.arrays.items()
        if key.partition(".")[0] == head
    }
    targets = torch.from_numpy(record.arrays[f"{split}_{TARGETS}"].values).to(device)
    return (named[""] if "" in named else Named(named)), targets


def shape_of(record: Record) -> tuple[str, int, int]:
    """Return the kind of the inputs, their channels and size.

    Kinds are "rows" (N, F), "square" images, "oblong" (signals, other images), "tokens", "named".
    Features of a row count as channels; the size of what is oblong is the root of its places.
    """
    if "train_inputs" not in record.arrays:
        return "named", 0, 1
    inputs = record.arrays["train_inputs"].values
    if inputs.dtype.kind != "f":
        return "tokens", 1, 1
    channels, places = (*inputs.shape, 1)[1], inputs.shape[2:]
    kind = "oblong" if places else "rows"
    if len(places) == 2 and places[0] == places[1]:
        kind = "square"
    return kind, channels, max(1, round(math.sqrt(math.prod(places))))


def _inputs(arrays: Mapping[str, Any], split: str, name: str) -> dict[str, np.ndarray]:
    """Return "<split>_inputs" or several "<split>_inputs.<name>", checked."""
    head = f"{split}_{INPUTS}"
    given = {key: value for key, value in arrays.items() if key.partition(".")[0] == head}
    if isinstance(given.get(head), Mapping):
        given = {f"{head}.{key}": value for key, value in given[head].items()}
    if not given or (head in given and len(given) > 1):
        raise UserError(f"has no '{head}'", where=name, fix=_FIX)
    if odd := [key for key in given if "." in key and not key.partition(".")[2].isidentifier()]:
        fix = "name inputs as the arguments of the network's forward"
        raise UserError(f"'{odd[0]}' is no name of an input", where=name, fix=fix)
    return {key: _numbers(value, f"{name}, {key}") for key, value in given.items()}


def _numbers(given: Any, where: str) -> np.ndarray:
    """Return float32 or int64 (N, ...); booleans stay."""
    values = np.array(np.asarray(_plain(given)), order="C")
    if values.ndim < 1 or 0 in values.shape:
        raise UserError(f"has shape {values.shape}", where=where, fix="(N, ...), N >= 1")
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise UserError("holds NaN or infinity", where=where, fix="remove those examples")
        return values
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.dtype.kind == "b":
        return values
    fix = "give floating point or whole numbers; of complex ones the real and imaginary parts"
    raise UserError(f"has type {values.dtype}", where=where, fix=fix)


def _plain(given: Any) -> Any:
    return given.detach().cpu() if hasattr(given, "detach") else given


def _targets(given: Any, where: str) -> np.ndarray:
    values = _numbers(given, where)
    if values.dtype.kind == "i":
        low = values[values != IGNORED] if values.ndim > 1 else values
        if not low.size or int(low.min()) < 0:
            fix = "number classes from 0; in sequences -100 counts for nothing; values are floats"
            least = f"has a class {int(low.min())}" if low.size else "has none that counts"
            raise UserError(least, where=where, fix=fix)
        if values.ndim > 2:
            fix = "classes are (N,), or (N, L) of sequences"
            raise UserError(f"has shape {values.shape}", where=where, fix=fix)
        return values
    values = values.astype(np.float32)
    return values[:, None] if values.ndim == 1 else values


def _next_tokens(
    inputs: dict[str, np.ndarray], split: str, name: str
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return tokens without the last, and those that follow each."""
    ((key, tokens),) = inputs.items() if len(inputs) == 1 else (("", np.zeros(0)),)
    if tokens.ndim != 2 or tokens.dtype.kind != "i" or tokens.shape[1] < 2:
        raise UserError(f"has no '{split}_{TARGETS}'", where=name, fix=_FIX)
    return {key: np.ascontiguousarray(tokens[:, :-1])}, np.ascontiguousarray(tokens[:, 1:])


def _check_alike(found: Mapping[str, np.ndarray], name: str) -> None:
    """Refuse splits whose arrays differ in shape or type."""
    for key, train in found.items():
        if not key.startswith("train_"):
            continue
        test = found.get(key.replace("train_", "test_", 1))
        if test is None or train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            other = "nothing" if test is None else f"{test.shape[1:]} of {test.dtype}"
            what = f"'{key}' is {train.shape[1:]} of {train.dtype}, that of the test split {other}"
            raise UserError(what, where=name, fix="make them alike")
    if extra := [key for key in found if key.replace("test_", "train_", 1) not in found]:
        raise UserError(f"'{extra[0]}' has no part in training", where=name, fix="make them alike")


def _kind(*targets: np.ndarray) -> str:
    if targets[0].dtype.kind != "f":
        return "classes"
    return "labels" if all(np.isin(one, (0, 1)).all() for one in targets) else "values"


def _classes(given: Any, least: int, name: str) -> int:
    count = np.asarray(given)
    if count.ndim or count.dtype.kind not in "iu" or int(count) < least:
        what = f"'classes' is {given}, and targets run to {least - 1}"
        raise UserError(what, where=name, fix=f"a whole number from {least} up")
    return int(count)


def _axes(values: np.ndarray) -> tuple[str, ...]:
    return ("example", *(f"axis_{n}" for n in range(1, values.ndim)))
