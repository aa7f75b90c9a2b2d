"""A data set as tensors on one device: what training and every metric see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lossatlas.errors import UserTypeError, UserValueError
from lossatlas.tasks import CLASSIFICATION, Task

if TYPE_CHECKING:
    from lossatlas.data.augment import Augmentation
    from lossatlas.data.texts import Texts

TOKEN = 16  # numbers for which a token counts, when examples are counted into one pass


@dataclass(frozen=True)
class Named:
    """Inputs of a network that takes several by name: name -> (N, ...), indexed like a tensor.

    `forward` is called with them as keyword arguments. Stacked for G networks all are (G, N, ...).
    """

    tensors: Mapping[str, Tensor]

    def _each(self, change: Callable[[Tensor], Tensor]) -> Named:
        return Named({name: change(tensor) for name, tensor in self.tensors.items()})

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return next(iter(self.tensors.values())).device

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: Any) -> Named:
        """Return the examples at these places."""
        return self._each(lambda tensor: tensor[index])

    def split(self, size: int) -> list[Named]:
        """Cut into pieces of `size` examples."""
        return [self[first : first + size] for first in range(0, len(self), size)]

    def to(self, *where: Any) -> Named:
        """Move or cast all, as `Tensor.to`; whole numbers keep their type."""

        def moved(tensor: Tensor) -> Tensor:
            found = tensor.to(*where)
            return found if tensor.is_floating_point() else found.to(tensor.dtype)

        return self._each(moved)

    def clone(self) -> Named:
        """Copy all."""
        return self._each(torch.Tensor.clone)


Inputs = Tensor | Named


def repeated(inputs: Inputs, count: int) -> Inputs:
    """Return the same inputs (N, ...) for `count` networks: (count, N, ...), a view."""
    if isinstance(inputs, Named):
        return Named({name: t.expand(count, *t.shape) for name, t in inputs.tensors.items()})
    return inputs.expand(count, *inputs.shape)


def places(inputs: Inputs) -> int:
    """Return at how many places a network computes for one example: pixels of a channel, or tokens.

    A token counts for `TOKEN` pixels.
    """
    if isinstance(inputs, Named):
        return max(map(places, inputs.tensors.values()))
    if not inputs.is_floating_point():
        return max(1, TOKEN * inputs[0].numel())
    return inputs[0, 0].numel() if inputs.dim() > 1 else 1


def check_examples(inputs: object, targets: object, where: str) -> None:
    """Refuse what are not as many targets as inputs, both as tensors.

    Raises:
        UserError: With what they are.
    """
    fix = "give tensors, the examples along their first axis"
    for name, one in (("inputs", inputs), ("targets", targets)):
        if not isinstance(one, Tensor | (Named if name == "inputs" else Tensor)):
            raise UserTypeError(f"the {name} are a {type(one).__name__}", where=where, fix=fix)
    assert isinstance(inputs, Tensor | Named)
    assert isinstance(targets, Tensor)
    if not len(inputs) or len(inputs) != len(targets):
        what = f"{len(inputs)} inputs and {len(targets)} targets"
        raise UserValueError(what, where=where, fix="give one target for each input")


@dataclass(frozen=True)
class Split:
    """Examples: inputs and targets.

    Images are (N, C, H, W), float32, normalised, with labels (N,), int64. Of another task inputs
    are (N, ...), or several by name, and targets what the task says.

    Attributes:
        images: The inputs.
        labels: The targets.
        augmentation: What training does to its batches (`augment.changed`); nothing else sees it.
        task: What the network is for.
    """

    images: Inputs
    labels: Tensor
    augmentation: Augmentation | None = None
    task: Task = CLASSIFICATION

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor | slice) -> Split:
        """Return the examples at these places: `split[:1000]`."""
        return self.take(index)

    def take(self, index: Tensor | slice) -> Split:
        """Return the examples at these places."""
        return replace(self, images=self.images[index], labels=self.labels[index])

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.labels.device

    @property
    def tensor(self) -> Tensor:
        """The inputs, which must be one tensor."""
        assert isinstance(self.images, Tensor), "a config refuses inputs by name"
        return self.images


@dataclass(frozen=True)
class Pixels:
    """How pixels become inputs: divided by `scale`, then normalised per channel."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class TensorData:
    """The two splits and their shape.

    `classes` is what a network has outputs for: classes, or values per example. `held_out` are the
    training examples that a fraction below 1 leaves out, without noise: for what must be fitted on
    data that neither training nor the test has seen. `pixels` is None where the user brought
    tensors. `text` says what tokens of sentence pairs mean.
    """

    name: str
    train: Split
    test: Split
    classes: int
    held_out: Split | None = None
    pixels: Pixels | None = None
    text: Texts | None = None

    @property
    def task(self) -> Task:
        """What networks are for."""
        return self.train.task

    @property
    def channels(self) -> int:
        """Channels of an image, or features of a row; 0 of inputs by name, 1 of tokens."""
        images = self.train.images
        if isinstance(images, Named):
            return 0
        return images.shape[1] if images.is_floating_point() and images.dim() > 1 else 1

    @property
    def image_size(self) -> Any:
        """Height and width of a square image; else the shape behind the channels; 1 of rows."""
        images = self.train.images
        if isinstance(images, Named) or images.dim() < 3:
            return 1
        shape = tuple(images.shape[2:])
        return shape[0] if len(shape) == 2 and shape[0] == shape[1] else shape

    @property
    def shape(self) -> dict[str, Any]:
        """What builders of networks are told, as far as they take it."""
        return {
            "num_classes": self.classes,
            "in_channels": self.channels,
            "image_size": self.image_size,
            "input_shape": _shape(self.train.images),
            "vocabulary": max(_vocabulary(s.images) for s in (self.train, self.test)),
        }


def _shape(inputs: Inputs) -> Any:
    if isinstance(inputs, Named):
        return {name: tuple(tensor.shape[1:]) for name, tensor in inputs.tensors.items()}
    return tuple(inputs.shape[1:])


def _vocabulary(inputs: Inputs) -> int:
    """Return one more than the largest token of inputs; 0 if they have none."""
    if isinstance(inputs, Named):
        return max(map(_vocabulary, inputs.tensors.values()))
    return 0 if inputs.is_floating_point() or not inputs.numel() else int(inputs.max()) + 1
