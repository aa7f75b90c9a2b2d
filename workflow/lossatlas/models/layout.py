"""How images lie in memory, and when several networks are fast as one."""

from __future__ import annotations

import torch
from torch import Tensor

from lossatlas.data.tensors import Inputs, Named, places
from lossatlas.models.functional import Functional

SMALL = 5e7  # most (parameters x pixels) of a network that is faster in company on the CPU
FEW = 8  # fewest channels with which channels last is faster on the CPU


def is_small(functional: Functional, images: Inputs) -> bool:
    """Say whether several of these networks are faster together.

    Measured with ResNet18 on one CPU core, a step of three networks together costs, against three
    steps of one on 8 x 8 images: 0.2 to 0.35 at widths 1 and 2, 0.4 to 0.65 at width 4 and 0.5 at
    width 8. Modules that only `torch.vmap` takes gain less: 0.5 to 0.9. On a GPU launches count for
    more, so all networks that share a job are run together.
    """
    parameters = sum(shape.numel() for shape in functional.shapes.values())
    return images.device.type != "cpu" or parameters * places(images) <= SMALL


def takes_channels_last(functional: Functional, images: Inputs) -> bool:
    """Say whether a network is faster on images (N, C, H, W) channels last: on the CPU, if wide.

    Measured with ResNet18 on 32 x 32 images, one core with AVX2: a training step is 0.83, 1.28 and
    1.53 times as fast at widths 2, 8 and 32, evaluation 0.5, 1.4 and 1.5 times.
    """
    return _are_images(images) and images.device.type == "cpu" and functional.narrowest >= FEW


def _are_images(inputs: Inputs) -> bool:
    return isinstance(inputs, Tensor) and inputs.dim() == 4 and inputs.is_floating_point()


def fast(images: Inputs, functional: Functional) -> Inputs:
    """Return images (N, C, H, W) laid out as a network is fastest on them; others as they are."""
    if isinstance(images, Named) or not takes_channels_last(functional, images):
        return images
    return images.contiguous(memory_format=torch.channels_last)


class Layout:
    """Training images, and the batches that G networks take of them, laid out for speed.

    `torch.vmap` turns G networks of C channels into one of G * C channels, so those two axes must
    be neighbours in memory for the images of G networks to be channels last.

    Args:
        images: (N, C, H, W), or of another shape, which is left as it is.
        functional: The network.
        together: G.
    """

    def __init__(self, images: Inputs, functional: Functional, together: int = 1) -> None:
        grouped = together > 1 and _are_images(images) and images.device.type == "cpu"
        self.last = grouped or takes_channels_last(functional, images)
        self.images: Inputs = images
        if self.last:
            assert isinstance(images, Tensor)
            self.images = images.permute(0, 2, 3, 1).contiguous()

    def take(self, index: Tensor) -> Inputs:
        """Return the images (G, N, ...) at the places (G, N)."""
        if isinstance(self.images, Named) or not self.last:
            return self.images[index]
        chosen = self.images[index.T].permute(0, 2, 3, 1, 4).contiguous()
        return chosen.permute(3, 0, 4, 1, 2)
