"""A network: one hidden layer on the pixels."""

from torch import Tensor, nn


class Net(nn.Module):
    """Pixels -> hidden units -> classes."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int, hidden: int = 8):
        super().__init__()
        self.first = nn.Linear(in_channels * image_size**2, hidden)
        self.last = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, C, H, W)."""
        return self.last(self.first(images.flatten(1)).relu())
