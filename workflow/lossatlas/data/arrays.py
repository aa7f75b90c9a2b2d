"""From four NumPy arrays to a checked record: the one form in which data are stored and passed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lossatlas.errors import UserError
from lossatlas.store import Array, Record

NAMES = ("train_images", "train_labels", "test_images", "test_labels")
KERAS_NAMES = ("x_train", "y_train", "x_test", "y_test")
OPTIONS = ("classes", "mean", "std")
AXES = {"images": ("image", "row", "column", "channel"), "labels": ("image",)}


class Shape(NamedTuple):
    """Shape and type of an array that need not be in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape[1:]))} of {self.dtype}"


def to_record(
    name: str,
    arrays: Mapping[str, Any],
    *,
    scale: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: int | None = None,
    spec: Mapping[str, Any] | None = None,
) -> Record:
    """Check a data set and make it a record of kind 'dataset'.

    Args:
        name: What it is called in messages.
        arrays: train_images, train_labels, test_images, test_labels (or Keras's x_train, ...).
            Images (N, H, W) or (N, H, W, C), uint8 or floating point; labels (N,), integers.
        scale: The largest pixel value; default 255 for bytes, 1 for floating point.
        mean: Per channel, of pixels divided by `scale`; default: those of the training images.
        std: Likewise, the standard deviation; 1 for a constant channel.
        classes: Number of classes; default: one more than the largest training label.
        spec: What else identifies the data.

    Returns:
        A record with the four arrays, images as (N, H, W, C), and in its settings scale, mean,
        std and classes.

    Raises:
        UserError: If an array is missing or has a wrong shape, type or value.
    """
    names, data = names_in(arrays, name), {}
    for split in ("train", "test"):
        images = _images(arrays[names[f"{split}_images"]], f"{name}, {split}_images")
        labels, where = arrays[names[f"{split}_labels"]], f"{name}, {split}_labels"
        data[f"{split}_images"] = images
        data[f"{split}_labels"] = checked_labels(labels, len(images), where)
    train, test = data["train_images"], data["test_images"]
    check_alike(Shape(train.shape, train.dtype), Shape(test.shape, test.dtype), name)
    classes = count_classes(data["train_labels"], data["test_labels"], classes, name)
    scale = scale or (255.0 if train.dtype == np.uint8 else 1.0)
    if mean is None or std is None:
        mean, std = statistics(train, scale)
    return Record(
        kind="dataset",
        arrays={key: Array(data[key], AXES[key.partition("_")[2]]) for key in NAMES},
        spec={"name": name, **(spec or {})},
        settings={"scale": scale, "mean": list(mean), "std": list(std), "classes": classes},
    )


def statistics(images: np.ndarray, scale: float) -> tuple[list[float], list[float]]:
    """Return mean and population s.d. per channel of images (N, H, W, C) divided by `scale`.

    A constant channel gets 1 in place of its s.d., so that dividing by it is harmless.
    """
    channels = [images[..., channel].ravel() for channel in range(images.shape[-1])]
    mean = [float(np.mean(values, dtype=np.float64)) / scale for values in channels]
    std = [float(np.std(values, dtype=np.float64)) / scale or 1.0 for values in channels]
    return mean, std


def names_in(found: Iterable[str], name: str) -> dict[str, str]:
    """Return our name -> name there, of the four arrays.

    Raises:
        UserError: If one is missing.
    """
    there = set(found)
    if set(KERAS_NAMES) <= there:
        return dict(zip(NAMES, KERAS_NAMES, strict=True))
    if missing := [key for key in NAMES if key not in there]:
        fix = f"it must hold {', '.join(NAMES)}; found: {', '.join(sorted(there)) or 'nothing'}"
        raise UserError(f"has no '{missing[0]}'", where=name, fix=fix)
    return {key: key for key in NAMES}


def check_images(images: Shape, where: str) -> Shape:
    """Return what images will be as (N, H, W, C), bytes or float32.

    Raises:
        UserError: If they have a wrong shape or type.
    """
    shape, dtype = images.shape, images.dtype
    if len(shape) not in (3, 4) or 0 in shape:
        fix = "images are (N, H, W) or (N, H, W, C), N >= 1"
        raise UserError(f"has shape {shape}", where=where, fix=fix)
    if dtype != np.uint8 and dtype.kind != "f":
        fix = "give bytes (uint8) or floating point numbers"
        raise UserError(f"has type {dtype}", where=where, fix=fix)
    if shape[1] != shape[2]:
        fix = "give them as train_inputs (N, C, H, W) with train_targets, and so the test split"
        raise UserError(f"{shape[1]} x {shape[2]} pixels", where=where, fix=fix)
    shape = shape if len(shape) == 4 else (*shape, 1)
    return Shape(shape, np.dtype(np.float32) if dtype.kind == "f" else dtype)


def check_alike(train: Shape, test: Shape, name: str) -> None:
    """Refuse training and test images of different shapes or types.

    Raises:
        UserError: If they differ.
    """
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        what = f"training images are {train}, test images {test}"
        raise UserError(what, where=name, fix="make them alike")


def count_classes(train: np.ndarray, test: np.ndarray, classes: int | None, name: str) -> int:
    """Return the number of classes.

    Args:
        train: Labels.
        test: Labels.
        classes: As it is said with the data; None: one more than the largest training label.
        name: Of the data, for messages.

    Raises:
        UserError: If a label is too large.
    """
    count = classes or int(train.max()) + 1
    for split, labels in (("train", train), ("test", test)):
        if (largest := int(labels.max())) >= count:
            end = f"there are {count} classes" if classes else f"training labels end at {count - 1}"
            what, where = f"has a label {largest}, but {end}", f"{name}, {split}_labels"
            raise UserError(what, where=where, fix="number the classes 0, 1, 2, ...")
    return count


def _images(given: Any, where: str) -> np.ndarray:
    images = np.array(given, order="C")  # a copy: writable, and without negative strides
    wanted = check_images(Shape(images.shape, images.dtype), where)
    images = images.reshape(wanted.shape)
    if images.dtype.kind == "f":
        images = images.astype(np.float32, copy=False)
        if not np.isfinite(images).all():
            raise UserError("holds NaN or infinity", where=where, fix="remove those images")
    return images


def checked_labels(given: Any, count: int, where: str) -> np.ndarray:
    """Return labels of that many images, as int64.

    Raises:
        UserError: If they have a wrong shape, type or value.
    """
    labels = np.asarray(given)
    if labels.shape != (count,):
        what = f"has shape {labels.shape} for {count} images"
        raise UserError(what, where=where, fix=f"labels are ({count},)")
    if labels.dtype.kind not in "iu":
        fix = "labels are integers from 0"
        raise UserError(f"has type {labels.dtype}", where=where, fix=fix)
    if int(labels.min()) < 0:
        fix = "number the classes 0, 1, 2, ..."
        raise UserError(f"has a label {int(labels.min())}", where=where, fix=fix)
    return np.array(labels, dtype=np.int64, order="C")
