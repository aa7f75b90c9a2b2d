"""Examples as people have them (tensors, arrays, data sets, loaders), as a checked `Split`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lossatlas.data.tensors import Inputs, Named, Split, TensorData, check_examples
from lossatlas.errors import UserError, UserTypeError, UserValueError, told

TAKEN = "give (inputs, targets), a Dataset, or a DataLoader with shuffle=False"
TARGETS = ("labels", "label", "targets", "target")  # of a batch that is a dictionary
_AT_ONCE = 256  # examples of a Dataset that are put together in one pass

Batch = tuple[Inputs, Tensor]


def read(data: Any, where: str = "data") -> Batch:
    """Return all inputs (N, ...) and targets (N, ...) of some data, on the CPU or where they lie.

    What is iterated over is read twice, and must give the same examples both times.

    Args:
        data: (inputs, targets), as tensors or arrays, several inputs in a dictionary by name; a
            Dataset of such pairs; a DataLoader, or another iterable over batches of them, which are
            pairs or dictionaries with `labels`.
        where: What it is, for messages.

    Raises:
        UserError: If it is none of these, holds nothing, or changes between two passes.
    """
    pair = isinstance(data, tuple | list) and len(data) == 2
    if pair and _is_inputs(data[0]) and not isinstance(data[1], Mapping):
        return _pair(data[0], data[1], where)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        data = _loader(data, where)
    elif isinstance(data, IterableDataset):
        data = DataLoader(data, batch_size=_AT_ONCE)
    if isinstance(data, str | bytes | Mapping | Tensor | np.ndarray) or not _iterable(data):
        what = f"is a {type(data).__name__}, which holds no examples with their targets"
        raise UserTypeError(what, where=where, fix=TAKEN)
    if iter(data) is data:
        what = f"is a {type(data).__name__}, which can be read only once"
        raise UserTypeError(what, where=where, fix=TAKEN)
    batches = list(_batches(data, where))
    if not batches:
        raise UserValueError("gives no examples", where=where, fix=TAKEN)
    _check_again(batches, data, where)
    return _joined([x for x, _ in batches], where), torch.cat([y for _, y in batches])


def split_of(data: Any, where: str = "data") -> Split | TensorData:
    """Return data that are a `TensorData` as they are, others as a checked `Split`."""
    if isinstance(data, TensorData):
        return data
    split = data if isinstance(data, Split) else Split(*read(data, where))
    check_examples(split.images, split.labels, where)
    _check_finite(split.images, where)
    return split


def _is_inputs(found: Any) -> bool:
    one = isinstance(found, Tensor | np.ndarray)
    return one or (isinstance(found, Mapping) and all(map(_is_inputs, found.values())))


def _iterable(data: Any) -> bool:
    return isinstance(data, Iterable) or hasattr(data, "__getitem__")


def _loader(data: Dataset[Any], where: str) -> DataLoader[Any]:
    """Return a loader over a Dataset, in its order."""
    if not hasattr(data, "__len__"):
        raise UserTypeError("has no length", where=where, fix="give it a __len__")
    if not len(data):
        raise UserValueError("holds no examples", where=where, fix="give at least one")
    return DataLoader(data, batch_size=_AT_ONCE)


def _batches(data: Iterable[Any], where: str) -> Iterator[Batch]:
    """Yield the batches of one pass."""
    try:
        for batch in data:
            yield _batch(batch, where)
    except UserError:
        raise
    except Exception as error:  # the user's data set may fail in any way
        raise UserValueError(f"cannot be read: {told(error)}", where=where, fix=TAKEN) from error


def _batch(batch: Any, where: str) -> Batch:
    if isinstance(batch, Mapping):
        name = next((key for key in TARGETS if key in batch), None)
        if name is None:
            what = f"gives batches with {', '.join(map(str, batch))}, and no targets"
            fix = f"name them one of {', '.join(TARGETS)}"
            raise UserTypeError(what, where=where, fix=fix)
        rest = {key: value for key, value in batch.items() if key != name}
        return _pair(rest, batch[name], where)
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return _pair(batch[0], batch[1], where)
    size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
    what = f"gives a {type(batch).__name__}{size}, not (inputs, targets)"
    raise UserTypeError(what, where=where, fix=TAKEN)


def _pair(inputs: Any, targets: Any, where: str) -> Batch:
    if isinstance(inputs, Mapping):
        named = {str(name): _tensor(some, f"{where}: {name}") for name, some in inputs.items()}
        sizes = {name: len(tensor) for name, tensor in named.items()}
        if not named or len(set(sizes.values())) > 1:
            what = f"inputs by name hold {sizes or 'nothing'}"
            raise UserValueError(what, where=where, fix="give as many examples of each")
        return Named(named), _tensor(targets, f"{where}: targets")
    return _tensor(inputs, f"{where}: inputs"), _tensor(targets, f"{where}: targets")


def _tensor(found: Any, where: str) -> Tensor:
    """Return a tensor (N, ...) of numbers."""
    if isinstance(found, np.ndarray) or (
        isinstance(found, list | tuple) and all(isinstance(one, int | float) for one in found)
    ):
        array = np.asarray(found)
        if array.dtype.kind not in "biuf":
            fix = "give numbers"
            raise UserTypeError(f"is an array of {array.dtype}", where=where, fix=fix)
        found = torch.from_numpy(np.ascontiguousarray(array))
    if not isinstance(found, Tensor):
        fix = "give a tensor or an array, the examples along its first axis"
        raise UserTypeError(f"is a {type(found).__name__}", where=where, fix=fix)
    if not found.dim():
        raise UserValueError("is one number", where=where, fix="give one for each example")
    return found.detach()


def _check_again(batches: list[Batch], data: Iterable[Any], where: str) -> None:
    """Refuse data that give something else on a second pass."""
    for one, other in zip_longest(batches, _batches(data, where)):
        if one is None or other is None or not _equal(one, other):
            what = "gives other examples each time it is read"
            fix = "no shuffling and no random transforms, as DataLoader(dataset, shuffle=False)"
            raise UserValueError(what, where=where, fix=fix)


def _equal(one: Batch, other: Batch) -> bool:
    pairs = [(one[1], other[1])]
    if isinstance(one[0], Named) and isinstance(other[0], Named):
        if one[0].tensors.keys() != other[0].tensors.keys():
            return False
        pairs += [(one[0].tensors[name], other[0].tensors[name]) for name in one[0].tensors]
    elif isinstance(one[0], Tensor) and isinstance(other[0], Tensor):
        pairs.append((one[0], other[0]))
    else:
        return False
    return all(a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def _joined(pieces: list[Inputs], where: str) -> Inputs:
    try:
        if isinstance(pieces[0], Named):
            named = [piece.tensors for piece in pieces if isinstance(piece, Named)]
            return Named({key: torch.cat([one[key] for one in named]) for key in named[0]})
        return torch.cat([piece for piece in pieces if isinstance(piece, Tensor)])
    except (RuntimeError, KeyError) as error:
        what = f"gives batches of different shapes: {told(error)}"
        fix = "pad all examples to one length"
        raise UserValueError(what, where=where, fix=fix) from None


def _check_finite(inputs: Inputs, where: str) -> None:
    for one in inputs.tensors.values() if isinstance(inputs, Named) else [inputs]:
        if one.is_floating_point() and not bool(torch.isfinite(one).all()):
            fix = "leave out the examples with NaN or infinity"
            raise UserValueError("has inputs that are not finite", where=where, fix=fix)
