"""A SPRO step and a plane against the code of Benton et al. (2021).

    python benchmarks/simplex.py --peer PATH

PATH is a checkout of g-benton/loss-surface-simplexes, whose modules run as they are but for three
things: the width of its VGG16, which is written into the source, is divided by 4; the points that
it draws are handed to it, so that both see the same ones; and gpytorch, which it uses for
distances alone, is replaced by the same expansion in torch. Dropout is off, as its masks would
differ. In float32 rounding grows from step to step, the faster the larger the rate, so speed is
compared at a small rate, and equality at the paper's rate in float64.
Each side has a process of its own; processor times on one thread are taken in turns and only their
ratios are reported. Memory is the growth of the resident set of another from before its first step
to its peak.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

import numpy as np
import torch
from _sides import Side
from torch import Tensor, nn

from lossatlas.data.tensors import Split
from lossatlas.metrics.spro import Spro
from lossatlas.models import build
from lossatlas.models.functional import Functional, unflatten
from lossatlas.models.layout import fast
from lossatlas.simplex import planes, sampling
from lossatlas.simplex.spirals import Binary, spirals
from lossatlas.simplex.spro import loss_and_gradient
from lossatlas.simplex.volume_term import VolumeTerm
from lossatlas.training.seeds import generator

Row = tuple[str, float, float, float]

WIDTH, BATCH, SAMPLES, VERTICES, STEPS, ROUNDS = 16, 128, 5, 4, 20, 2
RATE, MOMENTUM, DECAY, STRENGTH = 3e-4, 0.9, 5e-4, 4e-3
PAPER_RATE, FEW, EQUAL = 0.01, 8, 1e-5
POINTS, IMAGES = 21, 128


def run(peer: Path | None) -> list[Row]:
    """Return (name, median ratio, lowest, highest); nothing without a peer to compare with.

    Raises:
        AssertionError: If the two disagree by more than 1e-5.
    """
    if peer is None:
        return []
    torch.set_num_threads(1)
    planes_of = [_plane(peer, name) for name in ("two spirals", "VGG16")]
    return [_step(peer), _exact(peer), _memory(peer), *planes_of]


# --- the peer ------------------------------------------------------------------------------------
def _theirs(peer: Path) -> Any:
    """Import its SimplexNet, and its VGG16 at a quarter of the width."""
    stub = types.ModuleType("gpytorch")
    kernel = types.SimpleNamespace(covar_dist=_distances)
    stub.kernels = types.SimpleNamespace(Kernel=lambda: kernel)  # type: ignore[attr-defined]
    sys.modules["gpytorch"] = stub
    for folder in ("simplex", "simplex/models"):
        sys.path.insert(0, str(peer / folder))
    text = (peer / "simplex/models/vgg_noBN.py").read_text()
    for old, new in (("64", "16"), ("128", "32"), ("256", "64"), ("512", "128")):
        text = text.replace(old, new)
    vgg: dict[str, Any] = {}
    exec(compile(text, "vgg_noBN.py", "exec"), vgg)
    import simplex_models
    import surfaces

    return types.SimpleNamespace(models=simplex_models, surfaces=surfaces, vgg=vgg)


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Return distances by the quadratic expansion, as gpytorch does."""
    shift = first.mean(0)
    a, b = first - shift, second - shift
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return squares.clamp_min(1e-30).sqrt()


class Peer:
    """Their network, three vertices frozen and one that trains, and their step."""

    def __init__(self, peer: Path, vertices: Tensor, rate: float = RATE) -> None:
        code = _theirs(peer)
        fixed = [True] * (VERTICES - 1) + [False]
        self.net = code.models.SimplexNet(
            10, code.vgg["VGG16Simplex"], n_vert=VERTICES, fix_points=fixed
        )
        for module in self.net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for index, vertex in enumerate(vertices):
            place = 0
            for parameter in list(self.net.net.parameters())[index::VERTICES]:
                size = parameter.numel()
                parameter.data.copy_(vertex[place : place + size].view_as(parameter))
                place += size
        self.optimiser = torch.optim.SGD(
            self.net.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=DECAY
        )

    def step(self, weights: Tensor, batch: Split) -> float:
        """One step as in its utils.train_epoch_volume, without `.cuda()`; return the mean loss."""
        waiting = iter(weights.tolist())
        self.net.vertex_weights = lambda: next(waiting)
        total: Any = 0.0
        for _ in range(len(weights)):
            total = total + nn.functional.cross_entropy(self.net(batch.images), batch.labels)
        loss = total - STRENGTH * (self.net.total_volume() + 1e-4).log()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return float(total.detach()) / len(weights)


class Ours:
    """Our step in mode "paper"."""

    def __init__(self, vertices: Tensor, rate: float = RATE) -> None:
        self.rate = rate
        self.functional = Functional(_network())
        self.frozen, self.theta = vertices[:-1].clone(), vertices[-1].clone()
        self.velocity = torch.zeros_like(self.theta)
        settings = Spro(mode="paper", samples=SAMPLES)
        self.volume = VolumeTerm(self.frozen, [tuple(range(VERTICES))], STRENGTH, settings)

    def step(self, weights: Tensor, batch: Split) -> float:
        """One step as in `spro`; return the mean loss."""
        batch = Split(fast(batch.images, self.functional), batch.labels)
        loss, gradient = loss_and_gradient(
            self.functional, {}, self.frozen, self.theta, weights, batch
        )
        gradient.mul_(len(weights)).add_(self.theta, alpha=DECAY)
        self.volume.add_gradient(self.volume.heights(self.theta), gradient)
        self.velocity.mul_(MOMENTUM).add_(gradient)
        self.theta.add_(self.velocity, alpha=-self.rate)
        return float(loss)


def _network() -> nn.Module:
    """Return VGG16 without dropout."""
    network = build("vgg16", {"width": WIDTH}, num_classes=10, in_channels=3, image_size=32)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def _vertices() -> Tensor:
    """Return four networks at He's initialisation, so that 16 layers still pass a signal."""
    found = []
    for seed in range(VERTICES):
        torch.manual_seed(seed)
        network = build("vgg16", {"width": WIDTH}, num_classes=10, in_channels=3, image_size=32)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        found.append(torch.cat([p.detach().reshape(-1) for p in network.parameters()]))
    # Close enough for points between them to be networks, far enough for a volume.
    return found[0] + 0.05 * (torch.stack(found) - found[0])


def _batch(step: int, images: int = BATCH) -> Split:
    draw = generator("simplex benchmark", step)
    return Split(
        torch.randn(images, 3, 32, 32, generator=draw),
        torch.randint(0, 10, (images,), generator=draw),
    )


def _weights(step: int) -> Tensor:
    return sampling.uniform(SAMPLES, VERTICES, generator("simplex benchmark points", step))


# --- rows ----------------------------------------------------------------------------------------
def _step(peer: Path) -> Row:
    vertices = _vertices()
    data = [(_weights(step), _batch(step)) for step in range(STEPS)]
    theirs, ours = (
        Side(lambda step, one=one: one.step(*data[step]), ours=isinstance(one, Ours))
        for one in (Peer(peer, vertices), Ours(vertices))
    )
    ratios, worst = [], 0.0
    with theirs, ours:
        for step in range(STEPS):
            (slow, expected), (quick, loss) = theirs.run(step), ours.run(step)
            ratios.append(slow / quick)
            worst = max(worst, abs(loss - expected))
    assert worst < EQUAL, f"losses differ by {worst:.2e}"
    ratios = ratios[1:]
    name = f"SPRO step, VGG16 at width {WIDTH} (losses of {STEPS} steps agree to {worst:.0e})"
    return name, statistics.median(ratios), min(ratios), max(ratios)


def _exact(peer: Path) -> Row:
    """Compare the losses of the steps in float64, of few images, at the paper's rate."""
    vertices = _vertices().double()
    batches = [_batch(step, FEW) for step in range(STEPS)]
    torch.set_default_dtype(torch.float64)
    try:
        theirs, ours = Peer(peer, vertices, PAPER_RATE), Ours(vertices, PAPER_RATE)
        worst = 0.0
        for step, batch in enumerate(batches):
            given = _weights(step), Split(batch.images.double(), batch.labels)
            worst = max(worst, abs(theirs.step(*given) - ours.step(*given)))
    finally:
        torch.set_default_dtype(torch.float32)
    assert worst < EQUAL, f"losses in float64 differ by {worst:.2e}"
    ratio = EQUAL / max(worst, torch.finfo(torch.float64).eps)
    name = (
        f"agreement of {STEPS} steps in float64 at rate {PAPER_RATE} ({worst:.0e}), over {EQUAL:g}"
    )
    return name, ratio, ratio, ratio


def _memory(peer: Path) -> Row:
    ratios = []
    for _ in range(ROUNDS):
        sizes = {}
        for which in ("theirs", "ours"):
            command = [sys.executable, __file__, "--peer", str(peer), "--memory", which]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            sizes[which] = float(done.stdout.split()[-1])
        ratios.append(sizes["theirs"] / sizes["ours"])
    name = "peak memory of a SPRO step beyond the network's own"
    return name, statistics.median(ratios), min(ratios), max(ratios)


def _grown(peer: Path, which: str) -> float:
    """Return by how many MiB the peak of this process exceeds what it held before two steps."""
    torch.set_num_threads(1)
    vertices, weights, batch = _vertices(), _weights(0), _batch(0)
    one = Peer(peer, vertices) if which == "theirs" else Ours(vertices)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _resident("VmRSS")
    one.step(weights, batch)
    one.step(weights, batch)
    return _resident("VmHWM") - before


def _resident(key: str) -> float:
    """Return a line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def _plane(peer: Path, name: str) -> Row:
    """Time 21 x 21 points: the two-spirals network, as in its notebook, or the narrow VGG16."""
    code = _theirs(peer)
    network, split = _toy() if name == "two spirals" else (_narrow(), _batch(0, IMAGES))
    network.eval()
    functional = Functional(network)
    start = torch.cat([p.detach().reshape(-1) for p in network.parameters()])
    draw = generator("simplex benchmark plane", name)
    first, second = (torch.randn(len(start), 1, generator=draw) for _ in range(2))
    first, second = first / first.norm(), second / second.norm()
    reach = torch.tensor(0.2 * float(start.norm()))
    line = torch.linspace(-float(reach), float(reach), POINTS, dtype=torch.float64).numpy()
    corners = torch.stack([start, start + first[:, 0], start + second[:, 0]])
    u, v = np.meshgrid(line, line, indexing="ij")
    weights = np.stack([1 - u - v, u, v], axis=2)
    theirs = partial(code.surfaces.compute_loss_surface, network, split.images, split.labels)
    theirs = partial(theirs, first, second, nn.CrossEntropyLoss(), POINTS, reach)
    ours = partial(planes.evaluate, functional, corners, weights, {}, split)
    ratios, worst = [], 0.0
    with (
        Side(lambda: np.asarray(theirs()[2]), ours=False) as slower,
        Side(lambda: ours()[0], ours=True) as quicker,
    ):
        for _ in range(ROUNDS):
            (slow, surface), (quick, losses) = slower.run(), quicker.run()
            ratios.append(slow / quick)
            gaps = np.abs(surface - losses) / np.maximum(losses, 1.0)
            worst = max(worst, float(gaps.max()))
    assert worst < EQUAL, f"losses on the plane differ by {worst:.2e}"
    label = f"plane of {POINTS} x {POINTS}, {name} (losses agree to {worst:.0e})"
    return label, statistics.median(ratios), min(ratios), max(ratios)


def _toy() -> tuple[nn.Module, Split]:
    torch.manual_seed(0)
    return Binary(), spirals(50, generator("simplex benchmark spirals"))


def _narrow() -> nn.Module:
    network = _network()
    vertex = unflatten(_vertices()[0], dict(network.named_parameters()))
    network.load_state_dict(vertex)
    return network


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--memory", choices=("ours", "theirs"))
    options = parser.parse_args()
    if options.memory:
        print(_grown(options.peer, options.memory))
        return
    for name, middle, low, high in run(options.peer):
        print(f"{name}: {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
