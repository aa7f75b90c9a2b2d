"""Images of noise, whose labels say nothing about them: "gauss" of Chen et al. (2022)."""

from __future__ import annotations

import numpy as np
import torch

from lossatlas.training.seeds import generator

MODES = {"gauss": "fixed", "gauss_paper": "paper"}
CLASSES = 10
CHANNELS = 3


def arrays(train: int, test: int, size: int, name: str) -> dict[str, np.ndarray]:
    """Return images (N, size, size, 3), float32, and labels (N,), int64, of both splits.

    `gauss`: standard normal pixels, and labels uniform over the 10 classes.

    `gauss_paper`, as the authors' code has it in spite of its name: pixels uniform on [0, 1),
    divided by the largest of the split, and labels uniform over 0 to 8, so that one of the 10
    classes never occurs. Their code does not shuffle these images either: `shuffle: false`.

    Args:
        train: Training images.
        test: Test images.
        size: Height and width.
        name: `gauss` or `gauss_paper`.
    """
    found = {}
    for split, count in (("train", train), ("test", test)):
        found[f"{split}_images"] = _images((count, size, size, CHANNELS), name, split)
        most = CLASSES - 1 if MODES[name] == "paper" else CLASSES
        draw = generator(name, split, "labels")
        found[f"{split}_labels"] = torch.randint(0, most, (count,), generator=draw).numpy()
    return found


def _images(shape: tuple[int, ...], name: str, split: str) -> np.ndarray:
    draw = generator(name, split, "images")
    if MODES[name] == "paper":
        images = torch.rand(shape, generator=draw)
        return images.div_(images.max()).numpy()
    return torch.randn(shape, generator=draw).numpy()
