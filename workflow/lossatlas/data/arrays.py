"""From four NumPy arrays to a checked record: the one form in which data are stored and passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lossatlas.errors import UserError
from lossatlas.store import Array, Record

NAMES = ("train_images", "train_labels", "test_images", "test_labels")
KERAS_NAMES = ("x_train", "y_train", "x_test", "y_test")
AXES = {"images": ("image", "row", "column", "channel"), "labels": ("image",)}


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
    if set(KERAS_NAMES) <= set(arrays):
        arrays = dict(zip(NAMES, (arrays[key] for key in KERAS_NAMES), strict=True))
    if missing := [key for key in NAMES if key not in arrays]:
        fix = f"it must hold {', '.join(NAMES)}; found: {', '.join(sorted(arrays)) or 'nothing'}"
        raise UserError(f"has no '{missing[0]}'", where=name, fix=fix)
    data = {}
    for split in ("train", "test"):
        images = _images(arrays[f"{split}_images"], f"{name}, {split}_images")
        where = f"{name}, {split}_labels"
        data[f"{split}_images"] = images
        data[f"{split}_labels"] = _labels(arrays[f"{split}_labels"], len(images), where)
    train, test = data["train_images"], data["test_images"]
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        what = f"training images are {_kind(train)}, test images {_kind(test)}"
        raise UserError(what, where=name, fix="make them alike")
    classes = max(int(data["train_labels"].max()) + 1, classes or 0)
    if (largest := int(data["test_labels"].max())) >= classes:
        what = f"has a label {largest}, but training labels end at {classes - 1}"
        raise UserError(what, where=f"{name}, test_labels", fix="number the classes 0, 1, 2, ...")
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


def _images(given: Any, where: str) -> np.ndarray:
    images = np.array(given, order="C")  # a copy: writable, and without negative strides
    if images.ndim not in (3, 4) or 0 in images.shape:
        what = f"has shape {images.shape}"
        raise UserError(what, where=where, fix="images are (N, H, W) or (N, H, W, C), N >= 1")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        what = f"has type {images.dtype}"
        raise UserError(what, where=where, fix="give bytes (uint8) or floating point numbers")
    images = images[..., None] if images.ndim == 3 else images
    if images.shape[1] != images.shape[2]:
        what = f"{images.shape[1]} x {images.shape[2]} pixels"
        raise UserError(what, where=where, fix="images must be square, as (N, H, W, C)")
    if images.dtype.kind == "f":
        images = images.astype(np.float32, copy=False)
        if not np.isfinite(images).all():
            raise UserError("holds NaN or infinity", where=where, fix="remove those images")
    return images


def _labels(given: Any, count: int, where: str) -> np.ndarray:
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


def _kind(images: np.ndarray) -> str:
    return f"{' x '.join(map(str, images.shape[1:]))} of {images.dtype}"
