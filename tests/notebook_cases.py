"""Small networks and data as a user has them in a notebook."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset


def net(seed: int, hidden: int = 6) -> nn.Sequential:
    """Return a small classifier of rows with BatchNorm, whose statistics have seen the data."""
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 3)
    )
    made(rows()[0])
    return made.eval()


def rows(count: int = 60) -> tuple[Tensor, Tensor]:
    """Return inputs (N, 4) and classes (N,)."""
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.standard_normal((count, 4)).astype(np.float32))
    return inputs, torch.from_numpy(rng.integers(0, 3, count))


def line(seed: int) -> nn.Linear:
    """Return a linear model of float64."""
    torch.manual_seed(seed)
    return nn.Linear(4, 2).double()


def values(count: int = 40) -> tuple[Tensor, Tensor]:
    """Return inputs (N, 4) and numbers (N, 2), float64."""
    rng = np.random.default_rng(1)
    inputs, noise = rng.standard_normal((count, 4)), rng.standard_normal((count, 2))
    return torch.from_numpy(inputs), torch.from_numpy(inputs[:, :2] + 0.1 * noise)


class Pairs(Dataset):
    """Examples of `rows` one by one, as NumPy arrays and whole numbers."""

    def __len__(self) -> int:
        return len(rows()[0])

    def __getitem__(self, place: int) -> tuple[np.ndarray, int]:
        inputs, targets = rows()
        return inputs[place].numpy(), int(targets[place])


class Stream(IterableDataset):
    """The same, which can only be gone through."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(*rows(), strict=True))
