"""Time of a training epoch: the authors' code over ours, on CIFAR-shaped images.

    python benchmarks/training.py --peer PATH    # a checkout of nsfzyzz/loss_landscape_taxonomy

Both train ResNet18 networks at batch 128 on the CPU with one thread, alternating within one
process. The authors' side is their own network and `train` with its DataLoader and transforms,
patched to run without a GPU; the test pass that it makes after each epoch is on a fifth as many
images, as on CIFAR-10. Our side trains `replicas`
in one call, and its time is divided by their number. A ratio above 1 means that ours is faster.
"""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from connectivity import (
    BATCH,
    IMAGES,
    MEAN,
    REPEATS,
    SPREAD,
    Row,
    functions_of,
    pixels,
    seconds,
    without_gpu,
)

from lossatlas.data.tensors import Split
from lossatlas.models.resnet18 import ResNet18
from lossatlas.spec.parts import Recipe
from lossatlas.training.engine import Engine

CASES = ((2, 5), (2, 1), (8, 5), (8, 1), (32, 1))  # width, replicas in one call


def peer_epoch(code: Path, width: int) -> Callable[[], object]:
    """Return a function that runs one epoch of the authors' training."""
    sys.path.insert(0, str(code))
    from models import resnet_width
    from torchvision import transforms
    from torchvision.datasets import CIFAR10

    data = CIFAR10.__new__(CIFAR10)
    data.data, data.targets = pixels()
    steps = [transforms.ToTensor(), transforms.Normalize(MEAN, SPREAD)]
    data.transform, data.target_transform = transforms.Compose(steps), None
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True)
    model = resnet_width.ResNet18(width=width)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    functions = functions_of(code / "train.py")
    helpers = functions_of(code / "utils.py")
    helpers["print"] = functions["print"] = lambda *_: None
    functions["test"] = helpers["test"]
    test = CIFAR10.__new__(CIFAR10)
    test.data, test.targets = data.data[: IMAGES // 5], data.targets[: IMAGES // 5]
    test.transform, test.target_transform = data.transform, None
    tests = torch.utils.data.DataLoader(test, batch_size=BATCH)
    train, options = functions["train"], Namespace(ignore_incomplete_batch=True, train_bs=BATCH)
    criterion = nn.CrossEntropyLoss()
    return lambda: train(options, model, loader, tests, optimiser, criterion, 0)


def our_epoch(width: int, replicas: int) -> Callable[[], object]:
    """Return a function that trains so many replicas for one more epoch."""
    images, labels = pixels()
    scaled = (torch.from_numpy(images) / 255 - torch.tensor(MEAN)) / torch.tensor(SPREAD)
    split = Split(scaled.permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))
    recipe = Recipe(epochs=1, batch_size=BATCH, learning_rate=0.05)
    engine = Engine(lambda: ResNet18(10, width=width), recipe, list(range(replicas)), split)

    def epoch() -> None:
        engine.run.epoch = 0
        engine.train()

    return epoch


def run(peer: Path | None) -> list[Row]:
    """Return (name, median ratio, lowest, highest) of each case; nothing without the peer.

    Args:
        peer: A checkout of the authors' repository.
    """
    if peer is None:
        return []
    torch.set_num_threads(1)
    rows = []
    with without_gpu():
        move, torch.Tensor.to = torch.Tensor.to, _stay(torch.Tensor.to)
        try:
            for width, replicas in CASES:
                theirs = peer_epoch(peer / "workspace/src/code", width)
                ours = our_epoch(width, replicas)
                theirs(), ours()
                ratios = [replicas * seconds(theirs) / seconds(ours) for _ in range(REPEATS)]
                name = f"training epoch, width {width}, {replicas} together"
                rows.append((name, float(np.median(ratios)), min(ratios), max(ratios)))
        finally:
            torch.Tensor.to = move
    return rows


def _stay(move: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Make `.to("cuda")` return the tensor itself."""
    return lambda self, *given, **named: self if given == ("cuda",) else move(self, *given, **named)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Training against the authors' code")
    parser.add_argument("--peer", type=Path, required=True, help="checkout of the authors' code")
    for name, median, low, high in run(parser.parse_args().peer):
        print(f"{name:36} {median:5.2f}  ({low:.2f} to {high:.2f})", flush=True)
