"""A folder as a researcher has it: a network of their own, checkpoints, data."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lossatlas import models

NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, hidden=4):
        super().__init__()
        self.first = nn.Linear(64, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.last = nn.Linear(hidden, num_classes)

    def forward(self, x):
        return self.last(self.norm(self.first(x.flatten(1)).relu()))


class Shapes(Net):
    # tied layers, and a buffer that no state dict holds

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.register_buffer("shift", torch.ones(64), persistent=False)

    def forward(self, x):
        y = self.norm(self.first(x.flatten(1) + self.shift).relu())
        return self.last(self.b(self.a(y)))


class Pair(Net):
    def forward(self, x):
        return super().forward(x), x


class Holder(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.module = Net(num_classes)

    def forward(self, x):
        return self.module(x)


def broken(**_):
    raise ValueError("no")


number = 3
"""


CHECKPOINTS = ["0.pt", "1.pt", "2.pt"]


def write_network(folder: Path) -> None:
    (folder / "cli_net.py").write_text(NETWORK)


def write_rest(tmp_path: Path) -> None:
    """Write checkpoints in both formats, and data; the network can be imported."""
    for seed, file in enumerate(CHECKPOINTS):
        torch.manual_seed(seed)
        net = models.build("cli_net:Net", {}, num_classes=10, in_channels=1, image_size=8)
        torch.save(net.state_dict(), tmp_path / file)
        save_file(net.state_dict(), tmp_path / f"{seed}.safetensors")
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (90, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(90) % 10
    np.savez(
        tmp_path / "data.npz",
        train_images=images[:60],
        train_labels=labels[:60],
        test_images=images[60:],
        test_labels=labels[60:],
    )


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fill a folder with a network, checkpoints in both formats and data, and go there."""
    write_network(folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    for name in ("cli_net", "cli_data"):  # of another test's folder
        monkeypatch.delitem(sys.modules, name, raising=False)
    write_rest(folder)
    return folder
