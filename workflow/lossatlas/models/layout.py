"""What makes several networks fast together: how images lie in memory, and when to vectorise."""

from __future__ import annotations

import torch
from torch import Tensor

from lossatlas.models.functional import Functional

SMALL = 5e7  # most (parameters x pixels) of a network that is faster in company on the CPU


def is_small(functional: Functional, images: Tensor) -> bool:
    """Say whether several of these networks are faster together.

    Measured with ResNet18 on one CPU core, a step of four networks together costs, against four
    steps of one: 0.2 at width 2, 0.5 at width 8 and 0.7 at width 16 on 8 x 8 images; 0.4 at width
    2, 0.6 at width 4 and 0.9 to 1.0 at width 8 on 32 x 32 images. Modules that only `torch.vmap`
    takes gain less: 0.4, 0.7 and 1.0; 0.5, 0.7 and 1.3. On a GPU launches count for more, so all
    networks that share a job are run together.
    """
    parameters = sum(shape.numel() for shape in functional.shapes.values())
    return images.device.type != "cpu" or parameters * images[0, 0].numel() <= SMALL


def fast(images: Tensor) -> Tensor:
    """Return images laid out for fast convolutions: on the CPU, channels last."""
    if images.dim() != 4 or images.device.type != "cpu":
        return images
    return images.contiguous(memory_format=torch.channels_last)


class Layout:
    """Images laid out in memory so that convolutions are fast.

    On the CPU, channels last makes a step of ResNet18 about 1.5 times as fast at widths 2 to 8.
    `torch.vmap` turns G networks of C channels into one of G * C channels, so those two axes must
    be neighbours in memory for the images of G curves to be channels last.

    Args:
        images: (N, C, H, W), or of another shape, which is left as it is.
    """

    def __init__(self, images: Tensor) -> None:
        self.last = images.dim() == 4 and images.device.type == "cpu"
        self.images = images.permute(0, 2, 3, 1).contiguous() if self.last else images

    def take(self, index: Tensor) -> Tensor:
        """Return the images (G, N, ...) at the places (G, N)."""
        if not self.last:
            return self.images[index]
        chosen = self.images[index.T].permute(0, 2, 3, 1, 4).contiguous()
        return chosen.permute(3, 0, 4, 1, 2)
