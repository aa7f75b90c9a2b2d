"""Random crops and mirror images of training batches, as tensor operations on the device.

Every batch has draws of its own, named by words such as (seed, epoch, step): nothing is left to
save or to resume, and replicas that are trained together see what each would see alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossatlas.data.tensors import Inputs, Split, TensorData
from lossatlas.spec.parts import Augment
from lossatlas.training.seeds import generator

Words = tuple[object, ...]


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images.

    Attributes:
        plan: How far a crop moves, and whether images are mirrored.
        black: (C,), the value that a black pixel has after normalisation. Crops are padded with
            it: the papers pad bytes with 0 before they normalise.
    """

    plan: Augment
    black: Tensor

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return the batch, each image moved and mirrored by its own draws.

        As `RandomCrop(size, padding)` and `RandomHorizontalFlip()` do: offsets uniform over the
        (2 crop + 1)^2 windows of the padded image, half of the images mirrored.

        Args:
            images: (G, N, C, H, W); how they lie in memory is kept.
            draws: (G, 3, N), uniform on [0, 1): offset of rows, of columns, and the mirror.
        """
        last = images.permute(1, 3, 4, 0, 2)  # (N, H, W, G, C): what G networks on a CPU hold
        count, height, width, groups, channels = last.shape
        pixels = torch.cat([last.reshape(-1, channels), self.black.to(last)[None]])
        black, device = len(pixels) - 1, images.device
        rows, columns = self._places(height, width, draws.to(device))
        rows = torch.where((rows >= 0) & (rows < height), rows * width * groups, black)
        columns = torch.where((columns >= 0) & (columns < width), columns * groups, black)
        first = torch.arange(count, device=device).view(-1, 1, 1, 1) * (height * width * groups)
        rows += first + torch.arange(groups, device=device)
        places = (rows + columns).clamp_(max=black)  # small tensors first: this one has every pixel
        picked = pixels.index_select(0, places.flatten()).view(last.shape)
        result = picked.permute(3, 0, 4, 1, 2)
        return result if last.is_contiguous() else result.contiguous()

    def _places(self, height: int, width: int, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for each pixel, its row (N, H, 1, G) and column (N, 1, W, G) in the image."""
        crop, moved = self.plan.crop, draws.permute(1, 2, 0)  # (3, N, G)
        offsets = (moved[:2] * (2 * crop + 1)).floor().long()[:, :, None, None] - crop
        rows = torch.arange(height, device=draws.device).view(1, -1, 1, 1)
        columns = torch.arange(width, device=draws.device).view(1, 1, -1, 1)
        if self.plan.flip:
            mirrored = (moved[2] < 0.5)[:, None, None]
            columns = torch.where(mirrored, width - 1 - columns, columns)
        return rows + offsets[0], columns + offsets[1]


def augmented(data: TensorData, plan: Augment | None) -> TensorData:
    """Return the data set with what shall be done to its training images, if anything."""
    if plan is None:
        return data
    assert isinstance(data.train.images, Tensor)  # a config refuses others
    black = torch.zeros(data.channels)  # of a user's own tensors nothing is known: the mean
    if data.pixels is not None:
        mean, std = (torch.tensor(values) for values in (data.pixels.mean, data.pixels.std))
        black = -mean / std
    augmentation = Augmentation(plan, black.to(data.train.device))
    return replace(data, train=replace(data.train, augmentation=augmentation))


def changed(split: Split, images: Inputs, names: Sequence[Words]) -> Inputs:
    """Return a training batch as networks shall see it.

    Args:
        split: Where the images are from.
        images: (G, N, C, H, W), of G replicas.
        names: G names of their draws.
    """
    if split.augmentation is None or not isinstance(images, Tensor):
        return images
    drawn = [torch.rand(3, images.shape[1], generator=generator("augment", *n)) for n in names]
    return split.augmentation(images, torch.stack(drawn))


def augmented_batch(batch: Split, name: Words) -> Split:
    """Return a training batch of one network as it shall see it; `name` is that of its draws."""
    if batch.augmentation is None or not isinstance(batch.images, Tensor):
        return batch
    return replace(batch, images=changed(batch, batch.images[None], [name])[0])
