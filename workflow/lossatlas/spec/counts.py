"""Parameters and multiply-adds per image of the built-in networks, from their arguments alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from lossatlas.spec.depths import BOTTLENECKS_FROM, DENSE_STAGES, IMAGENET_STAGES

Counts = tuple[int, int]

VGG_STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))


def _sum(parts: list[Counts]) -> Counts:
    return sum(p for p, _ in parts), sum(m for _, m in parts)


def _conv(inputs: int, outputs: int, kernel: int, size: int, bias: bool = True) -> Counts:
    """Return the counts of a convolution with an output of size x size."""
    weights = inputs * outputs * kernel**2
    return weights + outputs * bias, weights * size**2


def _linear(inputs: int, outputs: int, rows: int = 1) -> Counts:
    return inputs * outputs + outputs, inputs * outputs * rows


def vgg16(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count VGG16 without BatchNorm."""
    k, parts = arguments["width"], []
    for stage in VGG_STAGES:
        for multiple in stage:
            parts.append(_conv(channels, multiple * k, 3, size))
            channels = multiple * k
        size = max(size // 2, 1)
    parts += [_linear(channels * size**2, 8 * k), _linear(8 * k, 8 * k), _linear(8 * k, classes)]
    return _sum(parts)


def vgg16_bn(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count VGG16 with BatchNorm."""
    parameters, work = vgg16(arguments, classes, channels, size)
    return parameters + 2 * sum(map(sum, VGG_STAGES)) * arguments["width"], work


def preresnet(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count PreResNet."""
    k, depth = arguments["width"], arguments["depth"]
    bottleneck = depth >= 44
    parts = [_conv(channels, k, 3, size, bias=False)]
    channels = k
    for stage in range(3):
        for index in range((depth - 2) // (9 if bottleneck else 6)):
            stride = 2 if stage and not index else 1
            planes, small = k << stage, -(-size // stride)
            out = 4 * planes if bottleneck else planes
            if bottleneck:
                parts.append(_conv(channels, planes, 1, size, bias=False))
                parts.append(_conv(planes, planes, 3, small, bias=False))
                parts.append(_conv(planes, out, 1, small, bias=False))
                norms = 2 * (channels + 2 * planes)
            else:
                parts.append(_conv(channels, planes, 3, small, bias=False))
                parts.append(_conv(planes, planes, 3, small, bias=False))
                norms = 2 * (channels + planes)
            if stride != 1 or channels != out:
                parts.append(_conv(channels, out, 1, small, bias=False))
            parts.append((norms, 0))
            channels, size = out, small
    return _sum([*parts, (2 * channels, 0), _linear(channels, classes)])


def convnet(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count ConvNet."""
    k = arguments["width"]
    sizes = (size, size // 2, size // 4)
    inputs = (channels, k, 2 * k)
    parts = [_conv(i, o, 3, s) for i, o, s in zip(inputs, (k, 2 * k, 4 * k), sizes, strict=True)]
    return _sum([*parts, _linear(4 * k, classes)])


def vit(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count ViT."""
    d, patch = arguments["width"] * arguments["heads"], arguments["patch"]
    side = size // patch
    tokens = side**2
    layer = [_linear(d, 3 * d, tokens), _linear(d, d, tokens), (4 * d, 2 * tokens**2 * d)]
    layer += [_linear(d, 4 * d, tokens), _linear(4 * d, d, tokens)]
    around = [_conv(channels, d, patch, side), (tokens * d + 2 * d, 0), _linear(d, classes)]
    return _sum([*around, *layer * arguments["depth"]])


def resnet_cifar(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count ResNetCifar."""
    k, norm = 16 * arguments["width"], arguments["norm"]
    parts = [_conv(channels, k, 3, size, bias=False), (2 * k * (norm != "none"), 0)]
    channels = k
    for stage in range(3):
        planes = k << stage
        for index in range((arguments["depth"] - 2) // 6):
            stride = 2 if stage and not index else 1
            size = -(-size // stride)
            parts.append(_conv(channels, planes, 3, size, bias=False))
            parts.append(_conv(planes, planes, 3, size, bias=False))
            parts.append((4 * planes * (norm == "full"), 0))
            if arguments["shortcut"] and (stride != 1 or channels != planes):
                parts.append(_conv(channels, planes, 1, size, bias=False))
                parts.append((2 * planes * (norm != "none"), 0))
            channels = planes
    return _sum([*parts, _linear(channels, classes)])


def fully_connected(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count FullyConnected."""
    width = arguments["width"]
    inner = width * width * (arguments["depth"] - 2)
    weights = channels * size**2 * width + inner + width * classes
    return weights, weights


def vgg9(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count VGG9."""
    k, parts = arguments["width"], []
    for stage in ((1, 1), (2, 2), (4, 4, 4)):
        for multiple in stage:
            parts += [_conv(channels, multiple * k, 3, size), (2 * multiple * k, 0)]
            channels = multiple * k
        size //= 2
    parts += [_linear(channels * size**2, 4 * k), (8 * k, 0), _linear(4 * k, classes)]
    return _sum(parts)


def alexnet(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count AlexNet."""
    k, size = arguments["width"], size // 2 + 1
    parts = [_conv(channels, k, 4, size)]
    for kernels in ((5,), (3, 3, 3)):
        size = (size - 3) // 2 + 1
        parts += [_conv(k, k, kernel, size) for kernel in kernels]
    features = k * ((size - 3) // 2 + 1) ** 2
    hidden = features * features.bit_length()
    parts += [_linear(features, hidden), _linear(hidden, hidden), _linear(hidden, classes)]
    return _sum(parts)


def mnist_net(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count MnistNet."""
    k, half = arguments["width"], (size - 4) // 2
    parts = [_conv(channels, 2 * k, 5, size - 4), _conv(2 * k, 5 * k, 5, half - 4)]
    features = 5 * k * ((half - 4) // 2) ** 2
    return _sum([*parts, _linear(features, 50 * k), _linear(50 * k, classes)])


def resnet_mnist(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count ResNetMnist."""
    k, parts = arguments["width"], []
    sizes = (channels, k, 2 * k, 4 * k, 2 * k)
    for inputs, outputs in pairwise(sizes):
        parts += [_conv(inputs, outputs, 3, size), (2 * outputs, 0)]
    return _sum([*parts, _conv(2 * k, classes, 3, -(-size // 2)), (2 * classes, 0)])


def densenet(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count DenseNet."""
    k = arguments["width"]
    parts, channels = [_conv(channels, 2 * k, 3, size, bias=False)], 2 * k
    for stage, layers in enumerate(DENSE_STAGES[arguments["depth"]]):
        if stage:
            parts += [(2 * channels, 0), _conv(channels, channels // 2, 1, size, bias=False)]
            channels, size = channels // 2, size // 2
        for _ in range(layers):
            parts += [(2 * channels, 0), _conv(channels, 4 * k, 1, size, bias=False)]
            parts += [(8 * k, 0), _conv(4 * k, k, 3, size, bias=False)]
            channels += k
    return _sum([*parts, (2 * channels, 0), _linear(channels, classes)])


def resnet_imagenet(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count ResNetImagenet."""
    k, depth = arguments["width"], arguments["depth"]
    parts, channels = [_conv(channels, k, 3, size, bias=False), (2 * k, 0)], k
    for stage, blocks in enumerate(IMAGENET_STAGES[depth]):
        planes = k << stage
        out = 4 * planes if depth >= BOTTLENECKS_FROM else planes
        for index in range(blocks):
            stride = 2 if stage and not index else 1
            small = -(-size // stride)
            if depth >= BOTTLENECKS_FROM:
                parts.append(_conv(channels, planes, 1, size, bias=False))
                parts.append(_conv(planes, planes, 3, small, bias=False))
                parts.append(_conv(planes, out, 1, small, bias=False))
                parts.append((4 * planes + 2 * out, 0))
            else:
                parts.append(_conv(channels, planes, 3, small, bias=False))
                parts.append(_conv(planes, planes, 3, small, bias=False))
                parts.append((4 * planes, 0))
            if arguments["shortcut"] and (stride != 1 or channels != out):
                parts += [_conv(channels, out, 1, small, bias=False), (2 * out, 0)]
            channels, size = out, small
    return _sum([*parts, _linear(channels, classes)])


def vit_token(arguments: Mapping[str, Any], classes: int, channels: int, size: int) -> Counts:
    """Count ViTToken."""
    d, patch = arguments["width"] * arguments["heads"], arguments["patch"]
    patches = (size // patch) ** 2
    tokens = patches + 1
    layer = [(3 * d * d, 3 * d * d * tokens), (4 * d, 2 * tokens**2 * d)]
    layer += [_linear(d, d, tokens)] * 3
    around = [_linear(channels * patch**2, d, patches), (d + tokens * d + 2 * d, 0)]
    return _sum([*around, _linear(d, classes), *layer * arguments["depth"]])
