"""Images laid out in memory for the speed of convolutions."""

from __future__ import annotations

from torch import Tensor


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
