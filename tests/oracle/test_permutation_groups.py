"""Which units can be permuted: of every built-in network, and of modules of all kinds.

That outputs stay the same is looked at here by the module itself, in double precision.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.data.tensors import Named
from lossatlas.errors import UserError
from lossatlas.models import build
from lossatlas.models.functional import Functional, state_of
from lossatlas.permutation.trace import find
from lossatlas.spec.catalogue import NETWORKS
from permuted import built, found_in, images, stirred

torch.set_num_threads(1)


def stages(*multiples: int, width: int, each: int) -> list[int]:
    """Residual stages: one group for the sums, one for each inner convolution."""
    return [m * width for m in multiples for _ in range(each)]


# Name -> (arguments, pixels, channels, sizes of the groups), by what the architectures are.
BUILT_IN: dict[str, tuple[dict[str, object], int, int, list[int]]] = {
    "alexnet": ({"width": 4}, 32, 1, [4] * 5 + [4 * 3] * 2),
    "convnet": ({"width": 2}, 8, 1, [2, 4, 8]),
    # the stem, two convolutions of each layer, three transitions that halve
    "densenet": ({"width": 2}, 8, 1, [4, *[8, 2] * 58, 8, 16, 32]),
    "densenet40": ({"width": 2}, 8, 1, [16, *[2] * 36, 40, 64]),
    "fully_connected": ({"width": 6, "depth": 3}, 4, 1, [6, 6]),
    "mlp": ({"width": 6, "depth": 2}, 4, 1, [6, 6]),
    "mnist_net": ({"width": 1}, 16, 1, [2, 5, 50]),
    "preresnet": ({"depth": 20, "width": 2}, 8, 1, stages(1, 2, 4, width=2, each=4)),
    "resnet18": ({"width": 2}, 8, 3, stages(1, 2, 4, 8, width=2, each=3)),
    "resnet_cifar": ({"depth": 8}, 8, 1, stages(1, 2, 4, width=16, each=2)),
    "resnet_imagenet": ({"width": 2}, 8, 1, stages(1, 2, 4, 8, width=2, each=3)),
    # the first block adds its one input channel to all; the second block's sum is the first's
    "resnet_mnist": ({"width": 2}, 8, 1, [2, 4, 8]),
    # of the embeddings the sinusoids keep every number in its place
    "translation_transformer": ({"width": 8, "heads": 2, "depth": 2}, 0, 0, [32] * 4),
    "vgg11": ({"width": 2}, 8, 1, [2, 4, 8, 8, 16, 16, 16, 16]),
    "vgg16": ({"width": 2}, 8, 1, [2, 2, 4, 4, *[8] * 3, *[16] * 8]),
    "vgg16_bn": ({"width": 2}, 8, 1, [2, 2, 4, 4, *[8] * 3, *[16] * 8]),
    "vgg9": ({"width": 2}, 8, 1, [2, 2, 4, 4, 8, 8, 8, 8]),
    # tokens, and the units between the two linear layers of each layer; heads stay
    "vit": ({"width": 2, "depth": 2, "heads": 2}, 8, 1, [4, 16, 16]),
    "vit_token": ({"width": 2, "depth": 2, "heads": 2}, 8, 1, [4, 4, 4]),
}


def test_every_built_in_network_is_here() -> None:
    assert BUILT_IN.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", BUILT_IN)
def test_groups_of_built_in_networks(name: str) -> None:
    arguments, size, channels, sizes = BUILT_IN[name]
    if name == "translation_transformer":
        draw = torch.Generator().manual_seed(0)
        lengths = {"source": 7, "before": 5}
        tokens = {k: torch.randint(1, 20, (8, n), generator=draw) for k, n in lengths.items()}
        tokens["source"][:, 5:] = 0  # padding, which `forward` cuts off by its values
        shapes = {name: tuple(t.shape[1:]) for name, t in tokens.items()}
        torch.manual_seed(0)
        module = build(name, arguments, num_classes=20, vocabulary=20, input_shape=shapes)
        found = found_in(stirred(module), Named(tokens))
    else:
        module = built(name, size, channels, **arguments)
        found = found_in(module, images(8, size, channels))
    assert sorted(group.size for group in found.groups) == sorted(sizes)
    assert found.units == sum(sizes)
    # Each unit is written by some layer, where its features can be looked at.
    assert {site.group for site in found.sites} == set(range(len(sizes)))


def test_shortcuts_and_norms_move_with_their_units() -> None:
    found = found_in(built("resnet18", width=2), images(8))
    place = {group.size: group for group in found.groups if len(group.places) > 12}[4]
    told = {(p.name, p.axis) for p in place.places}
    assert {("blocks.2.shortcut.0.weight", 0), ("blocks.2.conv2.weight", 0)} <= told
    assert {("blocks.3.conv1.weight", 1), ("blocks.4.shortcut.0.weight", 1)} <= told
    assert {("blocks.2.shortcut.1.running_var", 0), ("blocks.3.norm2.bias", 0)} <= told


def test_a_channel_before_flatten_has_a_block_of_columns() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 4))
    (group,) = found_in(module, images(8)).groups
    index = {(p.name, p.axis): p.index for p in group.places}
    assert index["3.weight", 1].tolist() == torch.arange(108).reshape(3, 36).tolist()


def test_images_channels_last() -> None:
    module, x = built("resnet18", channels=3, width=2), images(8, channels=3)
    one = found_in(module, x)
    other = found_in(module, x.contiguous(memory_format=torch.channels_last))
    assert (one.layers, one.units) == (other.layers, other.units)


class Call(nn.Module):
    """A module of parts and a function of these."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.function = nn.ModuleDict(parts), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.parts)


class Indexed(nn.Module):
    """Features that are looked up by a buffer of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = linear(5, 4), linear(4, 6), linear(6, 3)
        self.register_buffer("order", torch.tensor([3, 1, 2, 0, 5, 4]))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu())[:, self.order].relu())


def linear(*sizes: int) -> nn.Linear:
    return nn.Linear(*sizes)


def recurrent(x: Tensor, core: nn.Module, head: nn.Module) -> Tensor:
    return head(core(x)[0].mean(1))


def conv(*sizes: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(*sizes, 3, padding=1, groups=groups)


def ends(middle: nn.Module, first: int = 4, last: int = 4) -> nn.Module:
    """Put a module between two convolutions."""
    after = [nn.ReLU(), conv(last, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(conv(1, first), nn.ReLU(), middle, *after)


ROWS, TEXTS, PICTURES = (8, 5), (8, 6, 5), (8, 1, 8, 8)
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[int]]] = {
    "tied weights": (
        lambda: Call(lambda x, a: F.linear(F.relu(a(x)), a.weight.T), a=linear(5, 6)),
        ROWS,
        [6],
    ),
    "one layer, again and again": (
        lambda: Call(
            lambda x, a, b, c: c(torch.tanh(b(torch.tanh(b(torch.tanh(a(x))))))),
            a=linear(5, 6),
            b=linear(6, 6),
            c=linear(6, 3),
        ),
        ROWS,
        [6],
    ),
    "a recurrent network": (
        lambda: Call(recurrent, core=nn.RNN(5, 6, batch_first=True), head=linear(6, 3)),
        TEXTS,
        [6],
    ),
    "an LSTM": (
        lambda: Call(recurrent, core=nn.LSTM(5, 6, batch_first=True), head=linear(6, 3)),
        TEXTS,
        [6],
    ),
    "two layers of GRU": (
        lambda: Call(recurrent, core=nn.GRU(5, 6, 2, batch_first=True), head=linear(6, 3)),
        TEXTS,
        [6],  # torch stacks the last states of both layers: their units stay in step
    ),
    "torch's transformer": (
        lambda: Call(
            lambda x, a, b, c: c(b(a(x)).mean(1)),
            a=linear(5, 8),
            b=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            c=linear(8, 3),
        ),
        TEXTS,
        [8, 16],
    ),
    "a depthwise convolution": (lambda: ends(conv(4, 4, groups=4)), PICTURES, [4]),
    "a multiplied one": (lambda: ends(conv(4, 8, groups=4), last=8), PICTURES, [4]),
    "one in groups": (lambda: ends(conv(4, 6, groups=2), last=6), PICTURES, [3, 3]),
    "GroupNorm": (lambda: ends(nn.GroupNorm(2, 4)), PICTURES, [2, 2]),
    "GroupNorm of one group": (lambda: ends(nn.GroupNorm(1, 4)), PICTURES, [4]),
    "InstanceNorm": (
        lambda: ends(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
        PICTURES,
        [4],
    ),
    "a transposed convolution": (
        lambda: ends(nn.ConvTranspose2d(4, 5, 2), last=5),
        PICTURES,
        [4, 5],
    ),
    "PReLU": (lambda: ends(nn.PReLU(4)), PICTURES, [4]),
    "activations in place": (
        lambda: nn.Sequential(
            linear(5, 6),
            nn.Hardswish(inplace=True),
            linear(6, 7),
            nn.Mish(inplace=True),
            nn.RMSNorm(7),
            linear(7, 8),
            nn.LogSigmoid(),
            linear(8, 3),
        ),
        ROWS,
        [6, 7, 8],
    ),
    "a table of indices": (Indexed, ROWS, [4]),
    "a channel shuffle": (lambda: ends(nn.ChannelShuffle(2)), PICTURES, []),
    "two halves": (
        lambda: Call(lambda x, a, b: b(F.glu(a(x))), a=linear(5, 12), b=linear(6, 3)),
        ROWS,
        [6],
    ),
    "halves that are used apart": (
        lambda: Call(
            lambda x, a, b: b(a(x).relu()[:, :4]) + a(x).relu()[:, 4:].mean(1, keepdim=True),
            a=linear(5, 10),
            b=linear(4, 3),
        ),
        ROWS,
        [4, 6],
    ),
    "inputs beside features": (
        lambda: Call(
            lambda x, a, b: b(torch.cat([x, a(x).relu()], 1)), a=linear(5, 4), b=linear(9, 3)
        ),
        ROWS,
        [4],
    ),
    "a sum with its mirror image": (
        lambda: Call(
            lambda x, a, b, c: c((b(a(x).relu()) + b(a(x).relu()).flip(1)).relu()),
            a=linear(5, 4),
            b=linear(4, 6),
            c=linear(6, 3),
        ),
        ROWS,
        [4],
    ),
    "numbers that leave torch": (
        lambda: Call(
            lambda x, a, b, c: c(torch.from_numpy(b(a(x).relu()).relu().numpy())),
            a=linear(5, 4),
            b=linear(4, 6),
            c=linear(6, 3),
        ),
        ROWS,
        [4],
    ),
    "normed weights": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(linear(5, 6)), nn.ReLU(), linear(6, 3)
        ),
        ROWS,
        [],
    ),
    "a shortcut that pads channels": (
        lambda: ends(Call(lambda x, a: a(x) + F.pad(x, (0, 0, 0, 0, 1, 2)), a=conv(4, 7)), last=7),
        PICTURES,
        [2, 4],
    ),
    "branches on values of the inputs": (
        lambda: Call(
            lambda x, a, b: b(a(x).relu() if float(x.sum()) > 1e9 else a(2 * x).relu()),
            a=linear(5, 4),
            b=linear(4, 3),
        ),
        ROWS,
        [4],
    ),
}


@pytest.mark.parametrize("kind", MODULES)
def test_groups_of_modules(kind: str) -> None:
    make, shape, sizes = MODULES[kind]
    torch.manual_seed(0)
    module = stirred(make())
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if not sizes:
        with pytest.raises(UserError, match=r"has no units that can be permuted"):
            find(Functional(module), state_of(module), x)
        return
    assert sorted(group.size for group in found_in(module, x).groups) == sorted(sizes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "units"), [("mobilenet_v3_small", 4872), ("shufflenet_v2_x0_5", 1912)]
)
def test_networks_of_torchvision(name: str, units: int) -> None:
    """Depthwise convolutions, squeeze and excitation, channel shuffles, `chunk` and `cat`."""
    models = pytest.importorskip("torchvision.models")
    module = stirred(getattr(models, name)(num_classes=5))
    assert found_in(module, torch.randn(8, 3, 32, 32)).units == units
