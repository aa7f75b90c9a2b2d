"""Networks of the diffusion paper: parameter counts and tensors of its models."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lossatlas import models
from lossatlas.data.tensors import Split
from lossatlas.errors import UserError
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.spec.catalogue import NETWORKS
from lossatlas.spec.parts import Recipe, Recording
from lossatlas.training import engine
from lossatlas.training.trained import Trained

BARE, PARTIAL = {"shortcut": False}, {"norm": "partial"}
RESNET, WIDE = "resnet_cifar", "resnet_imagenet"
CIFAR, MNIST = (3, 32), (1, 28)
COUNTS = [
    (RESNET, {"depth": 14}, 175_258, 47),
    (RESNET, {"depth": 14, **BARE}, 172_506, 41),
    (RESNET, {"depth": 20}, 272_474, 65),
    (RESNET, {"depth": 20, **BARE}, 269_722, 59),
    (RESNET, {"depth": 32, **BARE}, 464_154, 95),
    (RESNET, {"depth": 44, **BARE}, 658_586, 131),
    (RESNET, {"depth": 50, **BARE}, 755_802, 149),
    (RESNET, {"depth": 56}, 855_770, 173),
    (RESNET, {"depth": 56, **BARE}, 853_018, 167),
    (RESNET, {"depth": 110}, 1_730_714, 335),
    (RESNET, {"depth": 110, **BARE}, 1_727_962, 329),
    (RESNET, {"depth": 14, **PARTIAL}, 174_362, 23),
    (RESNET, {"depth": 14, **PARTIAL, **BARE}, 171_610, 17),
    (RESNET, {"depth": 14, "width": 2}, 696_618, 47),
    (RESNET, {"depth": 14, "width": 2, **BARE}, 685_994, 41),
    (RESNET, {"depth": 14, "width": 4}, 2_777_674, 47),
    (RESNET, {"depth": 14, "width": 4, **BARE}, 2_735_946, 41),
    (RESNET, {"depth": 14, "width": 8}, 11_093_130, 47),
    (RESNET, {"depth": 14, "width": 8, **BARE}, 10_927_754, 41),
    (RESNET, {"depth": 56, "width": 2}, 3_412_394, 173),
    (RESNET, {"depth": 56, "width": 2, **BARE}, 3_401_770, 167),
    (RESNET, {"depth": 56, "width": 4}, 13_628_234, 173),
    (RESNET, {"depth": 56, "width": 4, **BARE}, 13_586_506, 167),
    (RESNET, {"depth": 56, "width": 8}, 54_470_282, 173),
    (RESNET, {"depth": 56, "width": 8, **BARE}, 54_304_906, 167),
    (RESNET, {"depth": 110, "width": 2, **BARE}, 6_893_482, 329),
    (RESNET, {"depth": 110, "width": 4, **BARE}, 27_537_226, 329),
    ("fully_connected", {"depth": 3}, 318_200, 3),
    ("fully_connected", {"depth": 20}, 488_200, 20),
    ("fully_connected", {"depth": 56}, 848_200, 56),
    ("fully_connected", {"depth": 110}, 1_388_200, 110),
    ("vgg9", {}, 2_789_706, 34),
    ("alexnet", {}, 451_146, 16),
    ("densenet", {}, 6_956_298, 362),
    ("densenet40", {}, 1_019_722, 119),  # "1.0 M", Huang et al. (2017), table 2
    ("vgg11", {}, 9_231_114, 34),
    ("vit_token", {}, 9_603_594, 74),
    ("mnist_net", {}, 431_080, 8),
    ("resnet_mnist", {}, 12_126, 20),
    (WIDE, {"depth": 18}, 11_173_962, 62),
    (WIDE, {"depth": 18, **BARE}, 11_000_138, 53),
    (WIDE, {"depth": 34}, 21_282_122, 110),
    (WIDE, {"depth": 34, **BARE}, 21_108_298, 101),
    (WIDE, {"depth": 50}, 23_520_842, 161),
    (WIDE, {"depth": 50, **BARE}, 20_744_266, 149),
    (WIDE, {"depth": 101}, 42_512_970, 314),
    (WIDE, {"depth": 101, **BARE}, 39_736_394, 302),
    (WIDE, {"depth": 152}, 58_156_618, 467),
    (WIDE, {"depth": 152, **BARE}, 55_380_042, 455),
]
SHAPE = {"num_classes": 10, "in_channels": 3, "image_size": 32}


def images_of(name: str) -> tuple[int, int]:
    return MNIST if "mnist" in name else CIFAR


def full(name: str, arguments: dict) -> dict:
    return {**NETWORKS[name].arguments, **arguments}


@pytest.mark.parametrize(("name", "arguments", "count", "tensors"), COUNTS)
def test_published_parameter_counts(name: str, arguments: dict, count: int, tensors: int) -> None:
    channels, size = images_of(name)
    shape = {"num_classes": 10, "in_channels": channels, "image_size": size}
    with torch.device("meta"):
        module = models.build(name, arguments, **shape)
    assert sum(p.numel() for p in module.parameters()) == count
    assert len(list(module.parameters())) == tensors
    assert NETWORKS[name].cost(full(name, arguments), 10, channels, size)[0] == count


SMALL = [
    (RESNET, {"depth": 8}, (3, 8)),
    (RESNET, {"depth": 8, "norm": "none", **BARE}, (3, 8)),
    (RESNET, {"depth": 8, "width": 2, **PARTIAL}, (3, 8)),
    (WIDE, {"width": 2}, (3, 8)),
    (WIDE, {"width": 2, "depth": 50, **BARE}, (3, 9)),
    ("vgg9", {"width": 2}, (3, 11)),
    ("alexnet", {"width": 4}, (3, 29)),
    ("densenet", {"width": 2}, (1, 8)),
    ("densenet40", {"width": 1}, (1, 9)),
    ("vgg11", {"width": 2}, (3, 11)),
    ("mnist_net", {"width": 1}, (2, 17)),
    ("resnet_mnist", {"width": 2}, (1, 6)),
    ("fully_connected", {"width": 8}, (1, 8)),
    ("vit_token", {"width": 2, "depth": 2, "heads": 2}, (3, 9)),
]
CASES = pytest.mark.parametrize(("name", "arguments", "images"), SMALL)


@CASES
def test_counts_of_any_shape(name: str, arguments: dict, images: tuple[int, int]) -> None:
    """Parameters by instantiation, multiply-adds by what convolutions and products are given."""
    channels, size = images
    shape = {"num_classes": 10, "in_channels": channels, "image_size": size}
    module = models.build(name, arguments, **shape).eval()
    count, work = NETWORKS[name].cost(full(name, arguments), 10, channels, size)
    assert count == sum(p.numel() for p in module.parameters())
    counter = FlopCounterMode(display=False)
    with counter:
        module(torch.randn(1, channels, size, size))
    assert 2 * work == counter.get_total_flops()


@CASES
def test_trains_vectorised_and_recorded(
    name: str, arguments: dict, images: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two replicas take steps together as they do alone, and the recorder sees their path."""
    channels, size = images
    shape = {"num_classes": 4, "in_channels": channels, "image_size": size}
    made = torch.Generator().manual_seed(0)
    pixels = torch.randn(12, channels, size, size, generator=made, dtype=torch.float64)
    data = Split(pixels, torch.arange(12) % 4)
    window = Recording(length=3, stride=1, projection=8, gradients=4)
    recipe = Recipe(epochs=1, batch_size=4, learning_rate=0.01, momentum=0, record=window)
    given = {**arguments, "dropout": 0.0} if name == "vit_token" else arguments
    monkeypatch.setattr(engine, "is_small", lambda *_: True)

    def train(seeds: list[int]) -> Trained:
        return engine.Engine(
            lambda: models.build(name, given, **shape), recipe, seeds, data
        ).train()

    torch.set_default_dtype(torch.float64)
    try:
        together, alone = train([0, 1]), train([1])
    finally:
        torch.set_default_dtype(torch.float32)
    path = {key: array.values for key, array in together.path.items()}
    assert path["path_loss"].shape == (3, 2)
    assert np.isfinite(path["path_loss"]).all()
    assert (path["path_step"] > 0).all()
    assert path["path_gram"].shape == (2, 2, 3, 3)
    if name != "alexnet":  # masks of dropout are drawn for all replicas at once
        last = alone.path["path_distance"].values[:, 0]
        np.testing.assert_allclose(path["path_distance"][:, 1], last, rtol=1e-6, atol=1e-16)


def test_dropout_is_drawn_anew_for_every_replica_and_step() -> None:
    module = models.build("alexnet", {"width": 4}, **SHAPE)
    functional, (params, buffers) = Functional(module), state_of(module)
    x = torch.randn(2, 3, 32, 32)
    both = functional.many(
        stack([params] * 2), stack([buffers] * 2), x.expand(2, -1, -1, -1, -1), train=True
    )
    assert not torch.equal(both[0], both[1])
    quiet = [functional(params, buffers, x, train=False) for _ in range(2)]
    assert torch.equal(*quiet)


def test_deep_fully_connected_networks_of_the_paper_cannot_start() -> None:
    """Their outputs vanish: standard deviation about 3e-6 at depth 3, 5e-43 at depth 20."""
    x = torch.randn(64, 3, 32, 32, dtype=torch.float64)
    spread = {}
    for depth in (3, 20):
        module = models.build("fully_connected", {"depth": depth, "linear_std": 0.001}, **SHAPE)
        spread[depth] = float(module.double()(x).detach().std())
    assert spread[3] == pytest.approx(3e-6, rel=0.5)
    assert 1e-44 < spread[20] < 1e-41
    usual = models.build("fully_connected", {"depth": 20}, **SHAPE).double()
    assert float(usual(x).detach().std()) > 1e-9


def test_class_token_and_positions_start_as_standard_normal() -> None:
    module = models.build("vit_token", {"linear_std": 0.001}, **SHAPE)
    assert module.positions.shape == (1, 257, 512)
    assert float(module.positions.detach().std()) == pytest.approx(1, rel=0.02)
    assert float(module.token.detach().std()) == pytest.approx(1, rel=0.2)
    linear = [m for m in module.modules() if isinstance(m, torch.nn.Linear)]
    for layer in linear:
        assert float(layer.weight.detach().std()) == pytest.approx(0.001, rel=0.15)
        assert layer.bias is None or not layer.bias.any()


def test_mnist_block_keeps_the_size_and_adds_its_one_channel_to_all() -> None:
    module = models.build("resnet_mnist", {}, num_classes=10, in_channels=1, image_size=28)
    block = module.blocks[0].eval()
    assert block.conv1.padding == (15, 15)
    torch.nn.init.constant_(block.norm2.bias, -1.0)  # a ReLU then leaves the shortcut alone
    torch.nn.init.zeros_(block.norm2.weight)
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(block(x), x.expand(2, 16, 28, 28))


def test_bottlenecks_without_shortcuts_end_without_relu() -> None:
    bare, whole = (
        models.build(WIDE, {"depth": 50, "width": 2, "shortcut": s}, **SHAPE) for s in (False, True)
    )
    x = torch.randn(4, 2, 8, 8)
    assert float(bare.blocks[0](x).detach().min()) < 0
    assert float(whole.blocks[0](x).detach().min()) == 0


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
    ("name", "arguments", "size", "says"),
    [
        (RESNET, {"depth": 15}, 32, "depth is 6n \\+ 2, not 15: the nearest is 14"),
        (RESNET, {"norm": "some"}, 32, "norm is"),
        (WIDE, {"depth": 20}, 32, "18, 34, 50, 101, 152, not 20: the nearest is 18"),
        ("densenet", {"depth": 150}, 32, "the nearest is 161"),
        ("fully_connected", {"depth": 1}, 32, "depth is 2 or more, not 1: the nearest is 2"),
        ("vgg9", {}, 7, "8 pixels or larger, not 7"),
        ("alexnet", {}, 27, "28 pixels or larger, not 27"),
        ("mnist_net", {}, 15, "16 pixels or larger, not 15"),
        ("resnet_mnist", {}, 28, "one channel and an even size, not 3 x 28 x 28"),
        ("vit_token", {"patch": 9}, 8, "a patch of 9 pixels is larger than an image of 8"),
    ],
)
def test_networks_that_do_not_exist_are_refused(
    name: str, arguments: dict, size: int, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        models.build(name, arguments, num_classes=10, in_channels=3, image_size=size)


@pytest.mark.parametrize("name", ["vgg9", "alexnet", "densenet", "mnist_net"])
def test_smallest_images(name: str) -> None:
    size = NETWORKS[name].smallest
    module = models.build(name, {"width": 2}, num_classes=10, in_channels=3, image_size=size)
    assert module.eval()(torch.randn(1, 3, size, size)).shape == (1, 10)
