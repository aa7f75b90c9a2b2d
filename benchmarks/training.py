"""Time of a training epoch: the authors' code over ours, on CIFAR-shaped images.

    python benchmarks/training.py --peer PATH    # a checkout of nsfzyzz/loss_landscape_taxonomy

Both train ResNet18 networks at batch 128 on the CPU with one thread, taking turns, each in a
process of its own. The authors' side is their own network and `train`, patched to run without a
GPU. "script" is an epoch as their script makes it, with its DataLoader, transforms, and the test
pass that follows, on a fifth as many images, as on CIFAR-10; "steps alone" hands them batches in
memory and no test images. Our side, which has neither, is the same in both. It trains `replicas` in
one call, and its time is divided by their number. A ratio above 1 means that ours is faster.
"""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from connectivity import (
    BATCH,
    KINDS,
    MEAN,
    SPREAD,
    Row,
    compare,
    functions_of,
    loaders,
    pixels,
    without_gpu,
)

from lossatlas.data.tensors import Split
from lossatlas.models.resnet18 import ResNet18
from lossatlas.spec.parts import Recipe
from lossatlas.training.engine import Engine

CASES = ((2, 5), (2, 1), (8, 5), (8, 1), (32, 1))  # width, replicas in one call


def peer_epoch(code: Path, width: int, *, script: bool) -> Callable[[], object]:
    """Return a function that runs one epoch of the authors' training."""
    sys.path.insert(0, str(code))
    from models import resnet_width

    batches, tests = loaders(script=script)
    model = resnet_width.ResNet18(width=width)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    functions = functions_of(code / "train.py")
    helpers = functions_of(code / "utils.py")
    helpers["print"] = functions["print"] = lambda *_: None
    functions["test"] = helpers["test"] if script else lambda *_: 0.0
    train, options = functions["train"], Namespace(ignore_incomplete_batch=True, train_bs=BATCH)
    criterion = nn.CrossEntropyLoss()
    return lambda: train(options, model, batches, tests, optimiser, criterion, 0)


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
                code = peer / "workspace/src/code"
                theirs = {k: peer_epoch(code, width, script=k == "script") for k in KINDS}
                name = f"training epoch, width {width}, {replicas} together"
                rows += compare(name, theirs, our_epoch(width, replicas), replicas)
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
        print(f"{name:48} {median:5.2f}  ({low:.2f} to {high:.2f})", flush=True)
