"""The encoder and decoder of Vaswani et al. (NeurIPS 2017), LayerNorm before each part.

Attention is written out as matrix products, as in `vit`: these can be differentiated twice and
vectorised over networks. Inputs are "source" (N, S), tokens of a sentence, and "before" (N, L), the
tokens of its translation before each place; 0 is padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.spec.counts import Counts, linear, total
from lossatlas.spec.networks import Network

PADDING = 0
_NEVER = -1e9  # a score whose weight is 0, in single precision as well, and never NaN


class Attention(nn.Module):
    """Attention of several heads of tokens to those of the same or another sentence.

    Args:
        width: Size of a token.
        heads: Each is width / heads wide.
        dropout: Share of attention weights that training drops.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """Let tokens x (N, L, width) attend to y (N, S, width).

        Args:
            x: Tokens.
            y: Tokens.
            mask: Which are not attended to: true, in a shape that fits (N, heads, L, S).
        """
        query = self._split(self.query(x))
        key, value = self._split(self.key(y)), self._split(self.value(y))
        scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        weights = self.dropout(scores.masked_fill(mask, _NEVER).softmax(-1))
        return self.output((weights @ value).transpose(1, 2).reshape(x.shape))

    def _split(self, x: Tensor) -> Tensor:
        """Divide tokens (N, L, width) into heads (N, heads, L, width / heads)."""
        count, length, width = x.shape
        return x.view(count, length, self.heads, width // self.heads).transpose(1, 2)


class Layer(nn.Module):
    """Attention to the own sentence, to another one if `crossed`, and two linear layers per token.

    Each after LayerNorm and with a shortcut.

    Args:
        width: Size of a token.
        heads: Of attention.
        wide: Size between the linear layers.
        dropout: Share that training drops, of attention weights and of what each part adds.
        crossed: Whether it attends to another sentence.
    """

    def __init__(self, width: int, heads: int, wide: int, dropout: float, *, crossed: bool) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, dropout)
        self.crossed = crossed
        if crossed:
            self.norm2, self.cross = nn.LayerNorm(width), Attention(width, heads, dropout)
        self.norm3 = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, wide), nn.Linear(wide, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor, other: Tensor | None = None, theirs: Tensor | None = None
    ) -> Tensor:
        """Map tokens (N, L, width) to tokens of the same shape.

        Args:
            x: Tokens.
            mask: Which of them are not attended to.
            other: Tokens of the other sentence, if `crossed`.
            theirs: Which of these are not attended to.
        """
        own = self.norm1(x)
        x = x + self.dropout(self.attention(own, own, mask))
        if self.crossed:
            assert other is not None
            assert theirs is not None
            x = x + self.dropout(self.cross(self.norm2(x), other, theirs))
        between = self.dropout(F.relu(self.wide(self.norm3(x))))
        return x + self.dropout(self.narrow(between))


class TranslationTransformer(nn.Module):
    """Encoder and decoder of `depth` layers each; logits of the next token at each place.

    Args:
        num_classes: Tokens that can be predicted.
        vocabulary: Tokens of the inputs.
        input_shape: Shapes of "source" and "before".
        width: Size of a token's embedding, a multiple of `heads`.
        depth: Layers of the encoder, and of the decoder.
        heads: Of attention.
        expansion: Size between the two linear layers of a layer, as a multiple of `width`.
        dropout: Share that training drops, of embeddings, attention weights and parts.
        positions: Most tokens of a sentence.
        encoding: Of positions: "sinusoidal", or "learned".
        shared: One matrix for the embeddings of source and target and for the logits, which a
            joint vocabulary allows; else one for each.

    Raises:
        ValueError: If data and arguments do not fit together.
    """

    def __init__(
        self,
        num_classes: int,
        vocabulary: int,
        input_shape: Mapping[str, tuple[int, ...]],
        width: int = 512,
        depth: int = 6,
        heads: int = 8,
        expansion: int = 4,
        dropout: float = 0.0,
        positions: int = 256,
        encoding: str = "sinusoidal",
        shared: bool = True,
    ) -> None:
        super().__init__()
        _check(num_classes, vocabulary, input_shape, width, heads, positions, shared=shared)
        self.width, self.encoding = width, encoding
        tokens = max(num_classes, vocabulary)
        self.target = nn.Embedding(num_classes if shared else tokens, width)
        self.source = None if shared else nn.Embedding(tokens, width)
        self.head = None if shared else nn.Linear(width, num_classes, bias=False)
        if encoding == "learned":
            self.places = nn.Parameter(torch.randn(2, positions, width))
        wide = expansion * width
        self.encoder, self.decoder = (
            nn.ModuleList(Layer(width, heads, wide, dropout, crossed=crossed) for _ in range(depth))
            for crossed in (False, True)
        )
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self._draw()

    def _draw(self) -> None:
        """Draw matrices from Glorot's uniform distribution, embeddings of unit size once scaled."""
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
            elif isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, std=self.width**-0.5)

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        """Map tokens (N, S) and (N, L) to logits (N, L, num_classes).

        Logits at places of padding are 0, and computed only where a sentence of the batch is so
        long: they count for nothing.
        """
        length = before.shape[1]
        source, before = _trimmed(source), _trimmed(before)
        absent = (source == PADDING)[:, None, None]
        x = self._embedded(source, self.target if self.source is None else self.source, 0)
        for layer in self.encoder:
            x = layer(x, absent)
        x = self.encoder_norm(x)
        count = before.shape[1]
        later = torch.ones(count, count, dtype=torch.bool, device=before.device).triu(1)
        y = self._embedded(before, self.target, 1)
        for layer in self.decoder:
            y = layer(y, later, x, absent)
        logits = F.linear(
            self.decoder_norm(y), self.target.weight if self.head is None else self.head.weight
        )
        return F.pad(logits, (0, 0, 0, length - count))

    def _embedded(self, tokens: Tensor, table: nn.Embedding, side: int) -> Tensor:
        """Return embeddings (N, L, width) with what tells their places; 0: source, 1: target."""
        found = table(tokens) * math.sqrt(self.width)
        length = tokens.shape[1]
        if self.encoding == "learned":
            return self.dropout(found + self.places[side, :length])
        return self.dropout(found + sinusoids(length, self.width).to(found))


def _check(
    classes: int,
    vocabulary: int,
    shapes: Mapping[str, tuple[int, ...]],
    width: int,
    heads: int,
    positions: int,
    *,
    shared: bool,
) -> None:
    """Refuse data and arguments that do not fit together."""
    if not isinstance(shapes, Mapping) or set(shapes) != {"source", "before"}:
        raise ValueError("inputs are 'source' and 'before', tokens by name")
    if width % heads:
        near = max(1, round(width / heads)) * heads
        raise ValueError(f"width {width} is no multiple of {heads} heads: the nearest is {near}")
    longest = max(shape[0] for shape in shapes.values())
    if longest > positions:
        what = f"a text of {longest} tokens is longer than the {positions} positions"
        raise ValueError(f"{what}: set 'positions: {longest}' or more")
    if shared and vocabulary > classes:
        what = f"the inputs have a token {vocabulary - 1}, outside the vocabulary of {classes}"
        raise ValueError(f"{what}: set 'shared: false', or 'classes' of the data")


def _trimmed(tokens: Tensor) -> Tensor:
    """Leave out the last places, where all sentences of a batch are padded; they change nothing."""
    there = (tokens != PADDING).any(0)
    try:
        padded = int(there.flip(0).int().argmax())
    except RuntimeError:  # of networks that `torch.vmap` computes as one no values are known
        return tokens
    return tokens[:, : tokens.shape[1] - padded]


def sinusoids(length: int, width: int) -> Tensor:
    """Return the positions (length, width) of Vaswani et al. (2017), section 3.5, in float64.

    Column 2i is sin(place / 10000^(2i / width)), column 2i + 1 the cosine.
    """
    rates = 10000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]


def count(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Return the parameters of TranslationTransformer, and multiply-adds per pair of sentences.

    `size` is the number of tokens of each sentence; the inputs have as many tokens as the outputs.
    """
    d, wide = arguments["width"], arguments["expansion"] * arguments["width"]
    attention = [*[linear(d, d, size)] * 4, (2 * d, 2 * size**2 * d)]
    ends = [linear(d, wide, size), linear(wide, d, size), (2 * d, 0)]
    tables = 1 if arguments["shared"] else 3
    learned = 2 * arguments["positions"] * d if arguments["encoding"] == "learned" else 0
    around = (tables * classes * d + learned + 2 * 2 * d, classes * d * size)
    return total([around, *[*attention * 3, *ends * 2] * arguments["depth"]])


NETWORKS = {
    "translation_transformer": Network(
        "TranslationTransformer",
        {
            "width": 512,
            "depth": 6,
            "heads": 8,
            "expansion": 4,
            "dropout": 0.0,
            "positions": 256,
            "encoding": "sinusoidal",
            "shared": True,
        },
        count,
        choices={"encoding": ("sinusoidal", "learned")},
        activations=40.0,
        inputs=("named",),
        divisor="heads",
    ),
}
