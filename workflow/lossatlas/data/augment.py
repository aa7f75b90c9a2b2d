"""Random crops and mirror images of training batches, as tensor operations on the device.

Every batch has draws of its own, named by words such as (seed, epoch, step): nothing is left to
save or to resume, and replicas that are trained together see what each would see alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossatlas.data.tensors import Split, TensorData
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
        crop, (rows, columns) = self.plan.crop, self._places(images, draws)
        last = images.permute(1, 3, 4, 0, 2)  # (N, H, W, G, C): what G networks on a CPU hold
        count, height, width, groups, _ = last.shape
        image = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
        group = torch.arange(groups, device=images.device).view(1, 1, 1, -1)
        picked = last[image, rows.clamp(0, height - 1), columns.clamp(0, width - 1), group]
        if crop:
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            picked = torch.where(inside[..., None], picked, self.black.to(picked))
        if last.is_contiguous():
            return picked.contiguous().permute(3, 0, 4, 1, 2)
        return picked.permute(3, 0, 4, 1, 2).contiguous()

    def _places(self, images: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for each pixel, its row (N, H, 1, G) and column (N, 1, W, G) in the image."""
        crop, (height, width) = self.plan.crop, images.shape[-2:]
        moved = draws.to(images.device).permute(1, 2, 0)  # (3, N, G)
        offsets = (moved[:2] * (2 * crop + 1)).floor().long() - crop
        rows = torch.arange(height, device=images.device).view(1, -1, 1, 1)
        columns = torch.arange(width, device=images.device).view(1, 1, -1, 1)
        if self.plan.flip:
            mirrored = (moved[2] < 0.5)[:, None, None, :]
            columns = torch.where(mirrored, width - 1 - columns, columns)
        return rows + offsets[0][:, None, None, :], columns + offsets[1][:, None, None, :]


def augmented(data: TensorData, plan: Augment | None) -> TensorData:
    """Return the data set with what shall be done to its training images, if anything."""
    if plan is None:
        return data
    black = torch.zeros(data.channels)  # of a user's own tensors nothing is known: the mean
    if data.pixels is not None:
        mean, std = (torch.tensor(values) for values in (data.pixels.mean, data.pixels.std))
        black = -mean / std
    augmentation = Augmentation(plan, black.to(data.train.images.device))
    return replace(data, train=replace(data.train, augmentation=augmentation))


def changed(split: Split, images: Tensor, names: Sequence[Words]) -> Tensor:
    """Return a training batch as networks shall see it.

    Args:
        split: Where the images are from.
        images: (G, N, C, H, W), of G replicas.
        names: G names of their draws.
    """
    if split.augmentation is None:
        return images
    drawn = [torch.rand(3, images.shape[1], generator=generator("augment", *n)) for n in names]
    return split.augmentation(images, torch.stack(drawn))


def augmented_batch(batch: Split, name: Words) -> Split:
    """Return a training batch of one network as it shall see it; `name` is that of its draws."""
    if batch.augmentation is None:
        return batch
    return replace(batch, images=changed(batch, batch.images[None], [name])[0])
