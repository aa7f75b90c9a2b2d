"""Small cells that the similarity tests share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossatlas.data.tensors import Split, TensorData
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.training.networks import Networks

torch.set_num_threads(1)


class Small(nn.Module):
    """Convolution, BatchNorm, in-place ReLU, dropout, linear: everything that a mode changes."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 16, classes)
        self.unused = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.relu(self.norm(self.conv(x))).flatten(1)))


def modules(count: int, classes: int = 3) -> list[nn.Module]:
    """Networks with different weights and BatchNorm statistics, in evaluation mode."""
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        one = Small(classes)
        one(torch.randn(32, 1, 4, 4) * (1 + seed))  # moves the running statistics
        made.append(one.eval())
    return made


def data(train: int = 40, test: int = 24, classes: int = 3) -> TensorData:
    generator = torch.Generator().manual_seed(0)
    splits = [
        Split(
            torch.randn(count, 1, 4, 4, generator=generator),
            torch.randint(classes, (count,), generator=generator),
        )
        for count in (train, test)
    ]
    return TensorData("noise", *splits, classes=classes)


def cell(members: list[nn.Module], of: TensorData, seeds: list[int] | None = None) -> Networks:
    states = [state_of(one) for one in members]
    return Networks(
        Functional(members[0] if members else Small(of.classes)),
        stack([params for params, _ in states]) if states else {},
        stack([buffers for _, buffers in states]) if states else {},
        list(range(len(members))) if seeds is None else seeds,
        of,
    )
