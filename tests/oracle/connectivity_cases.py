"""Small networks and data for the tests of connectivity."""

from __future__ import annotations

import torch
from torch import nn

from lossatlas.data.tensors import Split, TensorData
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.models.mlp import MLP
from lossatlas.training.networks import Networks


class Small(nn.Module):
    """A convolution, BatchNorm, dropout and a linear layer."""

    def __init__(self, dropout: float = 0.0, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


def network(seed: int, **options):
    """A `Small` whose statistics and scales are not those of a fresh one."""
    torch.manual_seed(seed)
    module = Small(**options)
    if isinstance(module.norm, nn.BatchNorm2d):
        nn.init.uniform_(module.norm.weight)
        nn.init.normal_(module.norm.running_mean, std=0.3)
        nn.init.uniform_(module.norm.running_var, 0.5, 2.0)
    return module


def random_split(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Split:
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 5, 5, generator=random, dtype=dtype)
    return Split(images, torch.randint(0, 4, (count,), generator=random))


def networks_of(modules: list[nn.Module], train: Split, test: Split, diverged=()) -> Networks:
    states = [state_of(module) for module in modules]
    data = TensorData("test", train, test, 4)
    params, buffers = (stack([state[i] for state in states]) for i in (0, 1))
    seeds = [seed for seed in range(99) if seed not in diverged][: len(modules)]
    return Networks(Functional(modules[0]), params, buffers, seeds, data, list(diverged))


def digits() -> tuple[Split, Split]:
    """A third of scikit-learn's digits, and as many others for testing."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.tensor(raw.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(raw.target)
    return Split(images[:600], labels[:600]), Split(images[600:1200], labels[600:1200])


def trained_mlp(seed: int, split: Split, width: int = 8) -> MLP:
    """Train to a low training error in under a second."""
    torch.manual_seed(seed)
    module = MLP(10, 1, 8, width, depth=2)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(40):
        for index in torch.randperm(len(split)).split(100):
            optimiser.zero_grad()
            logits = module(split.images[index])
            nn.functional.cross_entropy(logits, split.labels[index]).backward()
            optimiser.step()
    return module
