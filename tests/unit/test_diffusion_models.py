"""Networks of the diffusion paper: parameter counts and tensors of its models."""

import pytest
import torch

from lossatlas import models
from lossatlas.errors import UserError
from lossatlas.spec.catalogue import NETWORKS

BARE, PARTIAL = {"shortcut": False}, {"norm": "partial"}
COUNTS = [
    ("resnet_cifar", {"depth": 14}, 175_258, 47),
    ("resnet_cifar", {"depth": 14, **BARE}, 172_506, 41),
    ("resnet_cifar", {"depth": 20}, 272_474, 65),
    ("resnet_cifar", {"depth": 20, **BARE}, 269_722, 59),
    ("resnet_cifar", {"depth": 32, **BARE}, 464_154, 95),
    ("resnet_cifar", {"depth": 44, **BARE}, 658_586, 131),
    ("resnet_cifar", {"depth": 56}, 855_770, 173),
    ("resnet_cifar", {"depth": 56, **BARE}, 853_018, 167),
    ("resnet_cifar", {"depth": 110}, 1_730_714, 335),
    ("resnet_cifar", {"depth": 110, **BARE}, 1_727_962, 329),
    ("resnet_cifar", {"depth": 14, **PARTIAL}, 174_362, 23),
    ("resnet_cifar", {"depth": 14, **PARTIAL, **BARE}, 171_610, 17),
    ("resnet_cifar", {"depth": 14, "width": 2, **BARE}, 685_994, 41),
    ("resnet_cifar", {"depth": 14, "width": 4, **BARE}, 2_735_946, 41),
    ("resnet_cifar", {"depth": 14, "width": 8, **BARE}, 10_927_754, 41),
    ("resnet_cifar", {"depth": 14, "width": 2}, 696_618, 47),
    ("resnet_cifar", {"depth": 14, "width": 4}, 2_777_674, 47),
    ("fully_connected", {"depth": 3}, 318_200, 3),
    ("fully_connected", {"depth": 20}, 488_200, 20),
    ("fully_connected", {"depth": 56}, 848_200, 56),
    ("fully_connected", {"depth": 110}, 1_388_200, 110),
]
SHAPE = {"num_classes": 10, "in_channels": 3, "image_size": 32}


@pytest.mark.parametrize(("name", "arguments", "count", "tensors"), COUNTS)
def test_published_parameter_counts(name: str, arguments: dict, count: int, tensors: int) -> None:
    with torch.device("meta"):
        module = models.build(name, arguments, **SHAPE)
    assert sum(p.numel() for p in module.parameters()) == count
    assert len(list(module.parameters())) == tensors
    full = {**NETWORKS[name].arguments, **arguments}
    assert NETWORKS[name].cost(full, 10, 3, 32)[0] == count


def test_without_norms_there_are_none() -> None:
    module = models.build("resnet_cifar", {"norm": "none"}, **SHAPE)
    assert not [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    full = {**NETWORKS["resnet_cifar"].arguments, "norm": "none"}
    count = sum(p.numel() for p in module.parameters())
    assert NETWORKS["resnet_cifar"].cost(full, 10, 3, 32)[0] == count


def test_last_layer_starts_small_on_request() -> None:
    module = models.build("resnet_cifar", {"depth": 8, "linear_std": 0.001}, **SHAPE)
    assert float(module.head.weight.detach().std()) == pytest.approx(0.001, rel=0.15)
    assert float(module.head.bias.detach().abs().max()) == 0
    assert module(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_shortcuts_carry_the_image() -> None:
    plain, bare = (
        models.build("resnet_cifar", {"depth": 8, "shortcut": s}, **SHAPE) for s in (True, False)
    )
    for module in (plain, bare):
        for block in module.blocks:
            torch.nn.init.zeros_(block.conv2.weight)
    module_out = [m.eval().blocks(torch.ones(1, 16, 8, 8)) for m in (plain, bare)]
    assert float(module_out[0].detach().abs().sum()) > 0
    assert float(module_out[1].detach().abs().sum()) == 0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet_cifar", {"depth": 15}),
        ("resnet_cifar", {"norm": "some"}),
        ("fully_connected", {"depth": 1}),
    ],
)
def test_networks_that_do_not_exist_are_refused(name: str, arguments: dict) -> None:
    with pytest.raises(UserError, match=r"depth is|norm is"):
        models.build(name, arguments, **SHAPE)
