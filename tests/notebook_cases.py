"""Small networks and data as a user has them in a notebook."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn


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


NETWORK = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, hidden=4):
        super().__init__()
        self.first = nn.Linear(64, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.last = nn.Linear(hidden, num_classes)

    def forward(self, x):
        return self.last(self.norm(self.first(x.flatten(1)).relu()))
"""
CHECKPOINTS = ["0.pt", "1.pt", "2.pt"]


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill a folder with a network, three checkpoints and data, and go there."""
    (folder / "mynet.py").write_text(NETWORK)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "mynet", raising=False)
    built = importlib.import_module("mynet").Net
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (90, 8, 8, 1), dtype=np.uint8), np.arange(90) % 10
    for seed, file in enumerate(CHECKPOINTS):
        torch.manual_seed(seed)
        torch.save(built(10).state_dict(), folder / file)
    train = {"train_images": images[:60], "train_labels": labels[:60]}
    test = {"test_images": images[60:], "test_labels": labels[60:]}
    np.savez(folder / "data.npz", **train, **test)
