"""Networks of the simplex paper: parameter counts, shapes, and twice differentiable attention."""

import pytest
import torch
from torch import nn

from lossatlas import models
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.spec.catalogue import NETWORKS

COUNTS = [
    ("vgg16", {}, 10, 15_245_130),
    ("vgg16", {}, 100, 15_291_300),
    ("vgg16_bn", {}, 10, 15_253_578),
    ("vgg16_bn", {}, 100, 15_299_748),
    ("preresnet", {"depth": 20}, 10, 272_282),
    ("preresnet", {"depth": 56}, 10, 590_426),
    ("preresnet", {"depth": 110}, 10, 1_146_842),
    ("preresnet", {"depth": 164}, 10, 1_703_258),
]


@pytest.mark.parametrize(("name", "arguments", "classes", "count"), COUNTS)
def test_published_parameter_counts(name: str, arguments: dict, classes: int, count: int) -> None:
    with torch.device("meta"):
        shape = {"num_classes": classes, "in_channels": 3, "image_size": 32}
        module = models.build(name, arguments, **shape)
    assert sum(p.numel() for p in module.parameters()) == count
    full = {**NETWORKS[name].arguments, **arguments}
    assert NETWORKS[name].cost(full, classes, 3, 32)[0] == count


def test_spiral_network_is_the_mlp() -> None:
    spiral = models.build(
        "mlp", {"width": 25, "depth": 7}, num_classes=1, in_channels=2, image_size=1
    )
    assert sum(p.numel() for p in spiral.parameters()) == 4_001


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn", "preresnet"])
def test_he_initialisation_by_outputs(name: str) -> None:
    """As in Benton et al.'s code: variance 2 / (k^2 outputs) and no biases; the rest is torch's."""
    torch.manual_seed(0)
    shape = {"num_classes": 10, "in_channels": 3, "image_size": 32}
    network = models.build(name, {"width": 16, "he_init": True}, **shape)
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and part.weight.numel() > 4000:
            wanted = (2 / (part.kernel_size[0] ** 2 * part.out_channels)) ** 0.5
            assert float(part.weight.detach().std()) == pytest.approx(wanted, rel=0.05)
        if isinstance(part, nn.Conv2d) and part.bias is not None:
            assert not part.bias.any()
        if isinstance(part, nn.Linear):
            assert part.bias.any()
            assert float(part.weight.detach().abs().max()) <= part.in_features**-0.5


SMALL = [("vgg16", {"width": 2}), ("vgg16_bn", {"width": 2}), ("preresnet", {"width": 2})]
SMALL += [("preresnet", {"width": 2, "depth": 47}), ("convnet", {"width": 2})]
SMALL += [("vit", {"width": 2, "depth": 1})]


@pytest.mark.parametrize(("name", "arguments"), SMALL)
@pytest.mark.parametrize("size", [8, 11])
def test_vectorised_over_networks(name: str, arguments: dict, size: int) -> None:
    shape = {"num_classes": 3, "in_channels": 1, "image_size": size}
    states = [state_of(models.build(name, arguments, **shape)) for _ in range(2)]
    functional = Functional(models.build(name, arguments, **shape))
    x = torch.randn(2, 4, 1, size, size)
    params, buffers = stack([s[0] for s in states]), stack([s[1] for s in states])
    together = functional.many(params, buffers, x, train=False)
    assert together.shape == (2, 4, 3)
    for index, state in enumerate(states):
        alone = functional(*state, x[index], train=False)
        torch.testing.assert_close(together[index], alone, rtol=1e-4, atol=1e-6)


def test_transformer_can_be_differentiated_twice() -> None:
    vit = models.build(
        "vit", {"width": 2, "depth": 2}, num_classes=3, in_channels=1, image_size=8
    ).double()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    weight = next(vit.layers.parameters())  # type: ignore[union-attr]
    loss = torch.logsumexp(vit(x), 1).sum()
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    (second,) = torch.autograd.grad((gradient**2).sum(), weight)
    assert second.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [("preresnet", {"depth": 21}, "6n"), ("vit", {"patch": 16}, "larger than an image")],
)
def test_refused_arguments(name: str, arguments: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        models.build(name, arguments, num_classes=3, in_channels=1, image_size=8)
