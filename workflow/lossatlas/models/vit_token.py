"""The vision transformer of Chen et al. (2022): a class token, dropout, and N(0, 1) positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.models import initial
from lossatlas.spec.counts import Counts, linear, total
from lossatlas.spec.networks import Network


class Layer(nn.Module):
    """Attention and two linear layers per token; each after LayerNorm, with a shortcut.

    Attention is written out as matrix products, as in `vit`.

    Args:
        size: Of a token.
        heads: Of attention; each is size / heads wide. Queries, keys and values have no bias.
        dropout: Share of attention weights and of outputs that training drops.
    """

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.inputs = nn.Linear(size, 3 * size, bias=False)
        self.output = nn.Linear(size, size)
        self.wide, self.narrow = nn.Linear(size, size), nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, size) to tokens of the same shape."""
        x = x + self.dropout(self.output(self._mixed(self.norm1(x))))
        y = self.dropout(F.gelu(self.wide(self.norm2(x))))
        return x + self.dropout(self.narrow(y))

    def _mixed(self, x: Tensor) -> Tensor:
        count, tokens, size = x.shape
        parts = self.inputs(x).view(count, tokens, 3, self.heads, size // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) * (size // self.heads) ** -0.5
        mixed = self.dropout(scores.softmax(-1)) @ value
        return mixed.transpose(1, 2).reshape(count, tokens, size)


class ViTToken(nn.Module):
    """Patches and a class token of size heads x width, `depth` layers; the class token is read.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        image_size: Height and width of an image, in pixels; at least `patch`.
        width: Size of a token per head. 64 is the paper's (9,603,594 parameters on CIFAR-10).
        depth: Layers.
        heads: Of attention.
        patch: Height and width of a patch; what remains of an image at its edge is left out.
        dropout: Share that training drops.
        linear_std: As in `initial.draw`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,
        width: int = 64,
        depth: int = 6,
        heads: int = 8,
        patch: int = 2,
        dropout: float = 0.1,
        linear_std: float = 0.0,
    ) -> None:
        super().__init__()
        size, tokens = width * heads, (image_size // patch) ** 2
        if not tokens:
            raise ValueError(f"a patch of {patch} pixels is larger than an image of {image_size}")
        self.patch = patch
        self.patches = nn.Linear(in_channels * patch**2, size)
        self.token = nn.Parameter(torch.randn(1, 1, size))
        self.positions = nn.Parameter(torch.randn(1, tokens + 1, size))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(*(Layer(size, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, num_classes)
        initial.draw(self, linear_std)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        patches = F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        token = self.token.expand(len(x), -1, -1)
        tokens = torch.cat([token, self.patches(patches)], 1) + self.positions
        return self.head(self.norm(self.layers(self.dropout(tokens))[:, 0]))


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of ViTToken, and multiply-adds per image."""
    d, patch = arguments["width"] * arguments["heads"], arguments["patch"]
    patches = (size // patch) ** 2
    tokens = patches + 1
    layer = [(3 * d * d, 3 * d * d * tokens), (4 * d, 2 * tokens**2 * d)]
    layer += [linear(d, d, tokens)] * 3
    around = [linear(channels * patch**2, d, patches), (d + tokens * d + 2 * d, 0)]
    return total([*around, linear(d, classes), *layer * arguments["depth"]])


NETWORKS = {
    "vit_token": Network(
        "ViTToken",
        {"width": 64, "depth": 6, "heads": 8, "patch": 2, "dropout": 0.1, "linear_std": 0.0},
        count,
        activations=80.0,
    ),
}
