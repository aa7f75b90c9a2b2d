"""A language of one's own, and a network that attends to the tokens before."""

import numpy as np
import torch
from torch import Tensor, nn


def tokens() -> dict[str, np.ndarray]:
    """Return sequences of 12 tokens, in which each follows from the two before, with some noise."""
    draw = np.random.default_rng(0)
    found = draw.integers(0, 8, size=(500, 12))
    for place in range(2, 12):
        noise = draw.random(500) < 0.1
        next_token = (found[:, place - 1] + found[:, place - 2]) % 8
        found[:, place] = np.where(noise, found[:, place], next_token)
    return {"train_inputs": found[:400], "test_inputs": found[400:]}


class Attention(nn.Module):
    """One layer of causal attention: logits (N, L, classes) of tokens (N, L)."""

    def __init__(
        self, num_classes: int, vocabulary: int, input_shape: tuple[int], width: int = 16
    ) -> None:
        super().__init__()
        self.tokens, self.places = (
            nn.Embedding(vocabulary, width),
            nn.Embedding(*input_shape, width),
        )
        self.mix = nn.Linear(width, 3 * width)
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the next token at each place."""
        h = self.tokens(x) + self.places(torch.arange(x.shape[1], device=x.device))
        query, key, value = self.mix(h).chunk(3, dim=-1)
        h = h + nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.head(h + self.layers(h))
