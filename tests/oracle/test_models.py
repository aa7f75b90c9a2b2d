"""Logits of the built-in networks: against torchvision, torch's transformer, and plain formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import make_layers

from lossatlas import models
from lossatlas.models import initial

torch.set_num_threads(1)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
Plain = Callable[[Tensor], Tensor]


def network(name: str, size: int, channels: int = 3, **arguments: object) -> nn.Module:
    """Build it in float64 and evaluation mode, with weights that let every layer count."""
    torch.manual_seed(0)
    shape = {"num_classes": 5, "in_channels": channels, "image_size": size}
    module = models.build(name, arguments, **shape)
    for part in module.modules():
        if isinstance(part, NORMS):
            nn.init.normal_(part.running_mean, std=0.3)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
        if isinstance(part, (*NORMS, nn.LayerNorm)):
            nn.init.uniform_(part.weight, 0.5, 1.5)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
        if getattr(part, "bias", None) is not None:
            nn.init.normal_(part.bias, std=0.3)
    return module.double().eval()


def given_weights_of(source: nn.Module, peer: nn.Module) -> nn.Module:
    """Give a peer, of any width, the layers of a network: those of each kind in the same order."""
    for kind in (nn.Conv2d, nn.Linear, NORMS):
        mine, others = ([m for m in x.modules() if isinstance(m, kind)] for x in (source, peer))
        for one, other in zip(mine, others, strict=True):
            other._parameters.update(one._parameters)
            other._buffers.update(one._buffers)
    return peer.eval()


def assert_equal(module: nn.Module, peer: Plain, size: int, channels: int = 3) -> None:
    random = torch.Generator().manual_seed(1)
    images = torch.randn(3, channels, size, size, generator=random, dtype=torch.float64)
    with torch.no_grad():
        found, expected = module(images), peer(images)
    assert found.std(dim=0).min() > 1e-6 * found.abs().max()  # the images count
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments", "block", "stages"),
    [
        ("resnet18", {}, BasicBlock, [2, 2, 2, 2]),
        ("resnet_imagenet", {"depth": 34}, BasicBlock, [3, 4, 6, 3]),
        ("resnet_imagenet", {"depth": 50}, Bottleneck, [3, 4, 6, 3]),
    ],
)
def test_resnets(name: str, arguments: dict, block: type, stages: list[int]) -> None:
    """torchvision's, with a stem for small images."""
    module = network(name, 16, width=2, **arguments)
    with torch.device("meta"):
        peer = ResNet(block, stages)
        peer.conv1, peer.maxpool = nn.Conv2d(3, 2, 3, 1, 1, bias=False), nn.Identity()
    assert_equal(module, given_weights_of(module, peer), 16)


@pytest.mark.parametrize(
    ("name", "norm", "stages", "linear"),
    [
        ("vgg16", False, (2, 2, 3, 3, 3), 3),
        ("vgg16_bn", True, (2, 2, 3, 3, 3), 3),
        ("vgg9", True, (2, 2, 3), 2),
        ("vgg11", True, (1, 1, 2, 2, 2), 1),
    ],
)
def test_vgg(name: str, norm: bool, stages: tuple[int, ...], linear: int) -> None:
    """Features are torchvision's; the paper's head has no norm, that of VGG-9 has one."""
    module = network(name, 32, width=2)
    plan = [one for count in stages for one in (*[2] * count, "M")]
    with torch.device("meta"):
        head: list[nn.Module] = []
        for _ in range(linear - 1):
            head += [nn.Linear(2, 2), *[nn.BatchNorm1d(2)] * (name == "vgg9"), nn.ReLU()]
        peer = nn.Sequential(make_layers(plan, norm), nn.Flatten(), *head, nn.Linear(2, 2))
    assert_equal(module, given_weights_of(module, peer), 32)


def conv(layer: nn.Conv2d, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, layer.weight, layer.bias, stride, padding)


def norm(layer: nn.Module, x: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-5), scaled and shifted, channel by channel."""
    mean, var, weight, bias = (
        v[:, None, None] for v in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def head(layer: nn.Linear, x: Tensor) -> Tensor:
    return x.mean(3).mean(2) @ layer.weight.T + layer.bias


@pytest.mark.parametrize(("depth", "shrinking"), [(14, 0), (47, 1)])
def test_preresnet(depth: int, shrinking: int) -> None:
    """He et al. (2016): norm, ReLU, convolution; the shortcut carries what was not yet normed."""
    module = network("preresnet", 12, width=2, depth=depth)

    def plain(x: Tensor) -> Tensor:
        x = conv(module.stem, x, 1, 1)
        per_stage = len(module.blocks) // 3
        for number, block in enumerate(module.blocks):
            stride, y = 2 if number in (per_stage, 2 * per_stage) else 1, x
            for place, layer in enumerate(block.convs):
                here = stride if place == shrinking else 1
                padding = layer.weight.shape[-1] // 2
                y = conv(layer, relu(norm(block.norms[place], y)), here, padding)
            x = y + (x if x.shape == y.shape else conv(block.shortcut, x, stride))
        return head(module.head, relu(norm(module.norm, x)))

    assert_equal(module, plain, 12)


@pytest.mark.parametrize(
    ("depth", "shrinking", "firsts"), [(18, 0, (2, 4, 6)), (50, 1, (3, 7, 13))]
)
def test_resnets_without_shortcuts(depth: int, shrinking: int, firsts: tuple[int, ...]) -> None:
    """The paper's basic blocks end with a ReLU, its bottlenecks without one."""
    module = network("resnet_imagenet", 16, width=8, depth=depth, shortcut=False)

    def plain(x: Tensor) -> Tensor:
        x = relu(norm(module.norm, conv(module.stem, x, 1, 1)))
        for number, block in enumerate(module.blocks):
            stride = 2 if number in firsts else 1
            for place, layer in enumerate(block.convs):
                padding = layer.weight.shape[-1] // 2
                x = conv(layer, x, stride if place == shrinking else 1, padding)
                x = norm(block.norms[place], x)
                x = x if depth == 50 and place == 2 else relu(x)
        return head(module.head, x)

    assert_equal(module, plain, 16)


@pytest.mark.parametrize("norms", ["full", "partial", "none"])
@pytest.mark.parametrize("shortcut", [True, False])
def test_resnet_cifar(norms: str, shortcut: bool) -> None:
    module = network("resnet_cifar", 8, depth=14, norm=norms, shortcut=shortcut)

    def plain(x: Tensor) -> Tensor:
        def normed(layer: nn.Module, y: Tensor, kinds: tuple[str, ...]) -> Tensor:
            return norm(layer, y) if norms in kinds else y

        x = relu(normed(module.norm, conv(module.stem, x, 1, 1), ("full", "partial")))
        for number, block in enumerate(module.blocks):
            stride = 2 if number in (2, 4) else 1
            y = relu(normed(block.norm1, conv(block.conv1, x, stride, 1), ("full",)))
            y = normed(block.norm2, conv(block.conv2, y, 1, 1), ("full",))
            if shortcut and stride == 2:
                x = conv(block.shortcut[0], x, 2)
                x = normed(block.shortcut[-1], x, ("full", "partial"))
            x = relu(y + x if shortcut else y)
        return head(module.head, x)

    assert_equal(module, plain, 8)


def test_densenet() -> None:
    """Huang et al. (2017): bottlenecks of 4k, transitions that halve, new channels first."""
    module = network("densenet", 8, width=2)

    def plain(x: Tensor) -> Tensor:
        x, parts = conv(module.stem, x, 1, 1), iter(module.parts)
        for block, count in enumerate((6, 12, 24, 16)):
            if block:
                part = next(parts)
                y = conv(part.conv, relu(norm(part.norm, x)))
                n, c, h, w = y.shape
                x = y.view(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
            for _ in range(count):
                part = next(parts)
                y = conv(part.conv1, relu(norm(part.norm1, x)))
                x = torch.cat([conv(part.conv2, relu(norm(part.norm2, y)), 1, 1), x], 1)
        return head(module.head, relu(norm(module.norm, x)))

    assert_equal(module, plain, 8)


def test_densenet_of_40_layers() -> None:
    """Huang et al. (2017): three blocks of 12 layers, no bottleneck, transitions keep channels."""
    module = network("densenet40", 8, width=2)

    def plain(x: Tensor) -> Tensor:
        stem, *parts = module.features
        x = conv(stem, x, 1, 1)
        for place, part in enumerate(parts):
            y = relu(norm(part.norm, x))
            if place in (12, 25):
                y = conv(part.conv, y)
                n, c, h, w = y.shape
                x = y.view(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
            else:
                x = torch.cat([x, conv(part.conv, y, 1, 1)], 1)
        assert x.shape[1:] == (16 + 36 * 2, 2, 2)
        return head(module.head, relu(norm(module.norm, x)))

    assert_equal(module, plain, 8)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def test_alexnet() -> None:
    module = network("alexnet", 32, width=3)

    def plain(x: Tensor) -> Tensor:
        convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
        x = F.max_pool2d(relu(conv(convs[0], x, 2, 2)), 3, 2)
        x = F.max_pool2d(relu(conv(convs[1], x, 1, 2)), 3, 2)
        for layer in convs[2:]:
            x = relu(conv(layer, x, 1, 1))
        first, second, third = (m for m in module.modules() if isinstance(m, nn.Linear))
        x = F.max_pool2d(x, 3, 2).flatten(1)
        return linear(third, relu(linear(second, relu(linear(first, x)))))

    assert_equal(module, plain, 32)


def test_convnet_and_mnist_net() -> None:
    small, mnist = network("convnet", 9, width=2), network("mnist_net", 28, 1, width=2)

    def three(x: Tensor) -> Tensor:
        first, second, third = (m for m in small.modules() if isinstance(m, nn.Conv2d))
        x = F.max_pool2d(relu(conv(first, x, 1, 1)), 2)
        x = F.max_pool2d(relu(conv(second, x, 1, 1)), 2)
        return head(small.head, relu(conv(third, x, 1, 1)))

    def two(x: Tensor) -> Tensor:
        first, second = (m for m in mnist.modules() if isinstance(m, nn.Conv2d))
        wide, last = (m for m in mnist.modules() if isinstance(m, nn.Linear))
        x = F.max_pool2d(relu(conv(first, x)), 2)
        x = F.max_pool2d(relu(conv(second, x)), 2)
        return linear(last, relu(linear(wide, x.flatten(1))))

    assert_equal(small, three, 9)
    assert_equal(mnist, two, 28, 1)


def test_resnet_mnist() -> None:
    module = network("resnet_mnist", 12, 1, width=2)

    def plain(x: Tensor) -> Tensor:
        for block in module.blocks:
            y = relu(norm(block.norm1, conv(block.conv1, x, 2, 7)))
            x = x + relu(norm(block.norm2, conv(block.conv2, y, 2, 7)))
        x = norm(module.norm, conv(module.conv, x, 2, 1))
        return x.flatten(2).max(2).values

    assert_equal(module, plain, 12, 1)


@pytest.mark.parametrize(
    ("name", "depth", "layers"),
    [("mlp", 0, 1), ("mlp", 2, 3), ("fully_connected", 2, 2), ("fully_connected", 4, 4)],
)
def test_fully_connected_networks(name: str, depth: int, layers: int) -> None:
    module = network(name, 4, width=6, depth=depth)
    tables = [m for m in module.modules() if isinstance(m, nn.Linear)]
    assert len(tables) == layers

    def plain(x: Tensor) -> Tensor:
        x = x.flatten(1)
        for table in tables[:-1]:
            x = relu(linear(table, x))
        return linear(tables[-1], x)

    assert_equal(module, plain, 4)


def patches_of(x: Tensor, size: int) -> Tensor:
    """Cut images into patches, row by row: (N, T, channels * size * size)."""
    side = x.shape[2] // size
    cut = [
        x[:, :, size * i : size * (i + 1), size * j : size * (j + 1)].flatten(1)
        for i in range(side)
        for j in range(side)
    ]
    return torch.stack(cut, 1)


def encoder(layer: nn.Module, wide: int) -> nn.TransformerEncoderLayer:
    """PyTorch's layer, norms first, with the weights of ours."""
    own = getattr(layer, "attention", layer)
    size = own.output.in_features
    options = {"norm_first": True, "batch_first": True, "activation": "gelu", "dropout": 0.0}
    peer = nn.TransformerEncoderLayer(size, own.heads, wide, **options).double().eval()
    pairs = [(peer.self_attn.out_proj, own.output), (peer.linear1, layer.wide)]
    pairs += [(peer.linear2, layer.narrow), (peer.norm1, layer.norm1), (peer.norm2, layer.norm2)]
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    bias = torch.zeros(3 * size) if own.inputs.bias is None else own.inputs.bias.detach()
    tables = {"in_proj_weight": own.inputs.weight.detach(), "in_proj_bias": bias}
    peer.self_attn.load_state_dict({**peer.self_attn.state_dict(), **tables})
    return peer


def test_vit() -> None:
    module = network("vit", 9, width=3, depth=2, heads=2, patch=4)
    peers = [encoder(layer, 24) for layer in module.layers]
    assert float(module.positions.detach().std()) == pytest.approx(0.02, rel=0.5)

    def plain(x: Tensor) -> Tensor:
        kernel = module.patches.weight.flatten(1)
        x = patches_of(x, 4) @ kernel.T + module.patches.bias + module.positions
        for peer in peers:
            x = peer(x)
        return linear(module.head, module.norm(x).mean(1))

    assert_equal(module, plain, 9)


def test_vit_token() -> None:
    module = network("vit_token", 7, width=3, depth=2, heads=2, patch=2)
    peers = [encoder(layer, 6) for layer in module.layers]

    def plain(x: Tensor) -> Tensor:
        tokens = linear(module.patches, patches_of(x, 2))
        x = torch.cat([module.token.expand(len(x), 1, 6), tokens], 1) + module.positions
        for peer in peers:
            x = peer(x)
        return linear(module.head, module.norm(x[:, 0]))

    assert_equal(module, plain, 7)


@pytest.mark.parametrize(
    ("name", "arguments", "share", "shapes"),
    [
        ("vgg16", {}, 0.5, [(3, 16), (3, 16)]),
        ("alexnet", {}, 0.5, [(3, 2), (3, 4)]),
        (
            "vit_token",
            {"depth": 1, "heads": 2, "patch": 16, "dropout": 0.3},
            0.3,
            [(3, 5, 4), (3, 2, 5, 5), (3, 5, 4), (3, 5, 4), (3, 5, 4)],
        ),
    ],
)
def test_what_training_drops(name: str, arguments: dict, share: float, shapes: list) -> None:
    """Inputs of hidden linear layers; of the transformer: tokens, attention, what layers give."""
    module, dropped = network(name, 32, width=2, **arguments).train(), []
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            assert part.p == share
            part.register_forward_hook(lambda _m, given, _out: dropped.append(given[0].shape))
    module(torch.randn(3, 3, 32, 32, dtype=torch.float64))
    assert [tuple(shape) for shape in dropped] == shapes


def test_initial_weights() -> None:
    """He's normal distribution by fan-in, biases 0; linear layers on request alone."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(16, 300, 3), nn.Linear(200, 300), nn.BatchNorm1d(7)]
    before = [layer.weight.detach().clone() for layer in layers]
    initial.draw(nn.Sequential(*layers), 0.0)
    kernel = layers[0].weight.detach().flatten()
    assert float(kernel.std()) == pytest.approx(math.sqrt(2 / (16 * 9)), rel=0.02)
    assert float((kernel / kernel.std()).pow(4).mean()) == pytest.approx(3, rel=0.1)  # normal
    assert not layers[0].bias.any()
    assert layers[1].bias.any()
    assert torch.equal(layers[1].weight, before[1])
    initial.draw(nn.Sequential(*layers), 0.05)
    assert float(layers[1].weight.detach().std()) == pytest.approx(0.05, rel=0.02)
    assert not layers[1].bias.any()
    assert torch.equal(layers[2].weight, before[2])
