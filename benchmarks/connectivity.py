"""Time of an epoch of curve training: the authors' code over ours, on CIFAR-shaped images.

    python benchmarks/connectivity.py --peer PATH    # a checkout of nsfzyzz/loss_landscape_taxonomy

Both train a Bezier curve with one bend between ResNet18 networks at batch 128, on the CPU, with the
same number of threads, alternating within one process. The authors' side is their own `train`, twin
layers, and DataLoader with its transforms, patched to run without a GPU; its test pass after each
epoch is left out. Our side trains `curves` curves in one call, and its time is divided by their
number, since a cell has several pairs. A ratio above 1 means that ours is faster.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from lossatlas.connectivity import fit_curves
from lossatlas.data.tensors import Split
from lossatlas.models.functional import Functional, state_of
from lossatlas.models.resnet18 import ResNet18
from lossatlas.spec.metrics import Connectivity

IMAGES, BATCH, REPEATS = 640, 128, 3
CASES = ((2, 4), (2, 1), (8, 1), (32, 1))  # width, curves in one call
MEAN, SPREAD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

Row = tuple[str, float, float, float]


@contextlib.contextmanager
def without_gpu() -> Iterator[None]:
    """Make `.cuda()` return the tensor or module itself."""
    kept = [(kind, kind.cuda) for kind in (torch.Tensor, nn.Module)]
    try:
        for kind, _ in kept:
            kind.cuda = lambda self, *_args, **_kwargs: self
        yield
    finally:
        for kind, original in kept:
            kind.cuda = original


def pixels() -> tuple[np.ndarray, list[int]]:
    """Return random images (N, 32, 32, 3), uint8, and labels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    return images, random.integers(0, 10, IMAGES).tolist()


def peer_epoch(code: Path, width: int) -> Callable[[], object]:
    """Return a function that runs one epoch of the authors' training."""
    sys.path.insert(0, str(code))
    import curves
    from models.resnet_width_curves import ResNet18Curve
    from torchvision import transforms
    from torchvision.datasets import CIFAR10

    data = CIFAR10.__new__(CIFAR10)
    data.data, data.targets = pixels()
    steps = [transforms.ToTensor(), transforms.Normalize(MEAN, SPREAD)]
    data.transform, data.target_transform = transforms.Compose(steps), None
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True)
    arguments = {"architecture_kwargs": {"width": width}}
    model = curves.CurveNet(10, curves.Bezier, ResNet18Curve, 3, **arguments)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.01, momentum=0.9)
    train = functions_of(code / "Mode_connectivity.py")["train"]
    regulariser = curves.l2_regularizer(5e-4)
    return lambda: train(loader, model, optimiser, F.cross_entropy, regulariser)


def functions_of(path: Path) -> dict[str, Any]:
    """Return the functions of a script, without running the script."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    module = ModuleType(path.stem)
    vars(module).update(np=np, torch=torch, F=F)
    exec(compile(tree, str(path), "exec"), vars(module))
    return vars(module)


def our_epoch(width: int, curves: int) -> Callable[[], object]:
    """Return a function that trains so many curves for one epoch."""
    images, labels = pixels()
    scaled = (torch.from_numpy(images) / 255 - torch.tensor(MEAN)) / torch.tensor(SPREAD)
    split = Split(scaled.permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))
    networks = [state_of(ResNet18(10, width=width)) for _ in range(curves + 1)]
    pairs = [(networks[i], networks[i + 1]) for i in range(curves)]
    words = [("curve", i) for i in range(curves)]
    functional = Functional(ResNet18(10, width=width))
    settings = Connectivity(epochs=1, batch_size=BATCH)
    return lambda: fit_curves(functional, pairs, split, settings, words)


def seconds(work: Callable[[], object]) -> float:
    """Return processor time where one thread works, which a loaded machine spoils less."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    work()
    return clock() - started


def run(peer: Path | None) -> list[Row]:
    """Return (name, median ratio, lowest, highest) of each case; nothing without the peer.

    Args:
        peer: A checkout of the authors' repository.
    """
    if peer is None:
        return []
    rows = []
    with without_gpu():
        for width, curves in CASES:
            theirs, ours = peer_epoch(peer / "workspace/src/code", width), our_epoch(width, curves)
            theirs(), ours()
            ratios = [curves * seconds(theirs) / seconds(ours) for _ in range(REPEATS)]
            name = (
                f"curve epoch, width {width}, {curves} together"
                if curves > 1
                else (f"curve epoch, width {width}")
            )
            rows.append((name, float(np.median(ratios)), min(ratios), max(ratios)))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Curve training against the authors' code")
    parser.add_argument("--peer", type=Path, required=True, help="checkout of the authors' code")
    parser.add_argument("--threads", type=int, default=1, help="of both sides")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name, median, low, high in run(arguments.peer):
        print(f"{name:32} {median:5.2f}  ({low:.2f} to {high:.2f})", flush=True)
