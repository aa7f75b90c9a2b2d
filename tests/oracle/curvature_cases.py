"""Small problems whose Hessian is known, for the tests of curvature."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lossatlas.models.mlp import MLP
from lossatlas.models.resnet18 import ResNet18


class Dense:
    """A matrix as an operator."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.size, self.products = matrix, len(matrix), 0
        self.dtype, self.device = matrix.dtype, matrix.device

    def __call__(self, vector: Tensor) -> Tensor:
        self.products += 1
        return self.matrix @ vector


def spectrum_like_a_network(size: int, seed: int = 0, sign: float = 1.0) -> Tensor:
    """A random symmetric matrix with a few large eigenvalues and a small bulk of both signs."""
    random = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=random, dtype=torch.float64))
    bulk = 0.02 * torch.randn(size, generator=random, dtype=torch.float64)
    bulk[:9] += sign * torch.tensor([9, 6, 4, 3, 2, 1.5, 1, 0.7, 0.5], dtype=torch.float64)
    return basis @ torch.diag(bulk) @ basis.T


def images_and_labels(count: int, size: int = 8, classes: int = 4) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(7)
    images = torch.randn(count, 1, size, size, generator=random, dtype=torch.float64)
    return images, torch.randint(classes, (count,), generator=random)


def small_mlp() -> nn.Module:
    torch.manual_seed(1)
    return MLP(num_classes=4, in_channels=1, image_size=4, width=5, depth=2).double()


def small_resnet(width: int = 1) -> nn.Module:
    """ResNet18 in evaluation mode with BatchNorm statistics and scales that are not trivial."""
    torch.manual_seed(2)
    network = ResNet18(num_classes=4, in_channels=1, width=width).double()
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.normal_(0, 0.3)
                norm.running_var.uniform_(0.5, 2)
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(0, 0.3)
    return network.eval()


def loss_of(module: nn.Module, images: Tensor, labels: Tensor, names: list[str]):
    """The mean cross entropy as a function of the flat vector of some parameters, and its value."""
    everything = dict(module.named_parameters())
    start = torch.cat([everything[name].detach().reshape(-1) for name in names])

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([everything[name].numel() for name in names])
        moved = {n: p.reshape(everything[n].shape) for n, p in zip(names, pieces, strict=True)}
        return F.cross_entropy(functional_call(module, moved, (images,)), labels)

    return loss, start


def dense_hessian(module: nn.Module, images: Tensor, labels: Tensor, names: list[str]) -> Tensor:
    """The Hessian by autodiff of all of it, with plain BatchNorm and in float64."""
    loss, start = loss_of(module, images, labels, names)
    return torch.autograd.functional.hessian(loss, start)


def columns(operator) -> Tensor:
    """The matrix of an operator."""
    eye = torch.eye(operator.size, dtype=operator.dtype)
    return torch.stack([operator(row) for row in eye])


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
