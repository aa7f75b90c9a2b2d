"""Small networks for tests of metrics: `measuring.measure_networks(metric, networks())`."""

import torch
from torch import nn

from lossatlas.data.tensors import Split, TensorData
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.training.networks import Networks


def net(seed: int) -> nn.Module:
    """Return the network of a seed as a torch module, for what a metric is compared with."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()


def networks(seeds: tuple[int, ...] = (1, 4, 6)) -> Networks:
    """Return the networks of some seeds with 30 training and 10 test images of 2 x 2, 2 classes."""
    draw = torch.Generator().manual_seed(0)
    splits = [Split(torch.randn(n, 1, 2, 2, generator=draw), torch.arange(n) % 2) for n in (30, 10)]
    states = [state_of(net(seed)) for seed in seeds]
    params, buffers = (stack(list(part)) for part in zip(*states, strict=True))
    return Networks(Functional(net(0)), params, buffers, list(seeds), TensorData("t", *splits, 2))
