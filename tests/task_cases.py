"""A small data set and a small network for each task, in double precision where that is asked."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from lossatlas.data.tensors import Named, Split, TensorData
from lossatlas.tasks import IGNORED, find

COUNT, LENGTH, TOKENS, PAD = 24, 6, 7, 0
ALL = (
    "classification",
    "regression",
    "multi_label",
    "token_classification",
    "language_model",
    "sequence_to_sequence",
)
SEQUENCES = ALL[3:]


class Rows(nn.Module):
    """A smooth network of rows (N, 3)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Attention(nn.Module):
    """One head of attention over tokens; padding is not attended to, nor what comes after."""

    def __init__(self, causal: bool, width: int = 6) -> None:
        super().__init__()
        self.embed, self.causal = nn.Embedding(TOKENS, width), causal
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.head = nn.Linear(width, TOKENS)

    def attend(self, x: Tensor, y: Tensor, there: Tensor, causal: bool) -> Tensor:
        scores = self.query(x) @ self.key(y).transpose(1, 2) / x.shape[2] ** 0.5
        scores = scores.masked_fill(~there[:, None], -1e9)
        if causal:
            shape = x.shape[1], y.shape[1]
            later = torch.ones(shape, dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, -1e9)
        return scores.softmax(-1) @ self.value(y)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.head(torch.tanh(x + self.attend(x, x, tokens != PAD, self.causal)))


class Translator(Attention):
    """Attends to a source as well; its inputs have names."""

    def forward(self, source: Tensor, before: Tensor) -> Tensor:  # type: ignore[override]
        x, y = self.embed(before), self.embed(source)
        x = x + self.attend(x, x, before != PAD, True)
        return self.head(torch.tanh(x + self.attend(x, y, source != PAD, False)))


def module(task: str) -> nn.Module:
    """Build the network of a task."""
    if task in SEQUENCES:
        plain = task != "sequence_to_sequence"
        return Attention(task == "language_model") if plain else Translator(True)
    return Rows({"classification": 4, "regression": 2, "multi_label": 3}[task])


def data(task: str, dtype: torch.dtype = torch.float32, padding: int = 0) -> TensorData:
    """Make the two splits of a task.

    Args:
        task: Its name.
        dtype: Of numbers.
        padding: Further columns of padding, which must not change anything.
    """
    draw = torch.Generator().manual_seed(len(task))

    def split() -> Split:
        if task not in SEQUENCES:
            x = torch.randn(COUNT, 3, generator=draw, dtype=torch.float64).to(dtype)
            labels = {
                "classification": torch.randint(4, (COUNT,), generator=draw),
                "regression": torch.randn(COUNT, 2, generator=draw, dtype=torch.float64),
                "multi_label": torch.randint(2, (COUNT, 3), generator=draw).double(),
            }[task]
            return Split(x, labels.to(dtype) if labels.is_floating_point() else labels)
        tokens = torch.randint(1, TOKENS, (COUNT, LENGTH), generator=draw)
        lengths = torch.randint(2, LENGTH + 1, (COUNT, 1), generator=draw)
        tokens = tokens.masked_fill(torch.arange(LENGTH) >= lengths, PAD)
        tokens = nn.functional.pad(tokens, (0, padding), value=PAD)
        if task == "token_classification":
            labels = (tokens * 3 + 1) % TOKENS
            return Split(tokens, labels.masked_fill(tokens == PAD, IGNORED))
        before, after = tokens[:, :-1], tokens[:, 1:]
        labels = after.masked_fill(after == PAD, IGNORED)
        if task == "language_model":
            return Split(before, labels)
        return Split(Named({"source": tokens.flip(0), "before": before}), labels)

    train, test = (replace(split(), task=find(task)) for _ in range(2))
    outputs = {"classification": 4, "regression": 2, "multi_label": 3}.get(task, TOKENS)
    return TensorData(task, train, test, outputs)


def by_hand(task: str, outputs: Tensor, targets: Tensor) -> float:
    """Return the mean loss, written out example by example."""
    total, units = 0.0, 0
    for row, target in zip(outputs.double(), targets, strict=True):
        if task == "regression":
            total += sum(float(o - t) ** 2 for o, t in zip(row, target, strict=True))
            units += len(row)
        elif task == "multi_label":
            chances = 1 / (1 + torch.exp(-row))
            for chance, t in zip(chances.tolist(), target.tolist(), strict=True):
                total -= math.log(chance if t else 1 - chance)
                units += 1
        else:
            table = [row] if task == "classification" else list(row)
            wanted = [target] if task == "classification" else list(target)
            for scores, label in zip(table, wanted, strict=True):
                if int(label) != IGNORED:
                    chances = torch.exp(scores) / torch.exp(scores).sum()
                    total -= float(chances[int(label)].log())
                    units += 1
    return total / units


def call(network: nn.Module, split: Split) -> Tensor:
    """Return the outputs of a module."""
    if isinstance(split.images, Named):
        return network(**split.images.tensors)
    return network(split.images)
