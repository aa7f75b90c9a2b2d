"""Hessian measures against the PyHessian of Yang et al. (2021), and against curvlinops.

    python benchmarks/curvature.py --peer PATH

PATH is a checkout of nsfzyzz/loss_landscape_taxonomy; its `pyhessian` runs as it is, on the CPU.
Every ratio is theirs / ours, so above 1 we are better. Errors are medians over random starts on
small trained networks, against the dense Hessian in float64; the spread is that over networks.
PyHessian stops by its own rules and we get as many products as it took; as in the metric, the
trace goes on from the basis that the eigenvalue left. Times are CPU times of one product on 200
CIFAR-shaped images with ResNet18, on one thread, taken in turns; the spread is that over turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call

from lossatlas.curvature import HessianOperator, Lanczos, hessian_of, trace
from lossatlas.curvature.lanczos import gaussian, run_lanczos
from lossatlas.models.mlp import MLP
from lossatlas.models.resnet18 import ResNet18

Row = tuple[str, float, float, float]

CODE = Path("workspace/src/code")
NETWORKS, STARTS = 3, 25
WIDTHS, TURNS, SAMPLES = (2, 8, 32), 5, 200
BUDGET = 42  # products: even for XTrace, a multiple of 3 for Hutch++


def run(peer: Path | None) -> list[Row]:
    """Return (name, median ratio, lowest, highest); against curvlinops alone without a peer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        networks = [_trained(seed) for seed in range(NETWORKS)]
        rows = _against_curvlinops(networks)
        if peer is not None:
            with _pyhessian(peer / CODE) as (hessian, module):
                rows += _errors_against_pyhessian(hessian, module, networks)
                rows += _times(partial(_their_product, hessian, module), "PyHessian")
        return rows + _times(_curvlinops_product, "curvlinops")
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _pyhessian(code: Path) -> Iterator[tuple[Any, Any]]:
    """Import the peer's `pyhessian`: its class, and its module where products are called."""
    sys.path.insert(0, str(code))
    try:
        from pyhessian import hessian

        module = sys.modules["pyhessian.hessian"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # backward with create_graph warns of its leak
            yield hessian, module
    finally:
        sys.path.remove(str(code))
        for name in [name for name in sys.modules if name.split(".")[0] == "pyhessian"]:
            del sys.modules[name]


class Trained:
    """A small trained network, images, and the exact eigenvalues of its Hessian."""

    def __init__(self, module: nn.Module, images: Tensor, labels: Tensor) -> None:
        self.module, self.images, self.labels = module.eval(), images, labels
        values = torch.linalg.eigvalsh(_dense(module, images, labels))
        self.top, self.trace = values[values.abs().argmax()].item(), values.sum().item()

    def operator(self) -> HessianOperator:
        return hessian_of(self.module, self.images, self.labels)

    def errors(self, top: float, *traces: float) -> tuple[float, ...]:
        """Return the relative errors of an eigenvalue and of traces."""
        return abs(top / self.top - 1), *(abs(value / self.trace - 1) for value in traces)


def _dense(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the Hessian in float64 by autodiff of all of it: no code of ours."""
    weights = {name: p.detach().double() for name, p in module.named_parameters()}
    sizes = [p.numel() for p in weights.values()]

    def loss(vector: Tensor) -> Tensor:
        parts = zip(weights.items(), vector.split(sizes), strict=True)
        moved = {name: part.reshape(p.shape) for (name, p), part in parts}
        return F.cross_entropy(functional_call(module, moved, (images.double(),)), labels)

    start = torch.cat([p.reshape(-1) for p in weights.values()])
    return torch.autograd.functional.hessian(loss, start)


def _trained(seed: int) -> Trained:
    """An MLP of 870 parameters after 5, 20 or 60 passes through 1,500 handwritten digits."""
    digits = load_digits()
    images = torch.tensor(digits.images[:1500, None] / 16 - 0.3, dtype=torch.float32)
    labels = torch.tensor(digits.target[:1500])
    torch.manual_seed(seed)
    module = MLP(num_classes=10, in_channels=1, image_size=8, width=10, depth=2)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range((5, 20, 60)[seed % 3]):
        for batch in torch.randperm(1500).split(64):
            optimiser.zero_grad()
            F.cross_entropy(module(images[batch]), labels[batch]).backward()
            optimiser.step()
    optimiser.zero_grad()
    picked = torch.randperm(1500)[:SAMPLES]
    return Trained(module, images[picked], labels[picked])


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _errors_against_pyhessian(hessian: Any, module: Any, networks: list[Trained]) -> list[Row]:
    names = ("top eigenvalue", "trace, after the eigenvalue", "trace, alone")
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for network in networks:
        theirs, ours = [], []
        for start in range(STARTS):
            torch.manual_seed(start)
            with _counted(module) as count:
                peer = _peer_on(hessian, network.module, network.images, network.labels)
                values, _ = peer.eigenvalues()
                first = count[0]
                total = statistics.fmean(peer.trace())
            theirs.append(network.errors(values[0], total, total))
            ours.append(network.errors(*_ours(network, first, count[0] - first, start)))
        for place, name in enumerate(names):
            their, our = (statistics.median(e[place] for e in all_) for all_ in (theirs, ours))
            ratios[name].append(their / our)
    return [
        _row(f"error, {name}, PyHessian / ours, equal products", found)
        for name, found in ratios.items()
    ]


def _ours(network: Trained, first: int, second: int, start: int) -> tuple[float, float, float]:
    """Return the eigenvalue, the trace that goes on from its basis, and the trace by itself."""
    operator, random, second = network.operator(), _random(start), max(second, 3)
    basis = Lanczos(operator, gaussian(operator, random), first + second // 2, random)
    top = run_lanczos(basis, 1, first, 1e-6)
    total = trace(operator, second, generator=random, lanczos=basis)
    assert operator.products <= first + second
    alone = trace(network.operator(), second, generator=random)
    assert alone.products == second
    return top.values[0].item(), total.value, alone.value


@contextmanager
def _counted(module: Any) -> Iterator[list[int]]:
    original, count = module.hessian_vector_product, [0]

    def counting(*args: Any) -> Any:
        count[0] += 1
        return original(*args)

    module.hessian_vector_product = counting
    try:
        yield count
    finally:
        module.hessian_vector_product = original


def _peer_on(hessian: Any, module: nn.Module, images: Tensor, labels: Tensor) -> Any:
    module.zero_grad()
    return hessian(module, nn.CrossEntropyLoss(), data=(images, labels), cuda=False)


def _against_curvlinops(networks: list[Trained]) -> list[Row]:
    import curvlinops

    estimators = {"XTrace": curvlinops.xtrace, "Hutch++": curvlinops.hutchpp_trace}
    ratios: dict[str, list[float]] = {name: [] for name in estimators}
    for network in networks:
        peer = _curvlinops_on(network.module, network.images, network.labels)
        ours = [
            abs(trace(network.operator(), BUDGET, generator=_random(start)).value - network.trace)
            for start in range(STARTS)
        ]
        for name, estimate in estimators.items():
            theirs = []
            for start in range(STARTS):
                torch.manual_seed(start)
                theirs.append(abs(float(estimate(peer, BUDGET)) - network.trace))
            ratios[name].append(statistics.median(theirs) / statistics.median(ours))
    return [
        _row(f"error, trace, {name} of curvlinops / ours, {BUDGET} products", found)
        for name, found in ratios.items()
    ]


def _curvlinops_on(module: nn.Module, images: Tensor, labels: Tensor) -> Any:
    import curvlinops

    parameters = [p for p in module.parameters() if p.requires_grad]
    return curvlinops.HessianLinearOperator(
        module, nn.CrossEntropyLoss(), parameters, [(images, labels)], check_deterministic=False
    )


def _their_product(
    hessian: Any, module: Any, network: nn.Module, images: Tensor, labels: Tensor, vector: Tensor
) -> Callable[[], Tensor]:
    peer = _peer_on(hessian, network, images, labels)
    pieces = vector.split([p.numel() for p in peer.params])
    pieces = [v.reshape(p.shape) for v, p in zip(pieces, peer.params, strict=True)]

    def product() -> Tensor:
        parts = module.hessian_vector_product(peer.gradsH, peer.params, pieces)
        return torch.cat([part.reshape(-1) for part in parts])

    return product


def _curvlinops_product(
    network: nn.Module, images: Tensor, labels: Tensor, vector: Tensor
) -> Callable[[], Tensor]:
    peer = _curvlinops_on(network, images, labels)
    return lambda: peer @ vector


def _times(make: Callable[..., Callable[[], Tensor]], name: str) -> list[Row]:
    rows = []
    for width in WIDTHS:
        torch.manual_seed(width)
        network = ResNet18(num_classes=10, in_channels=3, width=width).eval()
        images, labels = torch.randn(SAMPLES, 3, 32, 32), torch.randint(10, (SAMPLES,))
        operator = hessian_of(network, images, labels)
        vector = torch.randn(operator.size)
        theirs = make(network, images, labels, vector)
        expected, found = theirs(), operator(vector)  # warms up both
        error = ((found - expected).norm() / expected.norm()).item()
        assert error < 1e-2, f"{name} and ours disagree by {error:.1e} at width {width}"
        ours = partial(operator, vector)
        ratios = [_cpu_seconds(theirs) / _cpu_seconds(ours) for _ in range(TURNS)]
        rows.append(_row(f"time of a product, {name} / ours, width {width}", ratios))
    return rows


def _cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _row(name: str, ratios: list[float]) -> Row:
    return name, statistics.median(ratios), min(ratios), max(ratios)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="a checkout of nsfzyzz/loss_landscape_taxonomy")
    peer = parser.parse_args().peer
    if peer is None or not (peer / CODE / "pyhessian").is_dir():
        where = "" if peer is None else f" at {peer}"
        print(f"No peer{where}: PyHessian is left out. Give a checkout with --peer.")
        peer = None
    for name, median, low, high in run(peer):
        print(f"{name:62} {median:10.2f}  [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
