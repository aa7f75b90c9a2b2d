"""Small data and networks for tests of training, and equality of what it leaves."""

import torch
from torch import nn

from lossatlas import models
from lossatlas.data.tensors import Split
from lossatlas.training.trained import Trained


def split(count: int = 52, dtype: torch.dtype = torch.float32) -> Split:
    made = torch.Generator().manual_seed(3)
    images = torch.randn(count, 1, 8, 8, generator=made, dtype=dtype)
    labels = (images.mean(dim=(1, 2, 3)) * 20).round().long() % 4
    return Split(images, labels)


def resnet() -> nn.Module:
    return models.build("resnet18", {"width": 1}, num_classes=4, in_channels=1, image_size=8)


def mlp() -> nn.Module:
    shape = {"num_classes": 4, "in_channels": 1, "image_size": 8}
    return models.build("mlp", {"width": 6, "depth": 1}, **shape)


def normed() -> nn.Module:
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 4)]
    return nn.Sequential(*layers)


def weights(trained: Trained, kind: str = "final") -> dict[str, torch.Tensor]:
    params, buffers = trained.checkpoints[kind]
    return {**params, **buffers}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name
