"""A data set as tensors on one device: what training and every metric see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from lossatlas.data.augment import Augmentation


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W), float32, normalised; labels (N,), int64.

    `augmentation` is what training does to its batches (`augment.changed`); nothing else sees it.
    """

    images: Tensor
    labels: Tensor
    augmentation: Augmentation | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor | slice) -> Split:
        """Return the images and labels at these places: `split[:1000]`."""
        return self.take(index)

    def take(self, index: Tensor | slice) -> Split:
        """Return the images and labels at these places."""
        return replace(self, images=self.images[index], labels=self.labels[index])


@dataclass(frozen=True)
class Pixels:
    """How pixels become inputs: divided by `scale`, then normalised per channel."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class TensorData:
    """The two splits and their shape.

    `held_out` are the training images that a fraction below 1 leaves out, without noise: for what
    must be fitted on data that neither training nor the test has seen. `pixels` is None where the
    user brought tensors.
    """

    name: str
    train: Split
    test: Split
    classes: int
    held_out: Split | None = None
    pixels: Pixels | None = None

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.train.images.shape[1]

    @property
    def image_size(self) -> int:
        """Height and width of an image, in pixels."""
        return self.train.images.shape[-1]
