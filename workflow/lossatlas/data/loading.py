"""Data as tensors on the device: a converted data set with its load, or a user's own data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lossatlas import paths, store
from lossatlas.data import examples, own, texts, transforms
from lossatlas.data.tensors import Pixels, Split, TensorData
from lossatlas.errors import UserError, nearest
from lossatlas.spec.catalogue import data_sources
from lossatlas.spec.parts import DataPart
from lossatlas.tasks import CLASSIFICATION, NO_TEXT, find, mismatch

NO_LOAD = DataPart()


def load(
    data: str | os.PathLike[str] | store.Record,
    part: DataPart = NO_LOAD,
    device: torch.device | str = "cpu",
) -> TensorData:
    """Return normalised float32 images and int64 labels, or other examples, on a device.

    Args:
        data: A record of kind 'dataset', or its file.
        part: The load; put on the training split only. See `transforms` for its two ways.
        device: Where the tensors shall lie.

    Raises:
        UserError: If the file is missing, damaged or of another kind, or the load leaves nothing.
    """
    record = data if isinstance(data, store.Record) else store.read(data, "dataset")
    if "targets" in record.settings:
        return _examples(record, part, device)
    task = find(part.task)
    if (wrong := mismatch(task, "classes", 1)) is not None:
        raise UserError(f"'{task.name}' {wrong[0]}", where=str(record.spec["name"]), fix=wrong[1])
    try:
        arrays = {key: array.values for key, array in record.arrays.items()}
        images, labels = arrays["train_images"], arrays["train_labels"]
        test_images, test_labels = arrays["test_images"], arrays["test_labels"]
        classes, scale = int(record.settings["classes"]), float(record.settings["scale"])
        mean, std = part.mean or record.settings["mean"], part.std or record.settings["std"]
        name = str(record.spec["name"])
    except KeyError as error:
        fix = "delete the file and run the same command again: it will be made anew"
        raise UserError(f"lacks {error}", where="data set", fix=fix) from None
    held_out = None
    if part.transforms == "paper":
        images, labels = transforms.paper_load(images, labels, classes, scale, part)
        train = _unit(images, scale, device)
    else:
        kept = transforms.fixed_subset(labels, part.fraction, part.seed)
        train = _unit(images[kept], scale, device)
        labels = transforms.fixed_label_noise(labels, kept, part.label_noise, classes, part.seed)
        if part.pixel_noise:
            transforms.add_pixel_noise(train, kept, part.pixel_noise, part.seed)
        rest = np.setdiff1d(np.arange(len(images)), kept)
        if len(rest):
            left = torch.from_numpy(arrays["train_labels"][rest]).to(device)
            clean = _normalise(_unit(images[rest], scale, device), mean, std)
            held_out = Split(clean, left, task=task)
    return TensorData(
        name,
        Split(_normalise(train, mean, std), torch.from_numpy(labels).to(device), task=task),
        Split(
            _normalise(_unit(test_images, scale, device), mean, std),
            torch.from_numpy(test_labels).to(device),
            task=task,
        ),
        classes,
        held_out,
        Pixels(scale, tuple(mean), tuple(std)),
    )


def _examples(record: store.Record, part: DataPart, device: torch.device | str) -> TensorData:
    """Return inputs and targets of any task, with the load that they can have.

    Raises:
        UserError: If the load is one of images, or of labels that they have not.
    """
    task, classes = find(part.task), int(record.settings["classes"])
    kind = str(record.settings["targets"])
    if (wrong := mismatch(task, kind, record.arrays["train_targets"].values.ndim)) is not None:
        what, fix = wrong
        raise UserError(f"'{task.name}' {what}", where=record.spec["name"], fix=fix)
    text = texts.texts_of(record) if task.needs_text else None
    if task.needs_text and text is None:
        raise UserError(f"'{task.name}' {NO_TEXT[0]}", where=record.spec["name"], fix=NO_TEXT[1])
    (images, labels), test = (examples.tensors(record, name, device) for name in examples.SPLITS)
    whole = Split(images, labels, task=task)
    plain = labels.dim() == 1
    if part.pixel_noise or part.transforms == "paper" or (part.label_noise and not plain):
        fix = "leave out 'pixel_noise', 'transforms: paper' and, of sequences, 'label_noise'"
        raise UserError("this load is of images with labels", where=record.spec["name"], fix=fix)
    strata = labels.cpu().numpy() if plain else np.zeros(len(labels), dtype=np.int64)
    kept = transforms.fixed_subset(strata, part.fraction, part.seed)
    train = whole.take(torch.from_numpy(kept).to(device)) if len(kept) < len(whole) else whole
    if part.label_noise:
        noisy = transforms.fixed_label_noise(strata, kept, part.label_noise, classes, part.seed)
        train = replace(train, labels=torch.from_numpy(noisy).to(device))
    rest = np.setdiff1d(np.arange(len(whole)), kept)
    held_out = whole.take(torch.from_numpy(rest).to(device)) if len(rest) else None
    name = str(record.spec["name"])
    return TensorData(name, train, Split(*test, task=task), classes, held_out, text=text)


def _unit(images: np.ndarray, scale: float, device: torch.device | str) -> Tensor:
    """Return images (N, H, W, C) as float32 (N, C, H, W), divided by their scale; always a copy."""
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    return tensor.to(torch.float32, memory_format=torch.contiguous_format, copy=True).div_(scale)


def inputs(images: np.ndarray, pixels: Pixels, device: torch.device | str) -> Tensor:
    """Return images (N, H, W, C) as networks see them: float32 (N, C, H, W), normalised."""
    return _normalise(_unit(images, pixels.scale, device), list(pixels.mean), list(pixels.std))


def _normalise(images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Subtract the mean and divide by the s.d. of each channel, in place."""
    shift, spread = (images.new_tensor(values)[:, None, None] for values in (mean, std))
    return images.sub_(shift).div_(spread)


def open_data(
    text: str,
    device: torch.device | str = "cpu",
    task: str = "",
    *,
    unit_pixels: bool = False,
) -> TensorData:
    """Return the data that a user names on the command line, without load.

    Args:
        text: The name of a data set (digits, or one that the workflow has made); a converted .h5;
            an .npz with train_images, train_labels, test_images, test_labels; or
            'package.module:object', where the object is, or returns when called without
            arguments, a `TensorData` or a mapping with these four arrays.
        device: Where the tensors shall lie.
        task: What a network does with them; default: classification.
        unit_pixels: Leave pixels in [0, 1], whatever the data say of a mean and s.d.

    Raises:
        UserError: If nothing of that name is there, or it is not such data.
    """
    part = DataPart(task=task or CLASSIFICATION.name)
    if unit_pixels:
        part = part.model_copy(update={"mean": [0.0], "std": [1.0]})
    if text.endswith(".h5"):
        return load(text, part, device)
    if text.endswith(".npz"):
        from lossatlas.data.readers import npz

        return load(own.record_of(npz(Path(text)), Path(text).stem), part, device)
    if ":" in text:
        return _from_object(text, part, device)
    if text == "digits":
        from lossatlas.data.convert import convert

        return load(convert(text), part, device)
    known = [name for name, source in data_sources().items() if source.trainable]
    if text not in known:
        fix = f"{nearest(text, known)}; or give an .h5, an .npz or 'package.module:object'"
        raise UserError(f"unknown data '{text}'", where="data", fix=fix)
    if not os.path.exists(paths.dataset(text)):
        fix = f"the workflow makes it: snakemake {paths.dataset(text)}; or give an .h5 or .npz"
        raise UserError(f"'{text}' has not been converted here", where="data", fix=fix)
    return load(paths.dataset(text), part, device)


def _from_object(text: str, part: DataPart, device: torch.device | str) -> TensorData:
    found = own.given_by(text, "data")
    if isinstance(found, Mapping):
        return load(own.record_of(found, text), part, device)
    if not isinstance(found, TensorData):
        what = f"gives a {type(found).__name__}"
        raise UserError(what, where=text, fix="give a TensorData or a mapping of four arrays")
    if part.task not in (CLASSIFICATION.name, found.train.task.name):
        what = f"a TensorData has its own task, '{found.train.task.name}'"
        raise UserError(what, where=text, fix="give that to its splits, and leave out '--task'")
    if part.mean:
        fix = "leave out '--pixels', and give them as the network takes them"
        raise UserError("a TensorData is taken as it is", where=text, fix=fix)

    def moved(name: str, split: Split) -> Split:
        _check_split(split, found, f"{text}, {name}")
        return replace(split, images=split.images.to(device), labels=split.labels.to(device))

    held_out = None if found.held_out is None else moved("held_out", found.held_out)
    train, test = moved("train", found.train), moved("test", found.test)
    return TensorData(found.name, train, test, found.classes, held_out)


def _check_split(split: Split, data: TensorData, where: str) -> None:
    if not isinstance(split.images, Tensor) or split.task is not CLASSIFICATION:
        if not len(split) or len(split.labels) != len(split):
            what = f"{len(split)} inputs and {len(split.labels)} targets"
            raise UserError(what, where=where, fix="one target for each input, at least one")
        return
    images, labels = split.images, split.labels
    shape = (data.channels, data.image_size, data.image_size)
    if images.dim() != 4 or not len(images) or tuple(images.shape[1:]) != shape:
        what = f"images have shape {tuple(images.shape)}"
        raise UserError(what, where=where, fix="(N, C, H, H), the same in both splits, N >= 1")
    if images.dtype != torch.float32 or labels.dtype != torch.int64:
        what = f"images are {images.dtype}, labels {labels.dtype}"
        raise UserError(what, where=where, fix="torch.float32 and torch.int64")
    if labels.shape != images.shape[:1]:
        what = f"labels have shape {tuple(labels.shape)} for {len(images)} images"
        raise UserError(what, where=where, fix=f"labels are ({len(images)},)")
    if int(labels.min()) < 0 or int(labels.max()) >= data.classes:
        what = f"labels run from {int(labels.min())} to {int(labels.max())}"
        raise UserError(what, where=where, fix=f"they must lie in 0 to {data.classes - 1}")
