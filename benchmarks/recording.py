"""What recording the path of ResNet-14 costs at batch 128: time, disk, memory.

    OMP_NUM_THREADS=1 python benchmarks/recording.py

Time: processor seconds of training steps on CIFAR-shaped images with and without a recorder, in
turns, plus the share that one Gram matrix of a full window has in each of its steps. Disk: the
training record of a run of one window of 1,000 points (steps are random: only their number
matters), against the float32 weights of all steps. Memory: the recorder's tensors, against the ring
of one window. A ratio above 1 means that the budget (25% of a step, 2% of the disk, twice the ring)
is kept.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from lossatlas import models, store
from lossatlas.data.tensors import Split
from lossatlas.spec.parts import Recipe, Recording
from lossatlas.training.engine import Engine
from lossatlas.training.recorder import Recorder, gram_of_ring

Row = tuple[str, float, float, float]

LENGTH, ROUNDS, STEPS, BATCH = 1000, 3, 6, 128
BUDGETS = {"time": 0.25, "disk": 0.02, "memory": 2.0}
FULL = Recording(length=LENGTH, stride=LENGTH, after=10)


def network() -> torch.nn.Module:
    """Return ResNet-14 for CIFAR-10."""
    shape = {"num_classes": 10, "in_channels": 3, "image_size": 32}
    return models.build("resnet_cifar", {"depth": 14}, **shape)


def run(_peer: Path | None = None) -> list[Row]:
    """Return (name, median of budget / cost, lowest, highest)."""
    torch.set_num_threads(1)
    return [_time(), *_space()]


def _time() -> Row:
    made = torch.Generator().manual_seed(0)
    images = torch.randn(STEPS * BATCH, 3, 32, 32, generator=made)
    split = Split(images, torch.randint(10, (len(images),), generator=made))

    def steps(record: Recording | None) -> float:
        recipe = Recipe(epochs=1, batch_size=BATCH, momentum=0, weight_decay=0, record=record)
        engine = Engine(network, recipe, [0], split)
        return _seconds(engine.train) / STEPS

    ring = torch.randn(LENGTH, 175258, generator=made)
    gram = _seconds(lambda: gram_of_ring(ring, 0)) / LENGTH
    short = FULL.model_copy(update={"length": STEPS + 1, "stride": STEPS + 1, "projection": 1024})
    steps(None)
    ratios = []
    for _ in range(ROUNDS):
        plain, recorded = steps(None), steps(short)
        cost = (recorded + gram) / plain - 1
        print(
            f"  a step {plain:.3f} s, recorded {recorded:.3f} s, and {gram:.4f} s of a Gram matrix"
        )
        ratios.append(BUDGETS["time"] / max(cost, 1e-3))
    name = "recording ResNet-14 at batch 128 (25% of a step / cost)"
    return name, statistics.median(ratios), min(ratios), max(ratios)


def _space() -> list[Row]:
    flat = torch.cat([p.detach().reshape(-1) for p in network().parameters()])[None]
    sizes = [p.numel() for p in network().parameters()]
    buffers = {name: b[None].clone() for name, b in network().named_buffers()}
    steps = LENGTH - 1
    recorder = Recorder(FULL, steps, 1, flat, buffers, sizes, resumes=False)
    made = torch.Generator().manual_seed(1)
    recorder.keep(0, flat, buffers)
    for _ in range(steps):
        gradient = torch.randn(flat.shape, generator=made)
        recorder.step(flat, gradient, torch.rand(1, generator=made))
        flat = flat - 1e-4 * gradient
    recorder.finish(flat)
    recipe = Recipe(epochs=1, record=FULL)
    arrays = recorder.arrays(recipe, [0.1])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.h5"
        store.write(file, store.Record("training", arrays=arrays))
        share = file.stat().st_size / (steps * flat.numel() * 4)
    held = sum(t.numel() * t.element_size() for t in [recorder.ring, *recorder.kept.values()])
    ring = recorder.ring.numel() * recorder.ring.element_size()
    print(
        f"  disk {share:.2%} of all weights; memory {held / 2**20:.0f} MiB, ring {ring / 2**20:.0f}"
    )
    disk, memory = BUDGETS["disk"] / share, BUDGETS["memory"] * ring / held
    return [
        ("disk of a recorded window (2% of all weights / ours)", disk, disk, disk),
        ("memory of the recorder (two rings / ours)", memory, memory, memory),
    ]


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    for name, middle, low, high in run():
        print(f"{name:60} {middle:8.2f}  ({low:.2f} to {high:.2f})")
