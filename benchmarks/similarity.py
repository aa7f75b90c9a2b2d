"""CKA of 5 replicas, all pairs, against the script of Yang et al. (2021).

    python benchmarks/similarity.py --peer PATH

PATH is a checkout of nsfzyzz/loss_landscape_taxonomy. Its `CKA.py` runs as it is, in this process,
on the same weights and the same blended images; only `.cuda()` does nothing and the data loader
hands out our batches, so that its time holds neither file reading nor image decoding. It compares
all 25 ordered pairs with 300 forward passes of a batch; we compare the 10 unordered ones with 30.
Processor times on one thread are taken in turns (a loaded machine hardly moves them), and only
their ratios are reported, with the largest difference of the numbers.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the peer's NumPy too; read at its import

import argparse
import contextlib
import io
import pickle
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from lossatlas.data.tensors import Split, TensorData
from lossatlas.models.functional import Functional, stack, state_of
from lossatlas.similarity.measure_cka import blended_images, measure
from lossatlas.spec.metrics import Cka
from lossatlas.training.networks import Networks

Row = tuple[str, float, float, float]

WIDTH, REPLICAS, ROUNDS = 8, 5, 3
SETTINGS = Cka(mode="paper", samples=768, batch_size=128)
CODE = Path("workspace/src/code")


def run(peer: Path | None) -> list[Row]:
    """Return (name, median ratio, lowest, highest); nothing without a peer to compare with.

    Raises:
        AssertionError: If the two disagree by more than 1e-4.
    """
    if peer is None:
        return []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_cka(peer)]
    finally:
        torch.set_num_threads(threads)


def _cka(peer: Path) -> Row:
    with _peer_modules(peer / CODE) as code, tempfile.TemporaryDirectory() as folder:
        networks = _cell(folder)
        _, images, _ = blended_images(networks.data.train.images, SETTINGS)
        sys.modules["data"] = _loader(images.split(SETTINGS.batch_size))
        measure(networks, SETTINGS)  # warms up
        ratios, worst = [], 0.0
        for _ in range(ROUNDS):
            ours, record = _timed(lambda: measure(networks, SETTINGS))
            theirs, matrix = _timed(lambda: _their_cka(code, folder))
            again, _ = _timed(lambda: measure(networks, SETTINGS))
            ratios.append(theirs / ((ours + again) / 2))
            worst = max(worst, _difference(record, matrix))
    assert worst < 1e-4, f"CKA differs by {worst:.2e}"
    name = f"CKA of {REPLICAS} replicas (largest difference {worst:.0e})"
    return name, statistics.median(ratios), min(ratios), max(ratios)


def _timed(work: Any) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def _cell(folder: str) -> Networks:
    """Return replicas of the peer's own network, whose weights also lie in `folder` for it."""
    from models.resnet_width import ResNet18

    images = torch.randn(2048, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.zeros(len(images), dtype=torch.int64))
    states = []
    for seed in range(REPLICAS):
        torch.manual_seed(seed)
        network = ResNet18(width=WIDTH)
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


def _their_cka(code: Path, folder: str) -> dict[int, dict[int, Any]]:
    """Run the peer's script; return i -> j -> (CKA of logits, of softmax)."""
    result = Path(folder) / "cka.pkl"
    arguments = ["CKA.py", "--checkpoint-folder", folder, "--result-location", str(result)]
    arguments += ["--not-input", "--resnet18-width", str(WIDTH)]
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
    for name, median, low, high in run(parser.parse_args().peer):
        print(f"{name}: {median:.1f}x ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
