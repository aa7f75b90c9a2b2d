"""A small vision transformer (Dosovitskiy et al., ICLR 2021), averaging its tokens.

Attention is written out as matrix products: these can be differentiated twice and vectorised over
networks, which fused kernels cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.spec.counts import Counts, convolution, linear, total
from lossatlas.spec.networks import Network


class Attention(nn.Module):
    """Attention of several heads of all tokens to all tokens."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, size) to tokens of the same shape."""
        count, tokens, size = x.shape
        parts = self.inputs(x).view(count, tokens, 3, self.heads, size // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) * (size // self.heads) ** -0.5
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(count, tokens, size)
        return self.output(mixed)


class Layer(nn.Module):
    """Attention, then two linear layers on each token; both after LayerNorm and with a shortcut."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attention = Attention(size, heads)
        self.wide, self.narrow = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, size) to tokens of the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class ViT(nn.Module):
    """Patches as tokens of size heads x width, learned positions, `depth` layers, mean token.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image, in pixels; at least `patch`.
        width: Size of a token per head.
        depth: Layers.
        heads: Of attention.
        patch: Height and width of a patch; what remains of an image at its edge is left out.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,
        width: int = 16,
        depth: int = 4,
        heads: int = 4,
        patch: int = 4,
    ) -> None:
        super().__init__()
        size, tokens = width * heads, (image_size // patch) ** 2
        if not tokens:
            raise ValueError(f"a patch of {patch} pixels is larger than an image of {image_size}")
        self.patches = nn.Conv2d(in_channels, size, patch, patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, tokens, size))
        self.layers = nn.Sequential(*(Layer(size, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.layers(tokens)).mean(1))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of ViT, and multiply-adds per image."""
    d, patch = arguments["width"] * arguments["heads"], arguments["patch"]
    side = size // patch
    tokens = side**2
    layer = [linear(d, 3 * d, tokens), linear(d, d, tokens), (4 * d, 2 * tokens**2 * d)]
    layer += [linear(d, 4 * d, tokens), linear(4 * d, d, tokens)]
    around = [convolution(channels, d, patch, side), (tokens * d + 2 * d, 0), linear(d, classes)]
    return total([*around, *layer * arguments["depth"]])


NETWORKS = {
    "vit": Network("ViT", {"width": 16, "depth": 4, "heads": 4, "patch": 4}, count),
}
