"""Time of an epoch of curve training: the authors' code over ours, on CIFAR-shaped images.

    python benchmarks/connectivity.py --peer PATH    # a checkout of nsfzyzz/loss_landscape_taxonomy

Both train a Bezier curve with one bend between ResNet18 networks at batch 128, on the CPU, with the
same number of threads, taking turns, each in a process of its own. The authors' side is their own
`train` and twin layers, patched to run without a GPU. "script" is an epoch as their script makes
it, with its DataLoader, transforms, and the test pass that follows, on a fifth as many images, as
on CIFAR-10; "steps alone" hands them batches in memory and leaves the test out. Our side, which has
neither, is the same in both. It trains `curves` curves in one call, and its time is divided by
their number, since a cell has several pairs. A ratio above 1 means that ours is faster.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _sides import Side

from lossatlas.connectivity import fit_curves
from lossatlas.data.tensors import Split
from lossatlas.metrics.connectivity import Connectivity
from lossatlas.models.functional import Functional, state_of
from lossatlas.models.resnet18 import ResNet18

IMAGES, BATCH, REPEATS = 640, 128, 3
CASES = ((2, 4), (2, 1), (8, 1), (32, 1))  # width, curves in one call
KINDS = ("script", "steps alone")
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


def loaders(*, script: bool) -> tuple[Any, Any]:
    """Return the authors' loaders of training and test images, or lists of their batches."""
    from torchvision import transforms
    from torchvision.datasets import CIFAR10

    steps = [transforms.ToTensor(), transforms.Normalize(MEAN, SPREAD)]
    images, labels = pixels()
    made = []
    for count, shuffle in ((IMAGES, True), (IMAGES // 5, False)):
        data = CIFAR10.__new__(CIFAR10)
        data.data, data.targets = images[:count], labels[:count]
        data.transform, data.target_transform = transforms.Compose(steps), None
        made.append(torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=shuffle))
    return (made[0], made[1]) if script else (_Batches(made[0]), [])


class _Batches(list[Any]):
    """Batches in memory, with the attribute that the authors ask of a loader."""

    def __init__(self, loader: Any) -> None:
        super().__init__(loader)
        self.dataset = loader.dataset


def peer_epoch(code: Path, width: int, *, script: bool) -> Callable[[], object]:
    """Return a function that runs one epoch of the authors' curve training."""
    sys.path.insert(0, str(code))
    import curves
    from models.resnet_width_curves import ResNet18Curve

    batches, tests = loaders(script=script)
    arguments = {"architecture_kwargs": {"width": width}}
    model = curves.CurveNet(10, curves.Bezier, ResNet18Curve, 3, **arguments)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.01, momentum=0.9)
    train = functions_of(code / "Mode_connectivity.py")["train"]
    test = functions_of(code / "utils.py")["test_acc_loss"]
    regulariser = curves.l2_regularizer(5e-4)

    def epoch() -> None:
        train(batches, model, optimiser, F.cross_entropy, regulariser)
        if script:
            test(tests, model, F.cross_entropy, regulariser)

    return epoch


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
            code = peer / "workspace/src/code"
            theirs = {k: peer_epoch(code, width, script=k == "script") for k in KINDS}
            name = f"curve epoch, width {width}" + (f", {curves} together" if curves > 1 else "")
            rows += compare(name, theirs, our_epoch(width, curves), curves)
    return rows


def compare(
    name: str, theirs: dict[str, Callable[[], object]], ours: Callable[[], object], count: int
) -> list[Row]:
    """Return rows of their time over a share of ours, taken in turns; all run once before."""

    def alone(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            work()  # what it returns need not leave its process

        return run

    ratios: dict[str, list[float]] = {kind: [] for kind in theirs}
    with contextlib.ExitStack() as stack:
        mine = stack.enter_context(Side(alone(ours), ours=True))
        sides = {k: stack.enter_context(Side(alone(w), ours=False)) for k, w in theirs.items()}
        for side in (mine, *sides.values()):
            side.run()
        for _ in range(REPEATS):
            one = mine.run()[0] / count
            for kind, side in sides.items():
                ratios[kind].append(side.run()[0] / one)
    return [
        (f"{name}, {kind}", float(np.median(found)), min(found), max(found))
        for kind, found in ratios.items()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Curve training against the authors' code")
    parser.add_argument("--peer", type=Path, required=True, help="checkout of the authors' code")
    parser.add_argument("--threads", type=int, default=1, help="of both sides")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name, median, low, high in run(arguments.peer):
        print(f"{name:48} {median:5.2f}  ({low:.2f} to {high:.2f})", flush=True)
