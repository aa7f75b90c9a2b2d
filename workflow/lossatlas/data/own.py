"""The user's own data: an .npz file, or an object of a module of theirs -> a checked record."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas import plugins
from lossatlas.data import examples
from lossatlas.data.arrays import (
    OPTIONS,
    Shape,
    check_alike,
    check_images,
    checked_labels,
    count_classes,
    names_in,
    to_record,
)
from lossatlas.errors import UserError, told
from lossatlas.spec.catalogue import DataSource, data_sources, register
from lossatlas.store import Record

_ROUNDING = 1e-4
_FIX = "write it with numpy.savez, plain arrays only"


def record_of(arrays: Mapping[str, Any], name: str) -> Record:
    """Return a record of kind 'dataset' from the user's arrays.

    Args:
        arrays: Four of images and labels, and optionally classes, mean and std; or of other tasks
            four of inputs and targets (`examples.to_record`).
        name: Of the data.

    Raises:
        UserError: If something is missing or is not as it should be.
    """
    if examples.are_examples(arrays):
        return examples.to_record(name, arrays)
    options = {key: arrays[key] for key in OPTIONS if key in arrays}
    try:
        plain = {key: np.asarray(value) for key, value in arrays.items()}
        record = to_record(name, plain, **_options(options, name))
    except UserError:
        raise
    except Exception as error:  # what is no array may fail in any way while it is made one
        fix = "give arrays of numpy, or tensors of torch on the CPU"
        raise UserError(f"holds no arrays: {told(error)}", where=name, fix=fix) from error
    _check_channels(record.settings, record.arrays["train_images"].values.shape[-1], name)
    for split in ("train", "test"):
        key = f"{split}_images"
        _check_range(record.arrays[key].values, f"{name}, {key}")
    return record


def convert(source: DataSource, file: Path | None) -> Record:
    """Return the record of data that were described when the config was read.

    Args:
        source: What was found then; of an object its target.
        file: The .npz; None for an object.

    Raises:
        UserError: If it is gone, or holds something else by now.
    """
    from lossatlas.data import readers  # imports torch, which is slow to describe data with

    if file is None:
        record = record_of(arrays_of(source.target, "datasets"), source.name)
        found = content(record)
        fix = "seed its random numbers, or save its arrays as an .npz"
        what = f"'{source.target}' gives other arrays each time"
    else:
        found = file_content(file)
        what, fix = f"'{file}' changed while Snakemake ran", "run the same command again"
        record = record_of(readers.npz(file), source.name)
    if found != source.sha256:
        raise UserError(what, where="datasets", fix=fix)
    return replace(record, spec={**record.spec, "sha256": found})


def arrays_of(target: str, where: str) -> Mapping[str, Any]:
    """Return the arrays that a plug-in is or, if it can be called, returns.

    Raises:
        UserError: If it cannot be imported, fails, or gives something else.
    """
    found = given_by(target, where)
    if not isinstance(found, Mapping):
        fix = "give a mapping with train_images, train_labels, test_images, test_labels, or inputs"
        raise UserError(f"'{target}' gives a {type(found).__name__}", where=where, fix=fix)
    return found


def given_by(target: str, where: str) -> Any:
    """Return the object of a plug-in or, if it can be called, what it returns.

    Raises:
        UserError: If it cannot be imported, or fails.
    """
    found: Any = plugins.load(target, where)
    if callable(found):
        try:
            found = found()
        except Exception as error:  # the user's function may fail in any way
            fix = "mend it, or give an .npz"
            raise UserError(f"'{target}' fails: {told(error)}", where=where, fix=fix) from error
    return found


def describe_record(record: Record, target: str) -> DataSource:
    """Return the row of a table that would describe a record of an object's arrays."""
    if "targets" in record.settings:
        return replace(_examples_row(record), sha256=content(record), target=target)
    train, test = record.arrays["train_images"].values, record.arrays["test_images"].values
    row = _row(train.shape, len(test), int(record.settings["classes"]))
    return replace(row, sha256=content(record), target=target)


def describe_npz(path: Path) -> DataSource:
    """Return the row of a table that would describe an .npz; no image is read.

    Raises:
        UserError: If the file is missing, damaged, or does not hold the arrays that it should.
    """
    name = str(path)
    shapes = _headers(path)
    if examples.are_examples(shapes):
        with np.load(path, allow_pickle=False) as file:
            record = examples.to_record(name, {key: file[key] for key in shapes})
        row = _examples_row(record)
        return replace(row, file=name, size=path.stat().st_size, sha256=file_content(path))
    names, images, labels = names_in(shapes, name), {}, {}
    with np.load(path, allow_pickle=False) as file:
        for split in ("train", "test"):
            where = f"{name}, {split}_images"
            images[split] = check_images(shapes[names[f"{split}_images"]], where)
            found, where = file[names[f"{split}_labels"]], f"{name}, {split}_labels"
            labels[split] = checked_labels(found, images[split].shape[0], where)
        options = _options({key: file[key] for key in OPTIONS if key in shapes}, name)
    check_alike(images["train"], images["test"], name)
    _check_channels(options, images["train"].shape[-1], name)
    classes = count_classes(labels["train"], labels["test"], options.get("classes"), name)
    row = _row(images["train"].shape, images["test"].shape[0], classes)
    return replace(row, file=name, size=path.stat().st_size, sha256=file_content(path))


def register_converted(record: Record) -> None:
    """Make converted data of the user's own known by name, without what they were made from."""
    name = str(record.spec["name"])
    if name not in data_sources():
        register(replace(describe_record(record, ""), name=name))


def content(record: Record) -> str:
    """Return the SHA-256 of all that a record of kind 'dataset' says of the data."""
    digest = hashlib.sha256(json.dumps(record.settings, sort_keys=True).encode())
    for name, array in sorted(record.arrays.items()):
        values = np.ascontiguousarray(array.values)
        digest.update(f"{name} {values.dtype.str} {values.shape}\0".encode())
        digest.update(values.data)
    return digest.hexdigest()


def file_content(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _examples_row(record: Record) -> DataSource:
    """Return the row of inputs and targets; sizes are those that builders are told."""
    kind, channels, size = examples.shape_of(record)
    targets = record.arrays["train_targets"].values
    classes, count = int(record.settings["classes"]), len(record.arrays["test_targets"].values)
    row = _row((len(targets), size, size, channels), count, classes)
    return replace(
        row,
        targets=f"{record.settings['targets']} {targets.ndim}",
        inputs=kind,
    )


def _row(train: tuple[int, ...], test: int, classes: int) -> DataSource:
    return DataSource(
        name="",
        version="own",
        file="",
        size=0,
        sha256="",
        mirrors=(),
        licence="",
        train=train[0],
        test=test,
        classes=classes,
        channels=train[-1],
        image_size=train[1],
    )


def _headers(path: Path) -> dict[str, Shape]:
    """Return the shapes and types of an .npz' arrays, of which only the first bytes are read."""
    found = {}
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise UserError("is no regular file", where=str(path), fix="give an .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".npy"):
                    with archive.open(member) as file:
                        read = _HEADERS[np.lib.format.read_magic(file)]
                        shape, _, dtype = read(file)
                    found[member.removesuffix(".npy")] = Shape(shape, dtype)
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), fix="correct the path") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"not a readable .npz: {error}", where=str(path), fix=_FIX) from None
    if pickled := [name for name, shape in found.items() if shape.dtype.hasobject]:
        what = f"'{pickled[0]}' is pickled, and reading a pickle can run code"
        raise UserError(what, where=str(path), fix=_FIX)
    return found


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _options(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return classes, mean and std as plain numbers.

    Raises:
        UserError: If one is of a wrong type.
    """
    found: dict[str, Any] = {}
    for key, value in given.items():
        numbers = np.asarray(value)
        whole = numbers.dtype.kind in "iu"
        right = numbers.ndim == 1 and (whole or numbers.dtype.kind == "f")
        if key == "classes":
            right = numbers.ndim == 0 and whole and int(numbers) > 0
        if not right or not np.isfinite(numbers).all():
            fix = "a whole number from 1 up" if key == "classes" else "one number for each channel"
            raise UserError(f"'{key}' is {_short(value)}", where=name, fix=fix)
        found[key] = int(numbers) if key == "classes" else [float(one) for one in numbers]
    if ("mean" in found) != ("std" in found):
        raise UserError("has one of 'mean' and 'std'", where=name, fix="give both, or none")
    if min(found.get("std", [1.0])) <= 0:
        raise UserError("'std' is not positive", where=name, fix="give the standard deviations")
    return found


def _check_range(images: np.ndarray, where: str) -> None:
    """Refuse floating point pixels that are not from 0 to 1, but for rounding.

    Raises:
        UserError: With the pixel furthest out.
    """
    if images.dtype.kind != "f":
        return
    low, high = float(images.min()), float(images.max())
    if low < -_ROUNDING:
        fix = "floats are from 0 to 1; 'mean' and 'std' normalise them"
        raise UserError(f"values down to {low:.3g}", where=where, fix=fix)
    if high > 1 + _ROUNDING:
        fix = "floats are from 0 to 1: divide by 255, or store bytes"
        raise UserError(f"values up to {high:.3g}", where=where, fix=fix)


def _check_channels(options: Mapping[str, Any], channels: int, name: str) -> None:
    for key in ("mean", "std"):
        if key in options and len(options[key]) != channels:
            what = f"'{key}' has {len(options[key])} numbers for {channels} channels"
            raise UserError(what, where=name, fix="one for each channel")


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) < 40 else f"{text[:37]}..."
