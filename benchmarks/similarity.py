"""CKA of 5 replicas, all pairs, against the script of Yang et al. (2021).

    python benchmarks/similarity.py --peer PATH

PATH is a checkout of nsfzyzz/loss_landscape_taxonomy. Its `CKA.py` runs as it is, in a process of
its own, on the same checkpoints and the same 768 images; only `.cuda()` does nothing. Two rows:

- *script*: both read what they really read. Theirs reads a folder of CIFAR-10 as published, with
  its own loader, workers and transforms, for each of its 25 ordered pairs, and the checkpoints of
  both; ours reads the data set as the workflow converts it, once, and the same checkpoints. The
  training set is these 768 images, unblended: theirs draws its blends anew for each pair, and
  without them both see the same inputs, so that the numbers can be compared.
- *networks alone*: data and weights are in memory; the blended images are handed to both.

It makes 300 forward passes of a batch, we make 30. Processor times of both processes
and their workers, on one thread, are taken in turns (a loaded machine hardly moves them), after all
imports; only their ratios are reported, with the largest difference of the numbers. `--threads 2`
measures on two threads by the clock, for which the machine must be idle.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the peer's NumPy too; read at its import

import argparse
import contextlib
import hashlib
import io
import pickle
import runpy
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from _sides import Side
from torchvision.datasets import CIFAR10

from lossatlas import store
from lossatlas.custom import measure_custom
from lossatlas.data.arrays import to_record
from lossatlas.data.convert import CONSTANTS
from lossatlas.data.tensors import Split, TensorData
from lossatlas.metrics.cka import Cka
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.similarity.measure_cka import blended_images, measure
from lossatlas.training.networks import Networks

Row = tuple[str, float, float, float]

WIDTHS, REPLICAS, ROUNDS = (2, 8), 5, 3
SETTINGS = Cka(mode="paper", samples=768, batch_size=128)
CODE = Path("workspace/src/code")


def run(peer: Path | None, threads: int = 1) -> list[Row]:
    """Return (name, median ratio, lowest, highest); nothing without a peer to compare with.

    Args:
        peer: Its checkout.
        threads: Of both sides.

    Raises:
        AssertionError: If the two disagree by more than 1e-4.
    """
    if peer is None:
        return []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [row(peer, width) for row in (_script, _networks) for width in WIDTHS]
    finally:
        torch.set_num_threads(before)


def _script(peer: Path, width: int) -> Row:
    settings = SETTINGS.model_copy(update={"mixup_alpha": 0.0})
    with _peer_modules(peer / CODE) as code, tempfile.TemporaryDirectory() as folder:
        _cell(folder, width)
        data = _cifar(Path(folder))
        files = [f"{folder}/net_exp_{seed}.pkl" for seed in range(REPLICAS)]

        def ours() -> Any:
            model = "models.resnet_width:ResNet18"
            return measure_custom(settings, files, model, {"width": width}, data)

        here = Path.cwd()
        os.chdir(Path(folder) / "workspace/src")  # their script looks for ../../data
        try:
            return _compare(f"width {width}, script", ours, lambda: _their_cka(code, folder, width))
        finally:
            os.chdir(here)


def _networks(peer: Path, width: int) -> Row:
    with _peer_modules(peer / CODE) as code, tempfile.TemporaryDirectory() as folder:
        networks = _cell(folder, width)
        _, images, _ = blended_images(networks.data.train.images, SETTINGS)
        sys.modules["data"] = _loader(images.split(SETTINGS.batch_size))
        ours, theirs = lambda: measure(networks, SETTINGS), lambda: _their_cka(code, folder, width)
        return _compare(f"width {width}, networks alone", ours, theirs)


def _compare(what: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> Row:
    ratios, worst = [], 0.0
    with Side(ours, ours=True) as mine, Side(theirs, ours=False) as other:
        mine.run()  # warms up
        for _ in range(ROUNDS):
            first, record = mine.run()
            slow, matrix = other.run()
            again, _ = mine.run()
            ratios.append(slow / ((first + again) / 2))
            worst = max(worst, _difference(record, matrix))
    assert worst < 1e-4, f"CKA differs by {worst:.2e}"
    name = f"CKA of {REPLICAS} replicas, {what} (largest difference {worst:.0e})"
    return name, statistics.median(ratios), min(ratios), max(ratios)


def _cifar(folder: Path) -> str:
    """Write random images as CIFAR-10 is published, for the peer; return our file of them."""
    random = np.random.default_rng(0)
    count = SETTINGS.samples
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count) % 10
    home = folder / "data" / CIFAR10.base_folder
    home.mkdir(parents=True)
    (folder / "workspace/src").mkdir(parents=True)
    flat = images.transpose(0, 3, 1, 2).reshape(count, -1)
    parts = np.array_split(np.arange(count), 5)
    files = {f"data_batch_{n}": part for n, part in enumerate(parts, 1)} | {"test_batch": parts[0]}
    contents: dict[str, Any] = {
        name: {"data": flat[part], "labels": labels[part].tolist()} for name, part in files.items()
    }
    contents["batches.meta"] = {"label_names": [str(label) for label in range(10)]}
    sums = {}
    for name, content in contents.items():
        written = pickle.dumps(content)
        (home / name).write_bytes(written)
        sums[name] = hashlib.md5(written, usedforsecurity=False).hexdigest()
    CIFAR10.train_list = [[name, sums[name]] for name in files if name != "test_batch"]
    CIFAR10.test_list = [["test_batch", sums["test_batch"]]]
    CIFAR10.meta = CIFAR10.meta | {"md5": sums["batches.meta"]}
    arrays = {"train_images": images, "train_labels": labels}
    arrays |= {"test_images": images[parts[0]], "test_labels": labels[parts[0]]}
    mean, spread = CONSTANTS["cifar10"]
    ours = folder / "cifar10.h5"
    store.write(ours, to_record("cifar10", arrays, mean=mean, std=spread))
    return str(ours)


def _cell(folder: str, width: int) -> Networks:
    """Return replicas of the peer's own network, whose weights also lie in `folder` for it."""
    from models.resnet_width import ResNet18

    images = torch.randn(2048, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.zeros(len(images), dtype=torch.int64))
    states = []
    for seed in range(REPLICAS):
        torch.manual_seed(seed)
        network = ResNet18(width=width)
        for batch in images[:512].split(128):
            network(batch)  # BatchNorm statistics
        with torch.no_grad():
            network.linear.weight *= 8.0  # predictions as sharp as those of a trained network
        torch.save(network.state_dict(), Path(folder) / f"net_exp_{seed}.pkl")
        states.append(state_of(network))
    return Networks(
        Functional(network),
        stack([params for params, _ in states]),
        stack([buffers for _, buffers in states]),
        list(range(REPLICAS)),
        TensorData("noise", split, split, classes=10),
    )


def _loader(batches: Sequence[torch.Tensor]) -> ModuleType:
    """Return a module `data` whose loaders hand out these batches."""
    labelled = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in batches]
    module = ModuleType("data")
    module.get_loader = lambda _args: (labelled, labelled)  # type: ignore[attr-defined]
    return module


@contextlib.contextmanager
def _peer_modules(code: Path) -> Iterator[Path]:
    """Make the peer's modules importable on a machine without a GPU, and forget them afterwards."""

    def stay(self: Any, *_args: Any, **_kwargs: Any) -> Any:
        return self

    known, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(code))
    try:
        with mock.patch("torch.Tensor.cuda", stay), mock.patch("torch.nn.Module.cuda", stay):
            yield code
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - known:
            if str(code) in str(getattr(sys.modules[name], "__file__", "")) or name == "data":
                del sys.modules[name]


def _their_cka(code: Path, folder: str, width: int) -> dict[int, dict[int, Any]]:
    """Run the peer's script; return i -> j -> (CKA of logits, of softmax)."""
    result = Path(folder) / "cka.pkl"
    arguments = ["CKA.py", "--checkpoint-folder", folder, "--result-location", str(result)]
    arguments += ["--not-input", "--resnet18-width", str(width)]
    arguments += ["--data-subset", "--subset", "1.0"]  # as its experiment calls it
    silent = contextlib.redirect_stdout(io.StringIO())
    with mock.patch.object(sys, "argv", arguments), silent:
        runpy.run_path(str(code / "CKA.py"))
    return pickle.loads(result.read_bytes())["representation_similarity"]  # written just now


def _difference(record: Any, matrix: dict[int, dict[int, Any]]) -> float:
    places = {"cka_biased.output": 0, "cka_biased": 1}
    return max(
        abs(row.value - float(matrix[i][j][places[row.name]]))
        for row in record.scalars
        if row.name in places
        for i, j in ((row.replica, row.partner), (row.partner, row.replica))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="checkout of nsfzyzz/loss_landscape_taxonomy")
    parser.add_argument(
        "--threads", type=int, default=1, help="of both sides; above 1 by the clock"
    )
    given = parser.parse_args()
    for name, median, low, high in run(given.peer, given.threads):
        print(f"{name}: {median:.1f}x ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
